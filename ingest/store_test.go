package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	"github.com/google/go-cmp/cmp"
)

func event(id string, data string) Event {
	return Event{ID: id, Source: "src", Type: "t", Data: json.RawMessage(data)}
}

func mustAppend(t testing.TB, s *Store, stream string, expected Expected, events ...Event) Result {
	t.Helper()
	r, err := s.Append(t.Context(), stream, expected, events...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAppendAndRead(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		full := Event{
			ID: "é-1", Source: "/a/b", Type: "cart.opened", Subject: "cart 1", ContentType: "application/json", Schema: "urn:x",
			Time: time.Date(2026, 1, 2, 3, 4, 5, 123_456_789, time.FixedZone("", 3600)),
			Data: json.RawMessage(`{"b":[1e2,-0.0,9007199254740993],"a":"\u0000\u00e9<"}`), Metadata: json.RawMessage(` {"k":1}`),
		}
		binary := Event{ID: "2", Type: "t", DataBytes: []byte{0, 0xff, 1}}
		empty := Event{ID: "3", Type: "t", DataBytes: []byte{}}
		null := Event{ID: "4", Type: "t", Data: json.RawMessage("null")}
		before := mustAppend(t, s, "cart/1", None, full, binary, empty, null)
		if !slices.Equal(before.Versions, []int64{1, 2, 3, 4}) || before.Repeated || before.CommittedAt.IsZero() || before.Last() != 4 {
			t.Fatalf("result %+v", before)
		}
		var got []Recorded
		collect := func(r Recorded) error { got = append(got, r); return nil }
		if err := s.Read(t.Context(), "cart/1", 0, collect); err != nil {
			t.Fatal(err)
		}
		full.Data = json.RawMessage(`{"a":"\u0000é<","b":[100.0,-0.0,9007199254740993]}`)
		full.Metadata = json.RawMessage(`{"k":1}`)
		full.Time = full.Time.UTC()
		var want []Recorded
		for i, e := range []Event{full, binary, empty, null} {
			want = append(want, Recorded{Event: e, Stream: "cart/1", Version: int64(i + 1), CommittedAt: before.CommittedAt.UTC()})
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("read back (-want +got):\n%s", diff)
		}
		got = nil
		if err := s.Read(t.Context(), "cart/1", 3, collect); err != nil || len(got) != 2 {
			t.Errorf("from version 3: %d events, %v", len(got), err)
		}
		// What was read back is the same content, whatever its spelling.
		again := mustAppend(t, s, "cart/1", None, want[0].Event, want[2].Event)
		if !again.Repeated || !slices.Equal(again.Versions, []int64{1, 3}) || !again.CommittedAt.Equal(before.CommittedAt) {
			t.Errorf("repeated: %+v", again)
		}
		if err := s.Read(t.Context(), "none", 1, func(Recorded) error { return errors.New("an event") }); err != nil {
			t.Errorf("empty stream: %v", err)
		}
		if err := s.Read(t.Context(), "cart/1", 1, func(Recorded) error { return context.Canceled }); err != context.Canceled {
			t.Errorf("fn's error became %v", err)
		}
	})
}

func TestExpected(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		wantVersion := func(expected Expected, actual int64) {
			t.Helper()
			_, err := s.Append(t.Context(), "s", expected, event("new", "1"))
			var v *VersionError
			if !errors.As(err, &v) || v.Actual != actual || v.Expected != expected || v.Stream != "s" || !IsRefusal(err) {
				t.Errorf("got %v, want a version error with %d", err, actual)
			}
		}
		wantVersion(Exactly(3), 0)
		mustAppend(t, s, "s", None, event("1", "1"))
		mustAppend(t, s, "s", Exactly(1), event("2", "1"))
		mustAppend(t, s, "s", Any, event("3", "1"))
		wantVersion(None, 3)
		wantVersion(Exactly(2), 3)
		wantVersion(Exactly(4), 3)
		wantVersion(Exactly(1_000_000), 3)
		// Ids come first: repeated appends do not care for the version.
		if r := mustAppend(t, s, "s", Exactly(1), event("2", "1.0")); !r.Repeated || r.Versions[0] != 2 {
			t.Errorf("repeated: %+v", r)
		}
		// A store that has seen nothing finds the version as well.
		s = New(s.client, Options{MaxTransactions: 1})
		wantVersion(Exactly(2), 3)
		wantVersion(Exactly(9), 3)
		if r := mustAppend(t, s, "s", Exactly(3), event("4", "1")); r.Versions[0] != 4 {
			t.Errorf("result %+v", r)
		}
		// And one that remembers a stream that has been deleted since.
		if _, err := s.client.Apply(t.Context(), []*spanner.Mutation{spanner.Delete(Table, spanner.Key{"s"}.AsPrefix())}); err != nil {
			t.Fatal(err)
		}
		wantVersion(Exactly(4), 0)
		if r := mustAppend(t, s, "s", None, event("5", "1")); r.Versions[0] != 1 {
			t.Errorf("result %+v", r)
		}
	})
}

