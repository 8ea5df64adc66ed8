package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func ExampleCompileMap() {
	mapping, err := CompileMap(`{stream: "orders", id: "\($file)#\($n)", data: {total, at: (.ms / 1000 | todate)}}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	record, err := decodeText([]byte(`{"total": 12345678901234567890.00, "ms": 1517966773840}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	err = mapping.Apply(context.Background(), record, 7, "in.jsonl", func(v any) error {
		text, err := encodeJSON(v)
		fmt.Println(string(text))
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	_, err = CompileMap(".items[] |\n  {id: .id, data: nosuch(.)}")
	fmt.Println(err)
	// Output:
	// {"data":{"at":"2018-02-07T01:26:13Z","total":12345678901234567890.00},"id":"in.jsonl#7","stream":"orders"}
	// map, line 2 column 19: function not defined: nosuch/1
	//     {id: .id, data: nosuch(.)}
	//                     ^
}

func TestMapErrors(t *testing.T) {
	for program, want := range map[string]string{
		".a |":             "line 1 column 5",
		"\n .a ] b":        "line 2 column 5",
		"$x":               "line 1 column 1: variable not defined: $x",
		`import "a" as a;`: "map",
		"input":            "not allowed",
		`"abc`:             "line 1",
	} {
		_, err := CompileMap(program)
		var m *MapError
		if !errors.As(err, &m) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", program, err, want)
		}
	}
}

func TestDecodeEvent(t *testing.T) {
	base := `"stream":"s","id":"1","type":"t","data":1`
	for record, want := range map[string]string{
		`{` + base + `}`: "",
		`{` + base + `,"time":"2026-01-31T23:59:59.123456789Z"}`:  "",
		`{` + base + `,"time":null,"subject":null}`:               "",
		`{` + base + `,"time":1517966773840}`:                     "time: is a number",
		`{` + base + `,"time":"2026-01-31"}`:                      "not an RFC 3339 time",
		`{` + base + `,"time":"2026-01-31T23:59:59,5Z"}`:          "comma",
		`{` + base + `,"time":"2026-01-31T23:59:59.1234567891Z"}`: "finer than nanoseconds",
		`{` + base + `,"time":"0000-01-31T23:59:59Z"}`:            "years 1 to 9999",
		`{` + base + `,"version":3}`:                              "version: is given by the store",
		`{` + base + `,"extra":3}`:                                "extra: is no member",
		`{` + base + `,"data_bytes":"!"}`:                         "not base64",
		`{"stream":"s","id":7,"type":"t"}`:                        "tostring",
		`{"id":"7","type":"t"}`:                                   "stream: is missing",
		`{"stream":"s","type":"t"}`:                               "id: is missing",
		`{"stream":"s","id":"t"}`:                                 "type: is missing",
		`[1]`:                                                     "'.[]'",
		`null`:                                                    "the event is null",
	} {
		v, err := decodeText([]byte(record))
		if err != nil {
			t.Fatal(err)
		}
		_, e, err := decodeEvent(v, defaults{source: "file"})
		if want == "" && (err != nil || e.Source != "file") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", record, err, want)
		}
	}
}

// TestMillisRecipe: the recipe of the package comment keeps milliseconds.
func TestMillisRecipe(t *testing.T) {
	m, err := CompileMap(`def millis: (. / 1000 | floor | strftime("%Y-%m-%dT%H:%M:%S.")) + (((. % 1000 + 1000) % 1000 + 1000) | tostring | .[1:]) + "Z"; millis`)
	if err != nil {
		t.Fatal(err)
	}
	for _, ms := range []int64{0, 1, 999, 1000, -1, -1000, -1001, 1517966773840, 253402300799999} {
		if err := m.Apply(t.Context(), int(ms), 1, "", func(v any) error {
			got, err := decodeTime(v)
			if err != nil || !got.Equal(time.UnixMilli(ms)) {
				t.Errorf("%d became %v (%v)", ms, v, err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzRecords: no input of any format panics, loops, or yields a record without
// a place; what decodes to an event passes or fails its check with a reason.
func FuzzRecords(f *testing.F) {
	for _, s := range []string{"a,b\n1,2\n", "a\n\"x\ny\"\n\"", "{\"stream\":\"s\",\"id\":\"1\",\"type\":\"t\",\"data\":1}\n[", "\ufeff1 2 3", "\n\n{}\r\n", "a,a"} {
		for i := range uint8(3) {
			f.Add(i, s)
		}
	}
	formats := []Format{FormatJSON, FormatLines, FormatCSV}
	f.Fuzz(func(t *testing.T, format uint8, text string) {
		r, err := openRecords("file", strings.NewReader(text), formats[int(format)%3])
		if err != nil {
			return
		}
		var number, line int64
		for range len(text) + 2 {
			in, err := r.next()
			if err == io.EOF {
				return
			}
			if err != nil {
				if err.Error() == "" {
					t.Fatal("an error without text")
				}
				return
			}
			if in.number <= number || in.line < line || in.line < 1 || int(in.line) > strings.Count(text, "\n")+strings.Count(text, "\r")+1 {
				t.Fatalf("record %d at line %d follows %d at %d", in.number, in.line, number, line)
			}
			number, line = in.number, in.line
			if in.err != nil {
				continue
			}
			if stream, e, err := decodeEvent(in.value, defaults{source: "x"}); err == nil {
				if err := e.check(); err == nil && (!utf8.ValidString(stream) || e.ID == "" || e.Type == "") {
					t.Fatalf("accepted %q %+v", stream, e)
				}
			}
		}
		t.Fatal("more records than bytes")
	})
}
