package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/avro"
)

var testTable = change.NewTable("shop.Carts", 1, []change.Column{
	{Name: "id", Type: &change.Type{Code: change.CodeInt64}, Key: true},
	{Name: "v", Type: &change.Type{Code: change.CodeString}},
})

var testChain = change.Chain{Pipeline: "p", Incarnation: 1, Token: "token/ä", Table: "shop.Carts"}

// t0 is ten seconds before an hour's border.
const t0 = change.Timestamp(1_700_002_790_000_000)

func testChange(commit change.Timestamp, mod int32) change.Change {
	return change.Change{
		Position: change.Position{Commit: commit, Transaction: "tx", Sequence: "00000000", Mod: mod}, Table: testTable, Op: change.Insert, Capture: change.NewRow,
		Key: []change.Value{change.Value(fmt.Sprintf("%q", fmt.Sprint(mod)))}, After: change.Row{nil, change.Value(`"v"`)}, Partition: testChain.Token, Records: 1, Partitions: 1,
	}
}

func put(t testing.TB, b Bucket, previous Link, changes ...change.Change) Segment {
	t.Helper()
	n, schema, err := Run(changes, avro.SchemaOf)
	if err != nil || n != len(changes) {
		t.Fatalf("Run = %d, %v", n, err)
	}
	s, o, data, err := Encode(testChain, previous, schema, avro.Deflate, changes)
	if err != nil {
		t.Fatal(err)
	}
	if o, err = b.Create(context.Background(), o, data); err != nil {
		t.Fatal(err)
	}
	s.Generation = o.Generation
	return s
}

func TestSegmentReadBack(t *testing.T) {
	ctx, b := context.Background(), NewMemory()
	changes := []change.Change{testChange(t0, 0), testChange(t0, 1), testChange(t0+1, 0)}
	first := put(t, b, Link{}, changes...)
	second := put(t, b, first.Link(), testChange(t0+2, 0))
	want := "segments/shop.Carts/date=2023-11-14/hour=22/20231114T225950.000000Z-t-12tx.1800000000.110-" + ChainDigest(testChain) + ".avro"
	if first.Name != want {
		t.Errorf("name = %s, want %s", first.Name, want)
	}
	segments, err := ListChain(ctx, b, testChain)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Segment{first, second}, segments); diff != "" {
		t.Error(diff)
	}
	r, err := Read(ctx, b, segments[0])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range changes {
		var c change.Change
		if err := r.Next(&c); err != nil {
			t.Fatal(err)
		}
		c.Table = testTable
		if c.ID() != changes[i].ID() || c.Partition != testChain.Token || string(c.After.At(1)) != `"v"` || string(c.Key[0]) != string(changes[i].Key[0]) {
			t.Errorf("change %d = %+v", i, c)
		}
	}
	var c change.Change
	if err := r.Next(&c); !errors.Is(err, io.EOF) {
		t.Errorf("after the last change: %v", err)
	}
}

// A file without its object's metadata says the same of itself.
func TestMetadataLost(t *testing.T) {
	ctx, b := context.Background(), NewMemory()
	s := put(t, b, Link{}, testChange(t0, 0))
	o := b.objects[s.Name]
	o.Metadata = nil
	b.objects[s.Name] = o
	got, err := Stat(ctx, b, s.Name)
	if err != nil || got != s {
		t.Errorf("Stat = %+v, %v, want %+v", got, err, s)
	}
}