func TestConflicts(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		first := event("1", `{"a":1,"b":[9007199254740993]}`)
		first.Time = time.Date(2026, 1, 1, 0, 0, 0, 1, time.UTC)
		mustAppend(t, s, "s", Any, first)
		for field, change := range map[string]func(*Event){
			"type":         func(e *Event) { e.Type = "u" },
			"subject":      func(e *Event) { e.Subject = "u" },
			"time":         func(e *Event) { e.Time = e.Time.Add(1) },
			"content_type": func(e *Event) { e.ContentType = "u" },
			"schema":       func(e *Event) { e.Schema = "u" },
			"data":         func(e *Event) { e.Data = json.RawMessage(`{"a":1,"b":[9007199254740992]}`) },
			"data_bytes":   func(e *Event) { e.Data, e.DataBytes = nil, []byte{} },
			"metadata":     func(e *Event) { e.Metadata = json.RawMessage("{}") },
		} {
			other := first
			change(&other)
			_, err := s.Append(t.Context(), "s", Any, other)
			var c *ConflictError
			if !errors.As(err, &c) || c.Field != field || c.Version != 1 || c.ID != "1" || c.Source != "src" || !IsRefusal(err) {
				t.Errorf("%s: got %v", field, err)
			}
		}
		// Another source or stream is another event.
		other := first
		other.Source = "other"
		if r := mustAppend(t, s, "s", Any, other); r.Versions[0] != 2 {
			t.Errorf("result %+v", r)
		}
		mustAppend(t, s, "s2", None, first)

		_, err := s.Append(t.Context(), "s", Any, first, event("new", "1"))
		var mixed *MixedError
		if !errors.As(err, &mixed) || mixed.Old != 1 || mixed.New != 1 || mixed.NewID != "new" || mixed.OldID != "1" {
			t.Errorf("got %v, want a mixed error", err)
		}
		// Within one append: the same twice is one, other content a conflict.
		r := mustAppend(t, s, "s", Exactly(2), event("x", "1"), event("y", "1"), event("x", "1.0"))
		if !slices.Equal(r.Versions, []int64{3, 4, 3}) {
			t.Errorf("result %+v", r)
		}
		_, err = s.Append(t.Context(), "s", Any, event("z", "1"), event("z", "2"))
		var c *ConflictError
		if !errors.As(err, &c) || c.Version != 0 || !strings.Contains(err.Error(), "same append") {
			t.Errorf("got %v", err)
		}
	})
}

func TestAppendAllAndTx(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		one := func(stream string, expected Expected, id string) Batch {
			return Batch{Stream: stream, Expected: expected, Events: []Event{event(id, "1")}}
		}
		results, err := s.AppendAll(t.Context(), one("a", None, "1"), one("b", None, "1"), one("a", Exactly(1), "2"))
		if err != nil || results[2].Versions[0] != 2 || !results[0].CommittedAt.Equal(results[1].CommittedAt) {
			t.Fatalf("%+v, %v", results, err)
		}
		var v *VersionError
		if _, err := s.AppendAll(t.Context(), one("a", Any, "3"), one("b", None, "3")); !errors.As(err, &v) {
			t.Fatalf("got %v", err)
		}
		if r := mustAppend(t, s, "a", Exactly(2), event("3", "1")); r.Repeated {
			t.Error("a failed AppendAll left an event")
		}
		// Inside a transaction of the caller that is given up, then one that is not.
		giveUp := errors.New("give up")
		for _, end := range []error{giveUp, nil} {
			_, err := s.client.ReadWriteTransaction(t.Context(), func(ctx context.Context, txn *spanner.ReadWriteTransaction) error {
				results, err := s.AppendTx(ctx, txn, one("c", None, "1"))
				if err != nil {
					return err
				}
				if results[0].Versions[0] != 1 || !results[0].CommittedAt.IsZero() {
					return fmt.Errorf("results %+v", results)
				}
				return end
			})
			if !errors.Is(err, end) {
				t.Fatal(err)
			}
		}
		if r := mustAppend(t, s, "c", None, event("1", "1")); !r.Repeated {
			t.Error("the transaction's event is missing")
		}
	})
}

