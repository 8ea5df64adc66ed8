package spanner_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	cloudspanner "cloud.google.com/go/spanner"
	"cloud.google.com/go/spanner/apiv1/spannerpb"

	"github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/changes"
)

// TestChurnRun reads two streams of one table, one of each partition mode, while eight writers write and the partitions of
// both split, merge and move every 50 ms. A reader that knows nothing but the wire must get each row once, and the versions
// of each key in order. CHURN_RUN=60s makes it longer than the usual two seconds.
func TestChurnRun(t *testing.T) {
	run := 2 * time.Second
	if text := os.Getenv("CHURN_RUN"); text != "" {
		var err error
		if run, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	w := start(t, spanner.Options{
		Partitions: 3, MaxConcurrentStreams: 2000,
		Churn: changes.Churn{Interval: 50 * time.Millisecond / 3, Ways: 3, MaxPartitions: 12, Seed: 5},
	}, tableT, "CREATE CHANGE STREAM fixed FOR ALL", "CREATE CHANGE STREAM moving FOR ALL OPTIONS (partition_mode = 'MUTABLE_KEY_RANGE')")
	ctx, cancel := context.WithTimeout(context.Background(), run+time.Minute)
	defer cancel()
	from := w.now()
	fixed, moving := newFollower(w, "fixed"), newFollower(w, "moving")
	var readers sync.WaitGroup
	for f, read := range map[*follower]func(context.Context, string, time.Time) error{fixed: fixed.immutable, moving: moving.mutable} {
		f.read = read
		err := f.wire.each(ctx, call{stream: f.stream, from: from, end: from}, func(r rec) error {
			for _, token := range r.tokens {
				f.begin(ctx, token, r.at, nil)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		readers.Go(f.wait)
	}

	const writers, keys = 8, 40
	var written [writers][keys]int
	var last [writers]time.Time
	var writing sync.WaitGroup
	stop := time.Now().Add(run)
	for i := range writers {
		writing.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for time.Now().Before(stop) {
				// A transaction of one to three rows, somewhere in the writer's keys.
				var ms []*cloudspanner.Mutation
				for _, k := range rng.Perm(keys)[:1+rng.IntN(3)] {
					written[i][k]++
					ms = append(ms, cloudspanner.InsertOrUpdate("T", []string{"k", "b"}, []any{key(i, k), written[i][k]}))
				}
				at, err := w.client.Apply(ctx, ms)
				if err != nil {
					t.Error(err)
					return
				}
				last[i] = at
			}
		})
	}
	writing.Wait()
	end := from
	for _, at := range last {
		if at.After(end) {
			end = at
		}
	}
	fixed.stopAt(end)
	moving.stopAt(end)
	readers.Wait()

	for _, f := range []*follower{fixed, moving} {
		if f.err != nil {
			t.Errorf("%s: %v", f.stream, f.err)
		}
		rows, wrong := 0, 0
		for i := range writers {
			for k := range keys {
				got := f.versions[fmt.Sprint(key(i, k))]
				if got != written[i][k] && wrong < 3 {
					wrong++
					t.Errorf("%s: key %d came up to version %d, and %d was written", f.stream, key(i, k), got, written[i][k])
				}
				rows += written[i][k]
			}
		}
		if f.rows != rows {
			t.Errorf("%s: %d rows came of %d", f.stream, f.rows, rows)
		}
		t.Logf("%s: %d rows, each once and those of a key in order: %d records in %d partitions; %d splits, %d merges, %d moves", f.stream, f.rows, f.records, len(f.tokens), f.splits, f.merges, f.moves)
		// One of each every 50 ms is the plan; a busy machine misses turns.
		if least := int(run / (500 * time.Millisecond)); f.splits < least || f.merges < least || f.moves < least {
			t.Errorf("%s: too little churn: want %d of each", f.stream, least)
		}
	}
}

// key spreads the keys of the writers over each other.
func key(writer, k int) int { return k*64 + writer }

// follower reads all partitions of one stream, in the order that keeps each key's changes in order.
type follower struct {
	*wire
	stream string
	read   func(ctx context.Context, token string, from time.Time) error

	mu      sync.Mutex
	changed *sync.Cond
	running int
	tokens  map[string]bool
	through map[string]time.Time // by token: everything up to here was handled
	ended   map[string]bool
	end     time.Time // stop behind it; zero while the writers write
	err     error

	versions              map[string]int // by key
	rows, records         int
	splits, merges, moves int
}

func newFollower(w *world, stream string) *follower {
	f := &follower{wire: w.wire(), stream: stream, tokens: map[string]bool{}, through: map[string]time.Time{}, ended: map[string]bool{}, versions: map[string]int{}}
	f.changed = sync.NewCond(&f.mu)
	return f
}

// begin reads a partition once all its parents have ended; once for each token, however often it is announced. It reports
// whether this was the first time.
func (f *follower) begin(ctx context.Context, token string, from time.Time, parents []string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tokens[token] {
		return false
	}
	f.tokens[token] = true
	f.through[token] = from.Add(-time.Microsecond)
	f.running++
	go func() {
		f.mu.Lock()
		for _, p := range parents {
			for !f.ended[p] && f.err == nil {
				f.changed.Wait()
			}
		}
		err := f.err
		f.mu.Unlock()
		if err == nil {
			err = f.read(ctx, token, from)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if err != nil && f.err == nil {
			f.err = err
		}
		f.ended[token] = true
		f.running--
		f.changed.Broadcast()
	}()
	return true
}

func (f *follower) wait() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.running > 0 {
		f.changed.Wait()
	}
}

func (f *follower) stopAt(end time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end = end
}

// past reports whether nothing at or after at is wanted.
func (f *follower) past(at time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.end.IsZero() && at.After(f.end)
}

func (f *follower) reached(token string, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.through[token] = at
	f.changed.Broadcast()
}

// version checks one row.
func (f *follower) version(key string, v int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if have := f.versions[key]; v != have+1 {
		return fmt.Errorf("key %s: version %d came after %d", key, v, have)
	}
	f.versions[key] = v
	f.rows++
	return nil
}

var errPast = errors.New("behind the end")

func (f *follower) immutable(ctx context.Context, token string, from time.Time) error {
	children, parents, merged := 0, 0, false
	err := f.each(ctx, call{stream: f.stream, from: from, token: token, heartbeat: 100}, func(r rec) error {
		if f.past(r.at) {
			return errPast
		}
		switch r.kind {
		case "children":
			for i, child := range r.tokens {
				children++
				parents = len(r.parents[i])
				merged = f.begin(ctx, child, r.at, r.parents[i]) && parents > 1
			}
		case "data":
			f.mu.Lock()
			f.records++
			f.mu.Unlock()
			for _, m := range r.data.Mods {
				var b struct {
					B json.Number `json:"b"`
				}
				if err := json.Unmarshal([]byte(m.New.String()), &b); err != nil {
					return err
				}
				v, err := b.B.Int64()
				if err != nil {
					return err
				}
				if err := f.version(m.Keys.Value.(map[string]any)["k"].(string), int(v)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if errors.Is(err, errPast) {
		return nil
	}
	if err == nil && children == 0 {
		return fmt.Errorf("partition %s ended without children", token)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case children > 1:
		f.splits++
	case merged: // as its first parent says; the others repeat it
		f.merges++
	case parents == 1:
		f.moves++
	}
	return err
}

func (f *follower) mutable(ctx context.Context, token string, from time.Time) error {
	const window = 300 * time.Millisecond
	began := from
	for {
		end := from.Add(window)
		over := false
		starts := 0
		err := f.each(ctx, call{stream: f.stream, from: from, end: end, token: token, heartbeat: 100}, func(r rec) error {
			if f.past(r.at) {
				return errPast
			}
			if over {
				return fmt.Errorf("a %s after the end of partition %s", r.kind, token)
			}
			switch r.kind {
			case "data":
				f.reached(token, r.at.Add(-time.Microsecond))
				return f.change(r.proto.GetDataChangeRecord())
			case "heartbeat":
				f.reached(token, r.at)
			case "start":
				starts += len(r.tokens)
				for _, t := range r.tokens {
					f.begin(ctx, t, r.at, nil)
				}
			case "event":
				f.reached(token, r.at) // before the wait: exchanges at one time must not wait for each other
				f.event(len(r.in), starts, r.at.Equal(began))
				return f.hold(ctx, r.in, r.at)
			case "end":
				over = true
			}
			return nil
		})
		if errors.Is(err, errPast) || err != nil || over {
			if errors.Is(err, errPast) {
				err = nil
			}
			return err
		}
		f.reached(token, end)
		from = end.Add(time.Microsecond)
	}
}

func (f *follower) change(d *spannerpb.ChangeStreamRecord_DataChangeRecord) error {
	f.mu.Lock()
	f.records++
	f.mu.Unlock()
	for _, m := range d.Mods {
		for _, v := range m.NewValues {
			if d.ColumnMetadata[v.ColumnMetadataIndex].Name != "b" {
				continue
			}
			var n int
			if _, err := fmt.Sscan(v.Value.GetStringValue(), &n); err != nil {
				return err
			}
			if err := f.version(m.Keys[0].Value.GetStringValue(), n); err != nil {
				return err
			}
		}
	}
	return nil
}

// hold waits until every source of a move has been handled through at. A source may be one that nobody has announced yet:
// the branch it comes from may be read later than this one.
func (f *follower) hold(ctx context.Context, sources []string, at time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range sources {
		for !f.ended[s] && f.through[s].Before(at) {
			if f.err != nil {
				return f.err
			}
			if ctx.Err() != nil {
				return fmt.Errorf("waiting for partition %s, which is at %v, to reach %v: %w", s, f.through[s], at, ctx.Err())
			}
			f.changed.Wait()
		}
	}
	return nil
}

// event counts what one partition's event says. A partition's first says where its keys come from: more than one source is
// a merge. Later ones from one source are moves.
func (f *follower) event(in, starts int, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case starts > 1:
		f.splits++
	case in > 1 && first:
		f.merges++
	case in == 1 && !first:
		f.moves++
	}
}
