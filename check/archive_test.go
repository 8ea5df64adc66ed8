package check

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spanledger/spanledger/change"
)

func TestArchiveSound(t *testing.T) {
	changes := worldChanges()
	m, names := archiveOf(t, changes)
	truth := truthOf(t, changes, worldPartitions())
	sink, err := Archive(t.Context(), truth, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Err(); err != nil {
		t.Error(err)
	}
	if sink.Delivered != 12 || sink.Watermark != worldEnd || len(sink.Examples) != 0 || len(names["a"]) != 2 {
		t.Errorf("%+v", sink)
	}
	// The same as plain files.
	dir := t.TempDir()
	for name, o := range m {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, o.data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if sink, err = Archive(t.Context(), truth, Directory(dir)); err != nil || sink.Err() != nil || sink.Delivered != 12 {
		t.Errorf("as files: %v, %v", err, sink.Err())
	}
}

// TestArchiveFaults spoils a sound archive in every way that matters and wants each to be named.
func TestArchiveFaults(t *testing.T) {
	all := worldChanges()
	of := func(token string) (chain []change.Change) {
		for _, c := range all {
			if c.Partition == token {
				chain = append(chain, c)
			}
		}
		return chain
	}
	a, b := of("a"), of("b")
	type spoil func(t *testing.T, m memory, names map[string][]string)
	// rewrite makes chain a anew, of these runs.
	rewrite := func(runs ...[]change.Change) spoil {
		return func(t *testing.T, m memory, names map[string][]string) {
			for _, name := range names["a"] {
				delete(m, name)
			}
			var end link
			for _, run := range runs {
				_, end = m.put(t, "a", end, run...)
			}
		}
	}
	changed := func(f func(c *change.Change)) spoil {
		run := slices.Clone(a)
		run[0].After = slices.Clone(run[0].After)
		f(&run[0])
		return rewrite(run)
	}
	meta := func(key, value string) spoil {
		return func(_ *testing.T, m memory, names map[string][]string) { m[names["a"][0]].metadata[key] = value }
	}
	extra := a[3]
	extra.Position.Commit++
	tests := map[string]struct {
		spoil spoil
		kind  Kind
		count int64
		want  string
	}{
		"missing change":     {rewrite(a[:3]), Missing, 1, "was committed and is not there"},
		"missing object":     {func(_ *testing.T, m memory, n map[string][]string) { delete(m, n["b"][1]) }, Missing, 2, "was committed and is not there"},
		"duplicate":          {func(t *testing.T, m memory, _ map[string][]string) { m.put(t, "c", link{}, a[1]) }, Duplicate, 1, "copy 2"},
		"wrong chain":        {func(t *testing.T, m memory, _ map[string][]string) { m.put(t, "z", link{}, a[1]) }, Fault, 1, "it is of partition z and holds the change"},
		"swapped":            {rewrite([]change.Change{a[0], a[2], a[1], a[3]}), OrderViolation, 1, "it follows"},
		"unexpected":         {rewrite(a, []change.Change{extra}), Unexpected, 1, "the stream has no such change"},
		"value":              {changed(func(c *change.Change) { c.After[2] = value(`"77"`) }), Mismatched, 1, `after column amount (INT64) is "77": the stream has "0"`},
		"NULL":               {changed(func(c *change.Change) { c.After[2] = value("null") }), Mismatched, 1, `after column amount (INT64) is null`},
		"NULL not captured":  {changed(func(c *change.Change) { c.After[8] = nil }), Mismatched, 1, "after lacks column ratio: the stream captured null"},
		"captured, not NULL": {changed(func(c *change.Change) { c.Before = change.Row{nil, nil, value("null")} }), Mismatched, 1, "before has column amount = null: the stream did not capture it"},
		"raw value":          {changed(func(c *change.Change) { c.After[4] = value(`"2026-01-02T03:04:05.123456788Z"`) }), Mismatched, 1, "after column at (TIMESTAMP)"},
		"array":              {changed(func(c *change.Change) { c.After[11] = value(`["x"]`) }), Mismatched, 1, "after column tags"},
		"key":                {changed(func(c *change.Change) { c.Key = []change.Value{value(`"south"`), c.Key[1]} }), Mismatched, 1, `key is ["south","0"]`},
		"operation":          {changed(func(c *change.Change) { c.Op = change.Update }), Mismatched, 1, "operation is UPDATE"},
		"tag":                {changed(func(c *change.Change) { c.Tag = "" }), Mismatched, 1, "transaction tag"},
		"capture":            {changed(func(c *change.Change) { c.Capture = change.NewRow }), Mismatched, 1, "capture type"},
		"gap in a chain":     {func(_ *testing.T, m memory, n map[string][]string) { delete(m, n["a"][0]) }, Fault, 1, "the one before it in its chain is \"\""},
		"no link":            {func(t *testing.T, m memory, _ map[string][]string) { m.put(t, "a", link{}, a[2:]...) }, Fault, 1, `it follows a segment with the digest ""`},
		"foreign link": {func(t *testing.T, m memory, _ map[string][]string) {
			m.put(t, "a", link{a[1].Position, strings.Repeat("0", 64)}, a[2:]...)
		}, Fault, 1, "it follows a segment with the digest"},
		"overlap":           {rewrite(a[:3], a[2:]), Fault, 1, "overlaps"},
		"tampered metadata": {meta("spanledger-token", "b"), Fault, 1, `its metadata say token is "b", its header "a"`},
		"tampered digest":   {meta("spanledger-sha256", strings.Repeat("0", 64)), Fault, 1, "its metadata say its SHA-256"},
		"no digest": {func(_ *testing.T, m memory, n map[string][]string) {
			delete(m[n["a"][0]].metadata, "spanledger-sha256")
		}, Fault, 1, "its metadata say its SHA-256"},
		"renamed":                {rename("a", "date=", "date=1"), Fault, 1, "by its header its name is"},
		"renamed to other chain": {rename("a", ".avro", "0.avro"), Fault, 1, "by its header its name is"},
		"no manifest":            {func(_ *testing.T, m memory, _ map[string][]string) { delete(m, "archive.json") }, Fault, 1, "the archive has no manifest"},
		"foreign database": {func(_ *testing.T, m memory, _ map[string][]string) {
			m["archive.json"].data = bytes.ReplaceAll(m["archive.json"].data, []byte("databases/d"), []byte("databases/e"))
		}, Fault, 1, "it is the archive of stream everything of projects/p/instances/i/databases/e"},
		"future format": {func(_ *testing.T, m memory, _ map[string][]string) {
			m["archive.json"].data = bytes.ReplaceAll(m["archive.json"].data, []byte(`"format":1`), []byte(`"format":2`))
		}, Fault, 1, "format version is 2"},
		"no schema": {func(_ *testing.T, m memory, _ map[string][]string) {
			maps.DeleteFunc(m, func(name string, _ *stored) bool { return strings.HasPrefix(name, "schemas/") })
		}, Fault, 6, "its schema is not stored as"},
		"foreign object": {func(_ *testing.T, m memory, _ map[string][]string) { m["notes.txt"] = &stored{} }, Fault, 1, "an archive has no such object"},
		"foreign table": {func(t *testing.T, m memory, _ map[string][]string) {
			m["segments/x/y.avro"] = &stored{data: []byte("Obj")}
		}, Fault, 1, "it is not an Avro container"},
		"appended": {func(_ *testing.T, m memory, n map[string][]string) {
			o := m[n["b"][1]]
			o.data = append(slices.Clone(o.data), 0)
		}, Fault, 1, ""},
		"children missing": {func(t *testing.T, m memory, n map[string][]string) {
			for _, name := range n["b"] {
				delete(m, name)
			}
		}, Missing, int64(len(b)), "was committed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m, names := archiveOf(t, all)
			test.spoil(t, m, names)
			sink, err := Archive(t.Context(), truthOf(t, all, worldPartitions()), m)
			if err != nil {
				t.Fatal(err)
			}
			wantFinding(t, sink, test.kind, test.count, test.want)
		})
	}
}

func rename(token, from, to string) func(*testing.T, memory, map[string][]string) {
	return func(_ *testing.T, m memory, names map[string][]string) {
		name := names[token][0]
		m[strings.Replace(name, from, to, 1)] = m[name]
		delete(m, name)
	}
}

// wantFinding wants at least count findings of a kind, one of which says why, and the sink to be in error.
func wantFinding(t *testing.T, sink *Sink, kind Kind, count int64, why string) {
	t.Helper()
	counts := map[Kind]int64{Missing: sink.Missing, Duplicate: sink.Duplicates, OrderViolation: sink.OrderViolations, GraphBreak: sink.GraphBreaks,
		Unexpected: sink.Unexpected, Mismatched: sink.Mismatched, Fault: sink.Faults}
	if counts[kind] < count || kind != Fault && counts[kind] != count {
		t.Errorf("%d %s, want %d: %v", counts[kind], kind, count, sink.Err())
	}
	if !slices.ContainsFunc(sink.Examples, func(e Example) bool { return e.Kind == kind && strings.Contains(e.Detail, why) }) {
		t.Errorf("no %s says %q: %v", kind, why, sink.Err())
	}
	if kind != GraphBreak && (kind != Duplicate || sink.Strict) && sink.Err() == nil {
		t.Errorf("%s is no error: %+v", kind, sink)
	}
}

// TestArchiveTampered flips bits all over a segment, one at a time: the digest sees each.
func TestArchiveTampered(t *testing.T) {
	all := worldChanges()
	m, names := archiveOf(t, all)
	truth := truthOf(t, all, worldPartitions())
	name := names["a"][0]
	sound := m[name].data
	for i := 0; i < len(sound); i += 23 {
		m[name].data = slices.Clone(sound)
		m[name].data[i] ^= 1 << (i % 8)
		sink, err := Archive(t.Context(), truth, m)
		if err != nil {
			t.Fatal(err)
		}
		if sink.Faults == 0 || sink.Err() == nil {
			t.Fatalf("byte %d: %+v", i, sink)
		}
	}
	// Without metadata the digest is that in the next segment's link.
	for _, o := range m {
		o.metadata = nil
	}
	m[name].data = slices.Clone(sound)
	m[name].data[len(sound)-40] ^= 4
	sink, err := Archive(t.Context(), truth, m)
	if err != nil {
		t.Fatal(err)
	}
	if sink.Faults == 0 {
		t.Error(fmt.Sprint("tampered file: ", sink))
	}
}