func TestFieldChecks(t *testing.T) {
	s := New(nil, Options{}) // nothing reaches Spanner
	long := func(n int) string { return strings.Repeat("é", n) }
	for field, change := range map[string]func(*Event){
		"id is missing":                   func(e *Event) { e.ID = "" },
		"id has 129 characters":           func(e *Event) { e.ID = long(129) },
		"source has 1025":                 func(e *Event) { e.Source = long(1025) },
		"type is missing":                 func(e *Event) { e.Type = "" },
		"type has 513":                    func(e *Event) { e.Type = long(513) },
		"subject has 2049":                func(e *Event) { e.Subject = long(2049) },
		"content_type has 257":            func(e *Event) { e.ContentType = long(257) },
		"schema has 1025":                 func(e *Event) { e.Schema = long(1025) },
		"not valid UTF-8":                 func(e *Event) { e.Subject = "\xff" },
		"time 10000":                      func(e *Event) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"both set":                        func(e *Event) { e.DataBytes = []byte{} },
		"data is missing":                 func(e *Event) { e.Data = nil },
		"data_bytes has":                  func(e *Event) { e.Data, e.DataBytes = nil, make([]byte, maxDataBytes+1) },
		"data cannot be stored unchanged": func(e *Event) { e.Data = json.RawMessage("1e400") },
		"the text has":                    func(e *Event) { e.Data = make([]byte, MaxJSONBytes+1) },
		"not a JSON object":               func(e *Event) { e.Metadata = json.RawMessage(" [1]") },
		"metadata cannot":                 func(e *Event) { e.Metadata = json.RawMessage{} },
	} {
		e := event("1", "1")
		change(&e)
		_, err := s.Append(t.Context(), "s", Any, event("0", "1"), e)
		var ee *EventError
		var fe *FieldError
		if !errors.As(err, &ee) || ee.Index != 1 || !errors.As(err, &fe) || !IsRefusal(err) {
			t.Errorf("%s: got %v", field, err)
			continue
		}
		for word := range strings.FieldsSeq(field) {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q does not mention %q", err, word)
			}
		}
	}
	many := make([]Event, maxEvents+1)
	for i := range many {
		many[i] = event(fmt.Sprint(i), "1")
	}
	big := event("1", "1")
	big.Data, big.DataBytes = nil, make([]byte, maxDataBytes)
	for want, b := range map[string]Batch{
		"stream is missing":    {Stream: "", Events: []Event{event("1", "1")}},
		"stream has 513":       {Stream: long(513), Events: []Event{event("1", "1")}},
		"is version -2":        {Stream: "s", Expected: -2, Events: []Event{event("1", "1")}},
		"is empty":             {Stream: "s"},
		"append has 4706 even": {Stream: "s", Events: many},
		"bytes, one":           {Stream: "s", Events: []Event{big, big, big, big, big, big, big}},
	} {
		if _, err := s.AppendAll(t.Context(), b); err == nil || !strings.Contains(err.Error(), want) || !IsRefusal(err) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := s.AppendAll(t.Context()); err == nil {
		t.Error("an empty AppendAll passed")
	}
}

// TestLimits: what is allowed at most is what Spanner takes.
func TestLimits(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		wide := func(n int) string { return strings.Repeat("𝄞", n) } // four bytes each
		e := Event{ID: wide(128), Source: wide(1024), Type: wide(512), Subject: wide(2048), ContentType: wide(256), Schema: wide(1024),
			Time: maxTime, Data: json.RawMessage(`"` + strings.Repeat("a", MaxJSONBytes-2) + `"`), Metadata: json.RawMessage("{}")}
		if err := e.check(); err != nil {
			t.Fatal(err)
		}
		e.Data = json.RawMessage(strings.Repeat("[", MaxJSONDepth) + strings.Repeat("]", MaxJSONDepth))
		mustAppend(t, s, wide(512), None, e)
		if r := mustAppend(t, s, wide(512), None, e); !r.Repeated {
			t.Errorf("result %+v", r)
		}
	})
}

func TestReadPages(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		events := make([]Event, 2*readPage)
		for i := range events {
			events[i] = event(fmt.Sprint(i), "1")
		}
		mustAppend(t, s, "s", None, events...)
		mustAppend(t, s, "t", None, events[:1]...) // a neighbour
		next := int64(1)
		if err := s.Read(t.Context(), "s", 1, func(r Recorded) error {
			if r.Version != next || r.Stream != "s" {
				return fmt.Errorf("got %s %d, want version %d", r.Stream, r.Version, next)
			}
			next++
			if next == 10 { // the store may be used meanwhile
				_, err := s.Append(t.Context(), "s", Any, event("more", "1"))
				return err
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if next != int64(2*readPage+2) {
			t.Errorf("read up to %d", next-1)
		}
	})
}
