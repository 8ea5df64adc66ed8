package avro

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/rawjson"
)

// FuzzValue writes arbitrary bytes as the value of every type: nothing panics, nothing is lost. Either the raw field has the
// very bytes, or goavro reads what encoding/json reads.
func FuzzValue(f *testing.F) {
	for _, v := range values {
		f.Add([]byte(v))
	}
	for _, v := range []string{`null`, ` null `, `""`, `"\u0000"`, `[ "1" , null ]`, `[]`, `-0`, `"-0"`, `1E5`, `"0.10"`, `"2026-01-02T03:04:05.100+01:30"`, `{}`, `[[]]`, ``, `"\/w=="`, "\xff"} {
		f.Add([]byte(v))
	}
	s := mustSchema(f, allTypes())
	f.Fuzz(func(t *testing.T, v []byte) {
		c := change.Change{Position: position(0, 0), Table: s.table, Op: change.Insert, Key: []change.Value{v, v}, After: make(change.Row, len(s.table.Columns))}
		if c.Key[0] == nil {
			c.Key = []change.Value{{}, {}}
		}
		for i := range s.row {
			c.After[s.row[i].index] = c.Key[0]
		}
		b, err := s.Append(nil, &c)
		if err != nil {
			t.Fatal(err)
		}
		record := goavroRecord(t, s, b)
		raws := map[string]bool{}
		for _, r := range record["raw"].([]any) {
			r := r.(map[string]any)
			if r["json"] != string(v) {
				t.Fatalf("raw json = %q, wrote %q", r["json"], v)
			}
			raws[r["row"].(string)+"."+r["column"].(string)] = true
		}
		after := branch(record["after"]).(map[string]any)
		var d change.Change
		rest, err := s.Decode(b, &d)
		if err != nil || len(rest) != 0 {
			t.Fatal(err)
		}
		for i := range s.row {
			col := &s.row[i]
			name := s.table.Columns[col.index].Name
			got := d.After[col.index]
			if raws["after."+name] {
				if !bytes.Equal(got, v) {
					t.Errorf("%s: wrote %q, decoded %q", name, v, got)
				}
				continue
			}
			if string(rawjson.Trim(v)) != "null" {
				if err := sameValue(col.kind, col.elem, string(v), branch(after[col.name])); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			} else if after[col.name] != nil {
				t.Errorf("%s: null became %v", name, after[col.name])
			}
			if col.kind != kindText && !json.Valid(got) {
				t.Errorf("%s: decoded %q is no JSON", name, got)
			}
		}
		again, err := s.Append(nil, &d)
		if err != nil || !bytes.Equal(again, b) && string(rawjson.Trim(v)) != "null" {
			t.Errorf("%q: written again it differs: %v", v, err)
		}
	})
}

// FuzzReader reads arbitrary bytes as a container and as a record: it ends, without a panic.
func FuzzReader(f *testing.F) {
	s := mustSchema(f, allTypes())
	record, err := s.Append(nil, fullChange(s.table))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record)
	for _, codec := range []Codec{Deflate, Snappy, Zstandard, None} {
		file, err := AppendOCF(nil, s, Container{Codec: codec}, []change.Change{*fullChange(s.table)})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c change.Change
		if rest, err := s.Decode(b, &c); err == nil {
			again, err := s.Append(nil, &c)
			if err != nil {
				t.Fatalf("a decoded change cannot be written: %v", err)
			}
			var d change.Change
			if _, err := s.Decode(again, &d); err != nil || d.Position != c.Position || len(rest) > len(b) {
				t.Fatalf("a change written again cannot be read: %v", err)
			}
		}
		r, err := NewReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		for range 1000 {
			if err := r.Next(&c); err != nil {
				if errors.Is(err, io.EOF) {
					return
				}
				if again := r.Next(&c); !errors.Is(again, err) {
					t.Fatalf("after %v came %v", err, again)
				}
				return
			}
		}
	})
}
