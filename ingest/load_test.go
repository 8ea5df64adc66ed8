package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func writeFile(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readRejects(t testing.TB, path string) []Reject {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rejects []Reject
	for line := range bytes.Lines(text) {
		var r Reject
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		rejects = append(rejects, r)
	}
	return rejects
}

func wantSummary(t testing.TB, got Summary, read, ingested, already, rejected int64) {
	t.Helper()
	if got.Read != read || got.Ingested != ingested || got.AlreadyThere != already || got.Rejected != rejected {
		t.Fatalf("got %s; rejects %+v\nwant read %d, ingested %d, already there %d, rejected %d", got, got.Examples, read, ingested, already, rejected)
	}
}

// TestLoadLarge loads one document of 20,000 rows, twice.
func TestLoadLarge(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		const rows, airports = 20_000, 199
		var doc strings.Builder
		for i := range rows {
			sep := ","
			if i == 0 {
				sep = "["
			}
			fmt.Fprintf(&doc, `%s{"date":"2001/01/01 00:47","delay":%d,"distance":1750,"origin":"A%d","destination":"LAS"}`, sep, i%70-5, i%airports)
		}
		file := writeFile(t, "flights.json", doc.String()+"]")
		opts := LoadOptions{Map: `to_entries[] | {stream: ("airport/" + .value.origin), id: ("f" + (.key|tostring)), type: "flight.departed", data: .value}`}
		got, err := Load(t.Context(), s, []string{file}, opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("first: %s", got)
		wantSummary(t, got, 1, rows, 0, 0)
		if got.Elapsed > 60*time.Second {
			t.Errorf("took %s", got.Elapsed)
		}
		first := got.LastCommit
		// Versions follow the order of the input.
		next := 7
		if err := s.Read(t.Context(), "airport/A7", 0, func(r Recorded) error {
			if want := fmt.Sprintf("f%d", next); r.ID != want || r.Version != int64(next/airports+1) || r.Source != file {
				return fmt.Errorf("got %+v, want id %s", r, want)
			}
			next += airports
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if next < rows {
			t.Errorf("the stream ends before f%d", next)
		}
		got, err = Load(t.Context(), s, []string{file}, opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("again: %s", got)
		wantSummary(t, got, 1, 0, rows, 0)
		if !got.LastCommit.Equal(first) {
			t.Errorf("the repeated load's last commit is %s, the first one's %s", got.LastCommit, first)
		}
	})
}

func TestLoadLines(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		file := writeFile(t, "in.ndjson", "\ufeff"+`{"a":1}

{"a":2,"big":123456789012345678901234567890}
{"a":3,"a":4}
not json
{"a":"\ud800"}
{"a":5,"fail":true}
{"a":12345678901234567,"z":[1.50,1e2,-0.0]}
`+"{\"a\":\"\xff\"}\n"+`{"a":9`)
		rejects := filepath.Join(t.TempDir(), "rejects.jsonl")
		got, err := Load(t.Context(), s, []string{file}, LoadOptions{
			Map:    `if .fail then error("no good") else {stream: "s", id: "\($n)", type: "t", data: ., subject: $file} end`,
			Reject: rejects, Source: "test",
		})
		if err != nil {
			t.Fatal(err)
		}
		wantSummary(t, got, 9, 2, 0, 7)
		var events []string
		if err := s.Read(t.Context(), "s", 1, func(r Recorded) error {
			events = append(events, fmt.Sprintf("%d %s %s %s", r.Version, r.ID, r.Source, r.Data))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		want := []string{`1 1 test {"a":1}`, `2 8 test {"a":12345678901234567,"z":[1.5,100.0,-0.0]}`}
		if strings.Join(events, "\n") != strings.Join(want, "\n") {
			t.Errorf("got %q\nwant %q", events, want)
		}
		wantRejects(t, readRejects(t, rejects), map[int64]string{
			3: "123456789012345678901234567890", 4: ".a (byte 7): the member occurs twice", 5: "is not the start of a value",
			6: "half of a surrogate pair", 7: "no good", 9: "not valid UTF-8", 10: "the end of the text",
		})
	})
}

func wantRejects(t *testing.T, rejects []Reject, want map[int64]string) {
	t.Helper()
	for _, r := range rejects {
		reason, ok := want[r.Record]
		if !ok || !strings.Contains(r.Reason, reason) || r.Line == 0 || r.Input == "" {
			t.Errorf("unexpected reject %+v, want reason %q", r, reason)
		}
		delete(want, r.Record)
	}
	for record, reason := range want {
		t.Errorf("record %d was not rejected for %q", record, reason)
	}
}

func TestLoadCSV(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		file := writeFile(t, "in.csv", "id,name\r\n1,a\r\n2\r\n3,\"x\ny\"\r\n4,b\"ad\r\n5,c,d\r\n\r\n6,last")
		rejects := filepath.Join(t.TempDir(), "rejects.jsonl")
		got, err := Load(t.Context(), s, []string{file}, LoadOptions{
			Map: `{id, data: {name, $n}, type: "row"}`, Stream: "csv", Reject: rejects,
		})
		if err != nil {
			t.Fatal(err)
		}
		wantSummary(t, got, 6, 3, 0, 3)
		var events []string
		if err := s.Read(t.Context(), "csv", 1, func(r Recorded) error {
			events = append(events, r.ID+string(r.Data))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		want := []string{`1{"n":1,"name":"a"}`, `3{"n":3,"name":"x\ny"}`, `6{"n":6,"name":"last"}`}
		if strings.Join(events, "\n") != strings.Join(want, "\n") {
			t.Errorf("got %q\nwant %q", events, want)
		}
		list := readRejects(t, rejects)
		wantRejects(t, list, map[int64]string{2: "the row has 1 fields, the header has 2", 4: "bare", 5: "the row has 3 fields"})
		for _, r := range list {
			if r.Record == 5 && (r.Line != 7 || r.Input != "5,c,d") {
				t.Errorf("row 5 is reported as %+v", r)
			}
		}
	})
}

// TestLoadConflict: an id that is taken rejects its event only, within a group
// and in a later load.
func TestLoadConflict(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		event := func(id string, data int) string {
			return fmt.Sprintf(`{"stream":"s","id":%q,"type":"t","data":%d}`+"\n", id, data)
		}
		file := writeFile(t, "in.jsonl", event("a", 1)+event("b", 1)+event("a", 2)+event("a", 1)+event("c", 1))
		got, err := Load(t.Context(), s, []string{file}, LoadOptions{Source: "x"})
		if err != nil {
			t.Fatal(err)
		}
		wantSummary(t, got, 5, 3, 1, 1)
		file = writeFile(t, "in.jsonl", event("b", 2)+event("d", 1))
		if got, err = Load(t.Context(), s, []string{file}, LoadOptions{Source: "x"}); err != nil {
			t.Fatal(err)
		}
		wantSummary(t, got, 2, 1, 0, 1)
		if r := got.Examples[0]; !strings.Contains(r.Reason, "version 2 of the stream has it, with another data") || string(r.Event) == "" || r.Output != 1 {
			t.Errorf("reject %+v", r)
		}
	})
}

func TestLoadRefusesBeforeWriting(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		good := writeFile(t, "good.jsonl", `{"stream":"s","id":"a","type":"t","data":1}`)
		bad := writeFile(t, "bad.jsonl", "!\n")
		for name, c := range map[string]struct {
			files []string
			opts  LoadOptions
			want  string
		}{
			"no files":      {nil, LoadOptions{}, "no files"},
			"missing file":  {[]string{good, good + "x"}, LoadOptions{}, "no such file"},
			"directory":     {[]string{filepath.Dir(good)}, LoadOptions{}, "directory"},
			"map":           {[]string{good}, LoadOptions{Map: ".a |\n foo(1)"}, "map, line 2 column 2: function not defined: foo/1"},
			"format":        {[]string{good}, LoadOptions{Format: "xml"}, `unknown format "xml"`},
			"cut off":       {[]string{writeFile(t, "cut.json", "[\n1,\n2")}, LoadOptions{}, "the file ends at byte 6, line 3"},
			"broken":        {[]string{writeFile(t, "bad.json", "[\n1,\n!2]")}, LoadOptions{}, "line 3 column 1 (byte 5)"},
			"no format":     {[]string{writeFile(t, "x.txt", "hello")}, LoadOptions{}, "--format"},
			"gzip":          {[]string{writeFile(t, "x.json.gz", "hello")}, LoadOptions{}, "decompress"},
			"empty CSV":     {[]string{writeFile(t, "x.csv", "")}, LoadOptions{}, "header"},
			"CSV twice":     {[]string{writeFile(t, "x.csv", "a,a\n")}, LoadOptions{}, `two columns are named "a"`},
			"reject input":  {[]string{good, bad}, LoadOptions{Reject: bad}, "would destroy it"},
			"reject folder": {[]string{writeFile(t, "x.jsonl", "!")}, LoadOptions{Reject: filepath.Join(good, "no")}, "cannot write rejects"},
		} {
			got, err := Load(t.Context(), s, c.files, c.opts)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got error %v, want %q", name, err, c.want)
			}
			if got.Ingested != 0 {
				t.Errorf("%s: ingested %d", name, got.Ingested)
			}
		}
		if text, err := os.ReadFile(bad); err != nil || string(text) != "!\n" {
			t.Errorf("the file that was to be read holds %q, %v", text, err)
		}
	})
}

