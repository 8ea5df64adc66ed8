package archive

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/avro"
)

var update = flag.Bool("update", false, "write the golden files anew: only with a new version of the format")

// Archives are kept for years: what this release writes, and can read, is what the files in testdata hold. The segment is
// not compressed, because a compressor's output may change with Go.
func TestGoldenFiles(t *testing.T) {
	ctx, b := context.Background(), NewMemory()
	if err := Claim(ctx, b, Manifest{Database: "projects/p/instances/i/databases/d", Stream: "everything", Identity: "2026-01-01T00:00:00Z"}); err != nil {
		t.Fatal(err)
	}
	changes := []change.Change{testChange(t0, 0), testChange(t0, 1), testChange(t0+1, 0)}
	schema, err := avro.SchemaOf(testTable)
	if err != nil {
		t.Fatal(err)
	}
	if err := StoreSchema(ctx, b, schema); err != nil {
		t.Fatal(err)
	}
	s, o, data, err := Encode(testChain, Link{}, schema, avro.None, changes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(ctx, o, data); err != nil {
		t.Fatal(err)
	}
	for file, name := range map[string]string{"archive-v1.json": manifestName, "schema-v1.avsc": SchemaName(schema), "segment-v1.avro": s.Name} {
		path := filepath.Join("testdata", file)
		got := b.objects[name].data
		if *update {
			if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, got, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is written otherwise than in %s", name, path)
		}
	}
	old, err := os.ReadFile(filepath.Join("testdata", "segment-v1.avro"))
	if err != nil {
		t.Fatal(err)
	}
	kept := NewMemory()
	if _, err := kept.Create(ctx, Object{Name: s.Name}, old); err != nil {
		t.Fatal(err)
	}
	segments, err := ListChain(ctx, kept, testChain)
	if err != nil || len(segments) != 1 {
		t.Fatalf("%d segments, %v", len(segments), err)
	}
	r, err := Read(ctx, kept, segments[0])
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; err == nil; n++ {
		var c change.Change
		if err = r.Next(&c); err == nil && c.ID() != changes[n].ID() {
			t.Errorf("change %d is %s", n, c.ID())
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if !errors.Is(err, io.EOF) || n != len(changes)+1 {
		t.Errorf("%d changes, %v", n-1, err)
	}
}

// FuzzMetadata reads arbitrary metadata as a segment's: an error, or a Segment whose name is the object's and whose own
// metadata are read back the same.
func FuzzMetadata(f *testing.F) {
	b := NewMemory()
	first := put(f, b, Link{}, testChange(t0, 0))
	second := put(f, b, first.Link(), testChange(t0+1, 0), testChange(t0+1, 1))
	for _, s := range []Segment{first, second} {
		m := b.objects[s.Name].Metadata
		f.Add(s.Name, m[keyFormat], m[keyPipeline], m[keyIncarnation], m[keyToken], m[keyTable], m[keyFirst], m[keyLast], m[keyCount], m[keyFingerprint], m[keyPreviousLast], m[keyPrevious], m[keySHA256])
	}
	f.Fuzz(func(t *testing.T, name, format, pipeline, incarnation, token, table, first, last, count, fingerprint, previousLast, previous, sha string) {
		m := map[string]string{
			keyFormat: format, keyPipeline: pipeline, keyIncarnation: incarnation, keyToken: token, keyTable: table, keyFirst: first, keyLast: last,
			keyCount: count, keyFingerprint: fingerprint, keyPreviousLast: previousLast, keyPrevious: previous, keySHA256: sha,
		}
		s, err := SegmentOf(context.Background(), NewMemory(), Object{Name: name, Metadata: m})
		if err != nil {
			return
		}
		header, err := s.metadata()
		if err != nil || s.Name != name || s.First.After(s.Last) || s.Count < 1 {
			t.Fatalf("%+v, %v", s, err)
		}
		again, err := SegmentOf(context.Background(), NewMemory(), Object{Name: name, Metadata: objectMetadata(header, s.SHA256)})
		if len(first)+len(last)+len(token)+len(table)+len(pipeline)+len(previousLast)+len(fingerprint) < 4<<10 && (err != nil || again != s) {
			t.Fatalf("read back as %+v, %v; was %+v", again, err, s)
		}
	})
}
