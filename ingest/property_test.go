package ingest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// modelStream is what a stream should hold: the data of each id, in order.
type modelStream struct {
	ids    []string
	data   map[string]string
	commit map[string]time.Time
}

// TestAppendModel runs random appends, through stores that remember and stores
// that do not, against a model in a few lines.
func TestAppendModel(t *testing.T) {
	eachBackend(t, func(t *testing.T, shared *Store) {
		run := 0
		rapid.Check(t, func(rt *rapid.T) {
			run++
			model := map[string]*modelStream{}
			s := shared
			rt.Repeat(map[string]func(*rapid.T){
				"append": func(rt *rapid.T) {
					stream := fmt.Sprintf("%d/%d", run, rapid.IntRange(0, 1).Draw(rt, "stream"))
					m := model[stream]
					if m == nil {
						m = &modelStream{data: map[string]string{}, commit: map[string]time.Time{}}
						model[stream] = m
					}
					expected := Expected(rapid.IntRange(-1, len(m.ids)+1).Draw(rt, "expected"))
					var events []Event
					for range rapid.IntRange(1, 3).Draw(rt, "events") {
						id := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(rt, "id")
						events = append(events, event(id, rapid.SampledFrom([]string{"1", "1.0", `{"x":1,"y":[]}`, `{"y":[],"x":1e0}`}).Draw(rt, "data")))
					}
					got, err := s.Append(t.Context(), stream, expected, events...)
					checkAgainst(rt, m, expected, events, got, err)
				},
				"forget": func(*rapid.T) { s = New(shared.client, Options{MaxTransactions: 1}) },
			})
			for stream, m := range model {
				var ids []string
				if err := shared.Read(t.Context(), stream, 1, func(r Recorded) error {
					ids = append(ids, r.ID)
					if r.Version != int64(len(ids)) {
						return fmt.Errorf("version %d is number %d", r.Version, len(ids))
					}
					return nil
				}); err != nil {
					rt.Fatal(err)
				}
				if !slices.Equal(ids, m.ids) {
					rt.Fatalf("stream %s holds %v, want %v", stream, ids, m.ids)
				}
			}
		})
	})
}

// value is the meaning of the test's spellings.
func value(data string) string {
	if data[0] == '{' {
		return "object"
	}
	return "one"
}

func checkAgainst(rt *rapid.T, m *modelStream, expected Expected, events []Event, got Result, err error) {
	content, old, fresh := map[string]string{}, 0, []string{}
	conflict := false
	for _, e := range events {
		v := value(string(e.Data))
		stored, isOld := m.data[e.ID]
		before, twice := content[e.ID]
		content[e.ID] = v
		switch {
		case isOld:
			old++
			conflict = conflict || stored != v
		case twice:
			conflict = conflict || before != v
		default:
			fresh = append(fresh, e.ID)
		}
	}
	var (
		c     *ConflictError
		mixed *MixedError
		v     *VersionError
	)
	switch {
	case conflict:
		if !errors.As(err, &c) || c.Field != "data" {
			rt.Fatalf("got %v, want a conflict", err)
		}
		return
	case old > 0 && len(fresh) > 0:
		if !errors.As(err, &mixed) {
			rt.Fatalf("got %v, want mixed", err)
		}
		return
	case old == 0 && expected != Any && int64(expected) != int64(len(m.ids)):
		if !errors.As(err, &v) || v.Actual != int64(len(m.ids)) {
			rt.Fatalf("got %v, want a version error with %d", err, len(m.ids))
		}
		return
	case err != nil:
		rt.Fatal(err)
	}
	for _, id := range fresh {
		m.ids = append(m.ids, id)
		m.data[id] = content[id]
		m.commit[id] = got.CommittedAt
	}
	var last time.Time
	for i, e := range events {
		if want := int64(slices.Index(m.ids, e.ID) + 1); got.Versions[i] != want {
			rt.Fatalf("event %q has version %d, want %d", e.ID, got.Versions[i], want)
		}
		if at := m.commit[e.ID]; at.After(last) {
			last = at
		}
	}
	if got.Repeated != (old > 0) || !got.CommittedAt.Equal(last) {
		rt.Fatalf("got %+v, want repeated %t, commit %s", got, old > 0, last)
	}
}