func TestLoadArrayWithoutMap(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		file := writeFile(t, "x.json", `[1] {"stream":"s","id":"a","type":"t","data":null}`)
		got, err := Load(t.Context(), s, []string{file}, LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		wantSummary(t, got, 2, 1, 0, 1)
		if !strings.Contains(got.Examples[0].Reason, "'.[]'") {
			t.Errorf("reject %+v", got.Examples[0])
		}
	})
}

func TestLoadEndlessMap(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		file := writeFile(t, "x.json", `1`)
		for _, program := range []string{"def f: f; f", "repeat(empty)", `range(1e18) | {stream: "s", id: tostring, type: "t", data: 1}`} {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			_, err := Load(ctx, s, []string{file}, LoadOptions{Map: program})
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: got %v", program, err)
			}
		}
	})
}

func TestLoadMissingTable(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			s := New(b.open(t, nil), b.options)
			_, err := Load(t.Context(), s, []string{writeFile(t, "x.json", "1")}, LoadOptions{})
			var missing *MissingTableError
			if !errors.As(err, &missing) || !strings.Contains(err.Error(), "spanledger init") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLoadUnreachable(t *testing.T) {
	client, err := spanner.NewClientWithConfig(t.Context(), "projects/p/instances/i/databases/d",
		spanner.ClientConfig{DisableNativeMetrics: true},
		option.WithEndpoint("passthrough:///127.0.0.1:1"), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	start := time.Now()
	_, err = Load(t.Context(), New(client, Options{}), []string{writeFile(t, "x.json", "1")}, LoadOptions{CheckTimeout: 500 * time.Millisecond})
	var unreachable *UnreachableError
	if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "check the endpoint") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	t.Log(err)
}

func TestProgressLines(t *testing.T) {
	var out bytes.Buffer
	stop := showProgress(&out, false, func() Summary { return Summary{Read: 3, Ingested: 2, Rejected: 1, Elapsed: time.Second} })
	stop()
	if want := "read 3, ingested 2, already there 0, rejected 1; 2 events/s, 1s\n"; out.String() != want {
		t.Errorf("got %q, want %q", &out, want)
	}
	out.Reset()
	showProgress(&out, true, func() Summary { return Summary{} })()
	if !strings.HasPrefix(out.String(), "\r\x1b[K") || !strings.HasSuffix(out.String(), "\n") {
		t.Errorf("got %q", &out)
	}
}
