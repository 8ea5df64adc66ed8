package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/memsink"
	"github.com/spanledger/spanledger/state"
)

// tapeEngine runs source into dest until ctx ends; before is called before each write, nil for nothing.
func tapeEngine(t *testing.T, store state.Store, source *tape, dest *memsink.Destination, before func(context.Context, *sinks.Batch) error) *Engine {
	t.Helper()
	e, err := New(Options{
		Config: testConfig, Store: store, Logger: slog.New(slog.DiscardHandler),
		Source: func(context.Context, state.Snapshot) (Source, error) { return source, nil },
		Sinks:  []NamedSink{{"mem", memsink.NewWriter(memsink.Options{Destination: dest, Spec: sinks.Spec{MaxChanges: 1}, Before: before})}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The watermark is the slower promise: a partition that has promised nothing holds it just before its start, and an idle one
// moves it by heartbeats (R 52).
func TestWatermarkFollowsTheSlowerPromise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := testConfig.Start
		source := &tape{
			first: []change.Partition{{Token: "busy", Start: start}, {Token: "idle", Start: start}},
			frames: map[string][]*change.Frame{
				"busy": {{Changes: []change.Change{tapeChange(0, start+10)}, Through: start + 100}},
				"idle": {{Through: start + 20}, {Through: start + 40}},
			},
		}
		next := make(chan struct{})
		source.before = func(ctx context.Context, token string, _ int) {
			if token == "idle" {
				select {
				case <-next:
				case <-ctx.Done():
				}
			}
		}
		dest := memsink.NewDestination()
		e := tapeEngine(t, state.NewMemory(), source, dest, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		for _, want := range []change.Timestamp{start - 1, start + 20, start + 40} {
			time.Sleep(time.Minute)
			if got := e.Status().Watermark; got != want || dest.Distinct() != 1 {
				t.Errorf("the watermark is %s, want %s; %d changes came", got, want, dest.Distinct())
			}
			if want < start+40 {
				next <- struct{}{}
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// Two transactions share a timestamp, and a crash comes between them: after the restart the other one is delivered, because
// no checkpoint stands at a timestamp of which something is missing (R 51).
func TestRestartBetweenTwoTransactionsAtOneTimestamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := testConfig.Start + 10
		first, second := tapeChange(0, at), tapeChange(0, at)
		second.Position.Transaction = "2"
		source := &tape{
			first:  []change.Partition{{Token: "p", Start: testConfig.Start}},
			frames: map[string][]*change.Frame{"p": {{Through: at - 1}, {Changes: []change.Change{first, second}, Through: at}, {Through: at + 10}}},
		}
		store, dest := state.NewMemory(), memsink.NewDestination()
		e := tapeEngine(t, store, source, dest, func(_ context.Context, b *sinks.Batch) error {
			if b.Changes[0].Position.Transaction == "2" {
				return errors.New("not now")
			}
			return nil
		})
		done := make(chan error, 1)
		go func() { done <- e.Run(t.Context()) }()
		time.Sleep(time.Minute)
		e.Kill()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		snap, err := store.Load(t.Context(), "test")
		if err != nil {
			t.Fatal(err)
		}
		if len(snap.Progress) != 1 || snap.Progress[0].Through != at-1 || dest.Distinct() != 1 {
			t.Fatalf("%d changes came, the checkpoints are %+v", dest.Distinct(), snap.Progress)
		}
		e = tapeEngine(t, store, source, dest, nil)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- e.Run(ctx) }()
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if dest.Distinct() != 2 {
			t.Fatalf("%d of 2 changes came", dest.Distinct())
		}
	})
}