func TestDamageIsFound(t *testing.T) {
	ctx, b := context.Background(), NewMemory()
	s := put(t, b, Link{}, testChange(t0, 0), testChange(t0, 1))
	o := b.objects[s.Name]
	data := o.data
	for i := range data {
		bad := append([]byte(nil), data...)
		bad[i] ^= 0x10
		o.data = bad
		b.objects[s.Name] = o
		r, err := Read(ctx, b, s)
		for err == nil {
			var c change.Change
			err = r.Next(&c)
		}
		if _, ok := errors.AsType[*CorruptError](err); !ok {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
}

func TestForeignObjects(t *testing.T) {
	ctx, b := context.Background(), NewMemory()
	s := put(t, b, Link{}, testChange(t0, 0))
	for name, spoil := range map[string]func(m map[string]string){
		"other token":  func(m map[string]string) { m[keyToken] = "x" },
		"format":       func(m map[string]string) { m[keyFormat] = "99" },
		"no digest":    func(m map[string]string) { delete(m, keySHA256) },
		"count":        func(m map[string]string) { m[keyCount] = "0" },
		"last":         func(m map[string]string) { m[keyLast] = "never" },
		"bad previous": func(m map[string]string) { m[keyPrevious] = "zz" },
	} {
		o := b.objects[s.Name].Object
		m := map[string]string{}
		for k, v := range o.Metadata {
			m[k] = v
		}
		spoil(m)
		o.Metadata = m
		if _, err := SegmentOf(ctx, b, o); err == nil {
			t.Errorf("%s: accepted", name)
		} else if _, ok := errors.AsType[*CorruptError](err); !ok {
			t.Errorf("%s: %v is not a CorruptError", name, err)
		}
	}
	if _, err := b.Create(ctx, Object{Name: s.Name + "x"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(ctx, Object{Name: SegmentPrefix("shop.Carts") + "junk" + chainSuffix(testChain)}, []byte("junk")); err != nil {
		t.Fatal(err)
	}
	if _, err := ListChain(ctx, b, testChain); err == nil || !strings.Contains(err.Error(), "junk") {
		t.Errorf("ListChain with junk in the chain: %v", err)
	}
}

func TestGapAndOverlap(t *testing.T) {
	a := Segment{Segment: change.Segment{Name: "a", First: change.Position{Commit: 1}, Last: change.Position{Commit: 2}, SHA256: "s1"}}
	b := Segment{Segment: change.Segment{Name: "b", First: change.Position{Commit: 3}, Last: change.Position{Commit: 4}, SHA256: "s2", Previous: "s1"}, PreviousLast: a.Last}
	c := Segment{Segment: change.Segment{Name: "c", First: change.Position{Commit: 5}, Last: change.Position{Commit: 6}, Previous: "s2"}, PreviousLast: b.Last}
	if err := CheckChain([]Segment{a, b, c}); err != nil {
		t.Error(err)
	}
	for _, broken := range [][]Segment{{b, c}, {a, c}, {a, a}, {a, b, b}} {
		if _, ok := errors.AsType[*ChainError](CheckChain(broken)); !ok {
			t.Errorf("accepted %s", broken[len(broken)-1].Name)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	schema, err := avro.SchemaOf(testTable)
	if err != nil {
		t.Fatal(err)
	}
	c := testChange(t0, 0)
	for name, test := range map[string]struct {
		chain   change.Chain
		link    Link
		changes []change.Change
	}{
		"nothing":       {testChain, Link{}, nil},
		"overlap":       {testChain, Link{c.Position, strings.Repeat("0", 64)}, []change.Change{c}},
		"half a link":   {testChain, Link{SHA256: "x"}, []change.Change{c}},
		"hour's border": {testChain, Link{}, []change.Change{c, testChange(t0+10_000_000, 0)}},
		"other table":   {change.Chain{Table: "x"}, Link{}, []change.Change{c}},
	} {
		if _, _, _, err := Encode(test.chain, test.link, schema, avro.Deflate, test.changes); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRun(t *testing.T) {
	grown := change.NewTable("shop.Carts", 2, append(append([]change.Column(nil), testTable.Columns...), change.Column{Name: "w", Type: &change.Type{Code: change.CodeBool}}))
	retyped := change.NewTable("shop.Carts", 3, []change.Column{testTable.Columns[0], {Name: "v", Type: &change.Type{Code: change.CodeBytes}}, grown.Columns[2]})
	of := func(table *change.Table, commit change.Timestamp, mod int32) change.Change {
		c := testChange(commit, mod)
		c.Table = table
		return c
	}
	for _, test := range []struct {
		name    string
		changes []change.Change
		n       int
		table   *change.Table
	}{
		{"one", []change.Change{of(testTable, t0, 0)}, 1, testTable},
		{"grown", []change.Change{of(testTable, t0, 0), of(grown, t0+1, 0), of(testTable, t0+2, 0)}, 3, grown},
		{"retyped", []change.Change{of(grown, t0, 0), of(retyped, t0+1, 0), of(retyped, t0+1, 1)}, 1, grown},
		{"retyped inside a transaction", []change.Change{of(grown, t0, 0), of(retyped, t0, 1)}, 2, retyped},
		{"retyped inside a later transaction", []change.Change{of(grown, t0, 0), of(grown, t0+1, 0), of(retyped, t0+1, 1)}, 1, grown},
		{"hour", []change.Change{of(testTable, t0, 0), of(testTable, t0+10_000_000, 0)}, 1, testTable},
	} {
		n, schema, err := Run(test.changes, avro.SchemaOf)
		if err != nil || n != test.n || schema.Table() != test.table {
			t.Errorf("%s: %d, %v", test.name, n, err)
		}
	}
	if _, _, err := Run([]change.Change{of(testTable, t0, 1), of(testTable, t0, 0)}, avro.SchemaOf); err == nil {
		t.Error("changes out of order were accepted")
	}
}

func TestClaim(t *testing.T) {
	ctx, b := context.Background(), NewMemory()
	m := Manifest{Database: "projects/p/instances/i/databases/d", Stream: "s", Identity: "1", Pipeline: "ledger"}
	if _, err := ReadManifest(ctx, b); !errors.Is(err, ErrNotFound) {
		t.Errorf("empty archive: %v", err)
	}
	for range 2 {
		if err := Claim(ctx, b, m); err != nil {
			t.Fatal(err)
		}
	}
	for _, other := range []Manifest{{Database: "other", Stream: "s"}, {Database: m.Database, Stream: "t"}, {Database: m.Database, Stream: "s", Identity: "2"},
		{Database: m.Database, Stream: "s", Identity: "1", Pipeline: "again"}} {
		if _, ok := errors.AsType[*ForeignError](Claim(ctx, b, other)); !ok {
			t.Errorf("%+v claimed another's archive", other)
		}
	}
	if err := Claim(ctx, b, Manifest{Database: m.Database, Stream: "s"}); err != nil {
		t.Errorf("without an identity: %v", err)
	}
}

func TestSchemasAndDDL(t *testing.T) {
	ctx, b := context.Background(), NewMemory()
	s, err := avro.SchemaOf(testTable)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := StoreSchema(ctx, b, s); err != nil {
			t.Fatal(err)
		}
		if err := StoreDDL(ctx, b, t0, []string{"CREATE TABLE a (x INT64) PRIMARY KEY (x)", "CREATE INDEX i ON a (x)"}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := ReadSchema(ctx, b, "shop.Carts", s.Fingerprint()); err != nil || string(got.JSON()) != string(s.JSON()) {
		t.Errorf("ReadSchema: %v", err)
	}
	if err := StoreDDL(ctx, b, t0, []string{"DROP TABLE a"}); err == nil {
		t.Error("other DDL at the same instant was accepted")
	}
	for _, c := range []struct {
		at         change.Timestamp
		statements string
		stored     bool
	}{{t0 + 1, "DROP TABLE a", true}, {t0 + 2, "DROP TABLE a", false}, {t0 + 3, "DROP TABLE b", true}, {t0 + 4, "DROP TABLE a", true}} {
		stored, err := StoreNewDDL(ctx, b, c.at, []string{c.statements})
		if err != nil || stored != c.stored {
			t.Errorf("at %s %s: stored %v, %v", c.at, c.statements, stored, err)
		}
	}
}

func TestNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		chain := change.Chain{Table: rapid.StringN(1, 20, -1).Draw(t, "table"), Token: rapid.String().Draw(t, "token")}
		position := func(label string) change.Position {
			return change.Position{Commit: t0 + change.Timestamp(rapid.IntRange(0, 2).Draw(t, label+" time")), Snapshot: rapid.Bool().Draw(t, label+" snapshot"),
				Transaction: rapid.String().Draw(t, label+" tx"), Sequence: rapid.StringN(0, 400, -1).Draw(t, label+" seq")}
		}
		p, q := position("p"), position("q")
		a, err := SegmentName(chain, p)
		if err != nil {
			t.Fatal(err)
		}
		b, err := SegmentName(chain, q)
		if err != nil {
			t.Fatal(err)
		}
		if (a == b) != (p == q) {
			t.Fatalf("%v and %v are named %s and %s", p, q, a, b)
		}
		parts := strings.Split(a, "/")
		if len(parts) != 5 || len(parts[4]) > 220 || parts[1] == "." || parts[1] == ".." {
			t.Fatalf("name %s", a)
		}
		if p.Commit != q.Commit && (a < b) != (p.Compare(q) < 0) {
			t.Fatalf("names do not sort by time: %s, %s", a, b)
		}
	})
	if a, b := ChainDigest(change.Chain{Token: "ab", Table: "c"}), ChainDigest(change.Chain{Token: "a", Table: "bc"}); a == b {
		t.Error("two chains have one digest")
	}
}

// The metadata of stored archives must stay readable for ever.
func TestGoldenMetadata(t *testing.T) {
	b := NewMemory()
	first := put(t, b, Link{}, testChange(t0, 0))
	second := put(t, b, first.Link(), testChange(t0+1, 0))
	o, err := b.Stat(context.Background(), second.Name)
	if err != nil {
		t.Fatal(err)
	}
	o.Metadata[keyPrevious], o.Metadata[keySHA256] = "digest", "digest" // those follow from the compressor's version
	got, err := json.MarshalIndent(o.Metadata, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want := `{
 "spanledger-count": "1",
 "spanledger-fingerprint": "` + second.Fingerprint + `",
 "spanledger-first": "20231114T225950.000001Z-t-12tx.1800000000.110",
 "spanledger-format": "1",
 "spanledger-incarnation": "1",
 "spanledger-last": "20231114T225950.000001Z-t-12tx.1800000000.110",
 "spanledger-pipeline": "p",
 "spanledger-previous-last": "20231114T225950.000000Z-t-12tx.1800000000.110",
 "spanledger-previous-sha256": "digest",
 "spanledger-sha256": "digest",
 "spanledger-table": "shop.Carts",
 "spanledger-token": "token/ä"
}`
	if string(got) != want {
		t.Errorf("metadata = %s", got)
	}
}

// FuzzSegment reads arbitrary bytes as a segment: an error, never a panic.
func FuzzSegment(f *testing.F) {
	b := NewMemory()
	s := put(f, b, Link{}, testChange(t0, 0))
	f.Add(b.objects[s.Name].data)
	f.Fuzz(func(t *testing.T, data []byte) {
		b := NewMemory()
		if _, err := b.Create(context.Background(), Object{Name: s.Name}, data); err != nil {
			t.Fatal(err)
		}
		got, err := Stat(context.Background(), b, s.Name)
		if err == nil && got.Name != s.Name {
			t.Errorf("Stat = %+v", got)
		}
	})
}
