package ingest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
)

// TestBatcherOrder: many writers, several lanes, tiny groups and little room;
// every stream has its events in the order they were added.
func TestBatcherOrder(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		b := s.NewBatcher(t.Context(), BatcherOptions{Lanes: 3, MaxEvents: 7, MaxBytes: 3000, MaxPendingBytes: 4000, MaxDelay: time.Millisecond})
		const writers, each = 5, 60
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					stream := fmt.Sprintf("%d/%d", w, i%2)
					err := b.Add(t.Context(), Batch{Stream: stream, Expected: Exactly(int64(i / 2)), Events: []Event{event(fmt.Sprint(i), "1")}},
						func(r Result, err error) {
							if err != nil || r.Versions[0] != int64(i/2+1) {
								t.Errorf("stream %s event %d: %+v, %v", stream, i, r, err)
							}
						})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		b.Close()
		b.Close()
		if err := b.Add(t.Context(), Batch{Stream: "s", Events: []Event{event("1", "1")}}, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// TestBatcherIsolation: members of one group fail alone, by our own checks and
// by Spanner's.
func TestBatcherIsolation(t *testing.T) {
	for _, backend := range backends {
		t.Run(backend.name, func(t *testing.T) {
			// A check of the database's own that only Spanner can fail.
			ddl := DDL()
			ddl[0] = strings.Replace(ddl[0], "subject STRING(2048)", "subject STRING(3)", 1)
			s := New(backend.open(t, ddl), backend.options)
			mustAppend(t, s, "old", None, event("1", "1"))

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			b := s.NewBatcher(ctx, BatcherOptions{Lanes: 1, MaxDelay: time.Second, MaxEvents: 12})
			tooLong := event("long", "1")
			tooLong.Subject = "four"
			type want struct {
				stream string
				event  Event
				fails  string
			}
			wants := []want{
				{"a", event("1", "1"), ""},
				{"old", event("1", "2"), "taken"},
				{"a", event("2", "1"), ""},
				{"a", tooLong, "subject"},
				{"a", event("3", "1"), ""},
				{"old", event("1", "1"), ""},
				{"b", event("1", "1"), ""},
				{"b", tooLong, "subject"},
				{"b", event("1", "3"), "taken"},
				{"b", event("1", "1.0"), ""},
				{"c", event("1", "1"), ""},
				{"b", event("2", "1"), ""},
			}
			results := make([]Result, len(wants))
			for i, w := range wants {
				if err := b.Add(ctx, Batch{Stream: w.stream, Expected: Any, Events: []Event{w.event}}, func(r Result, err error) {
					results[i] = r
					if w.fails == "" && err != nil || w.fails != "" && (err == nil || !IsRefusal(err) || !strings.Contains(err.Error(), w.fails)) {
						t.Errorf("%d: got %v, want %q", i, err, w.fails)
					}
				}); err != nil {
					t.Fatal(err)
				}
			}
			b.Close()
			for i, version := range map[int]int64{0: 1, 2: 2, 4: 3, 6: 1, 9: 1, 10: 1, 11: 2} {
				if results[i].Last() != version {
					t.Errorf("%d has version %d, want %d", i, results[i].Last(), version)
				}
			}
			if !results[5].Repeated || !results[9].Repeated || results[9].CommittedAt.IsZero() {
				t.Errorf("repeats are %+v and %+v", results[5], results[9])
			}
		})
	}
}

func TestBatcherAppendAndCancel(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		ctx, cancel := context.WithCancel(t.Context())
		b := s.NewBatcher(ctx, BatcherOptions{})
		defer b.Close()
		r, err := b.Append(ctx, Batch{Stream: "s", Expected: None, Events: []Event{event("1", "1")}})
		if err != nil || r.Last() != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		var v *VersionError
		if _, err := b.Append(ctx, Batch{Stream: "s", Expected: None, Events: []Event{event("2", "1")}}); !errors.As(err, &v) {
			t.Errorf("got %v", err)
		}
		var f *FieldError
		if _, err := b.Append(ctx, Batch{Stream: "s"}); !errors.As(err, &f) {
			t.Errorf("got %v", err)
		}
		cancel()
		_, err = b.Append(t.Context(), Batch{Stream: "s", Expected: Any, Events: []Event{event("3", "1")}})
		if !errors.Is(err, context.Canceled) && spanner.ErrCode(err).String() != "Canceled" {
			t.Errorf("after the end: %v", err)
		}
		if IsRefusal(err) {
			t.Errorf("%v counts as a refusal", err)
		}
	})
}

// TestBatcherTimeout: a commit that cannot happen is answered within its bound.
func TestBatcherTimeout(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		s = New(s.client, Options{MaxTransactions: 1})
		release, err := s.acquire(t.Context()) // the only slot
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		b := s.NewBatcher(t.Context(), BatcherOptions{CommitTimeout: 50 * time.Millisecond})
		defer b.Close()
		_, err = b.Append(t.Context(), Batch{Stream: "s", Expected: Any, Events: []Event{event("1", "1")}})
		if err == nil || !strings.Contains(err.Error(), "no commit within 50ms") {
			t.Errorf("got %v", err)
		}
	})
}
