package store

import (
	"errors"
	"testing"
	"time"

	api "google.golang.org/api/bigquery/v2"
	"pgregory.net/rapid"

	"github.com/spanledger/spanledger/emulator/bigquery/row"
)

var people = Ref{"p", "d", "people"}

func newStore(t interface{ Fatal(...any) }) *Store {
	s := New(func() time.Time { return time.Unix(1, 0) })
	if _, err := s.InsertDataset("p", &api.Dataset{DatasetReference: &api.DatasetReference{DatasetId: "d"}}); err != nil {
		t.Fatal(err)
	}
	insert(t, s)
	return s
}

func insert(t interface{ Fatal(...any) }, s *Store) {
	if _, err := s.InsertTable("p", "d", &api.Table{
		TableReference: &api.TableReference{TableId: "people"},
		Schema:         &api.TableSchema{Fields: []*api.TableFieldSchema{{Name: "id", Type: "INT64"}}},
	}); err != nil {
		t.Fatal(err)
	}
}

func reason(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return 0
}

// Appends to several streams at any offset, and finalizing them, hold to a model of one counter a stream.
func TestStreamsAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStore(t)
		snap, err := s.Read(people)
		if err != nil {
			t.Fatal(err)
		}
		type model struct {
			name      StreamName
			next      int64
			finalized bool
		}
		var streams []*model
		total := 0
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if len(streams) == 0 || rapid.IntRange(0, 9).Draw(t, "create") == 0 {
				i, err := s.CreateStream(people)
				if err != nil {
					t.Fatal(err)
				}
				streams = append(streams, &model{name: i.Name})
				continue
			}
			m := streams[rapid.IntRange(0, len(streams)-1).Draw(t, "stream")]
			if rapid.IntRange(0, 9).Draw(t, "finalize") == 0 {
				if n, err := s.Finalize(m.name); err != nil || n != m.next {
					t.Fatalf("finalize: %d, %v, want %d", n, err, m.next)
				}
				m.finalized = true
				continue
			}
			var offset *int64
			if rapid.Bool().Draw(t, "offset given") {
				o := max(0, m.next+rapid.Int64Range(-2, 2).Draw(t, "offset"))
				offset = &o
			}
			n := rapid.IntRange(0, 3).Draw(t, "rows")
			at, err := s.Append(m.name, snap.TableID, offset, make([]row.Row, n))
			want := Reason(0)
			switch {
			case m.finalized:
				want = StreamFinalized
			case offset != nil && *offset < m.next:
				want = OffsetExists
			case offset != nil && *offset > m.next:
				want = OffsetBeyond
			}
			if reason(err) != want || want == 0 && (err != nil || at != m.next) {
				t.Fatalf("append at %v of %+v: %d, %v, want reason %d", offset, m, at, err, want)
			}
			if want == 0 {
				m.next += int64(n)
				total += n
			}
		}
		if got, err := s.Read(people); err != nil || len(got.Rows) != total {
			t.Fatalf("%d rows, %v, want %d", len(got.Rows), err, total)
		}
	})
}

// Rows decoded for a table must not reach another one of its name.
func TestAppendToTheTableMeant(t *testing.T) {
	s := newStore(t)
	old, err := s.Read(people)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteTable(people); err != nil {
		t.Fatal(err)
	}
	insert(t, s)
	if _, err := s.Append(StreamName{people, DefaultStream}, old.TableID, nil, make([]row.Row, 1)); reason(err) != TableNotFound {
		t.Error(err)
	}
}

// A snapshot does not see what is appended later, nor does a later append see what a reader adds to its slice.
func TestSnapshotIsStable(t *testing.T) {
	s := newStore(t)
	name := StreamName{people, DefaultStream}
	first, err := s.Read(people)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(3) {
		if _, err := s.Append(name, first.TableID, nil, []row.Row{{i}}); err != nil {
			t.Fatal(err)
		}
	}
	three, err := s.Read(people)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(three.Rows, row.Row{int64(99)})
	if _, err := s.Append(name, first.TableID, nil, []row.Row{{int64(3)}}); err != nil {
		t.Fatal(err)
	}
	if four, err := s.Read(people); err != nil || len(first.Rows) != 0 || len(three.Rows) != 3 || four.Rows[3].At(0) != int64(3) {
		t.Errorf("%v, %v, %v, %v", first.Rows, three.Rows, four.Rows, err)
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		"projects/p/datasets/d/tables/t/streams/s":        "projects/p/datasets/d/tables/t/streams/s",
		"projects/p/datasets/d/tables/t/_default":         "projects/p/datasets/d/tables/t/streams/_default",
		"projects/p/datasets/d/tables/t/streams/_default": "projects/p/datasets/d/tables/t/streams/_default",
		"projects/p/datasets/d/tables/t":                  "", "": "", "/streams/s": "", "projects/p/datasets/d/tables/t/streams/": "",
		"projects//datasets/d/tables/t/streams/s": "", "projects/p/datasets/d/tables/t/streams/s/x": "",
	} {
		n, err := ParseStream(in)
		if want == "" && err == nil || want != "" && (err != nil || n.String() != want) {
			t.Errorf("%q: %v, %v, want %q", in, n, err, want)
		}
	}
}
