package changestream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/spanledger/spanledger/change"
)

// script is a source that plays one stream after another.
type script struct {
	mu      sync.Mutex
	streams []*scripted
	starts  []string // of the queries asked
	ends    []string // likewise
	// from answers a query by its start, in place of streams.
	from func(start string) *scripted
	// opened is called with the number of queries before this one; nil for nothing.
	opened func(n int)
}

// scripted is one query's stream.
type scripted struct {
	items   chan item
	closed  chan struct{}
	ctx     context.Context
	silence time.Duration
}

type item struct {
	b   []byte
	err error
}

// play is a stream that sends messages ([]byte), pauses (time.Duration) and ends with an error.
func play(steps ...any) *scripted {
	s := &scripted{items: make(chan item), closed: make(chan struct{})}
	send := func(i item) bool {
		select {
		case s.items <- i:
			return true
		case <-s.closed:
			return false
		}
	}
	go func() {
		for _, step := range steps {
			ok := true
			switch v := step.(type) {
			case []byte:
				ok = send(item{b: v})
			case time.Duration:
				time.Sleep(v)
			case error:
				ok = send(item{err: v})
			}
			if !ok {
				return
			}
		}
	}()
	return s
}

func (s *script) open(ctx context.Context, req *sppb.ExecuteSqlRequest) (messages, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	start := req.Params.Fields["start"].GetStringValue()
	if s.opened != nil {
		s.opened(len(s.starts))
	}
	s.starts = append(s.starts, start)
	s.ends = append(s.ends, req.Params.Fields["end"].GetStringValue())
	if s.from != nil {
		s.streams = []*scripted{s.from(start)}
	}
	if len(s.streams) == 0 {
		return nil, status.Error(codes.PermissionDenied, "the script is over")
	}
	next := s.streams[0]
	s.streams = s.streams[1:]
	next.ctx = ctx
	return next, nil
}

func (s *scripted) recv() ([]byte, error) {
	select {
	case i := <-s.items:
		return i.b, i.err
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

func (s *scripted) close(silence time.Duration) {
	s.silence = silence
	close(s.closed)
}

func scriptedReader(t *testing.T, s *script, o Options) *Reader {
	t.Helper()
	o.Database, o.Stream = testDatabase, "S"
	o.Logger = slog.New(slog.DiscardHandler)
	o, err := o.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return &Reader{opts: o, source: s, unions: newUnions(nil, o.Logger), stream: "S", clock: clock{ask: func(context.Context) (change.Timestamp, error) {
		return change.TimestampOf(time.Now()), nil
	}}}
}

// log is a frame in short: its changes' transactions, its promise, and its children.
func logFrame(f *change.Frame) string {
	var b strings.Builder
	for _, c := range f.Changes {
		fmt.Fprintf(&b, "%s@%d ", c.Position.Transaction, c.Position.Commit)
	}
	fmt.Fprintf(&b, "<=%d", f.Through)
	for _, c := range f.Children {
		fmt.Fprintf(&b, " +%s", c.Token)
	}
	if f.MovedOut {
		b.WriteString(" out")
	}
	for _, s := range f.Sources {
		fmt.Fprintf(&b, " <-%s", s)
	}
	if f.Ended {
		b.WriteString(" end")
	}
	return b.String()
}

// readScript reads partition p, which starts at 1, after 0.
func readScript(t *testing.T, r *Reader) ([]string, error) {
	t.Helper()
	var out []string
	err := r.Read(t.Context(), part("p", 1), 0, func(f *change.Frame) error {
		out = append(out, logFrame(f))
		return nil
	})
	return out, err
}

func wantFrames(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("frames:\n got %q\nwant %q", got, want)
	}
}

func micro(t change.Timestamp) string { return t.String() }

var childC = part("c", 100, "p")

func TestReadHoldsUntilProven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{streams: []*scripted{play(
			message(cart(10, "2", "a").row()), time.Millisecond,
			message(cart(10, "1", "b").row()), time.Millisecond, // the same timestamp in another order
			message(cart(20, "3", "a").row()), time.Millisecond, // proves 19
			message(heartbeatRow("1970-01-01T00:00:00.0000305Z")), time.Millisecond, // floored, proves 30
			message(heartbeatRow("1970-01-01T00:00:00.000035Z")), time.Millisecond, // proves 34
			message(cart(99, "4", "a").row()), time.Millisecond,
			message(childRow(100, childC)), time.Millisecond,
			message(childRow(100, childC, part("d", 100, "p"))), time.Millisecond,
			io.EOF,
		)}}
		got, err := readScript(t, scriptedReader(t, s, Options{}))
		if err != nil {
			t.Fatal(err)
		}
		wantFrames(t, got, "<=9", "1@10 2@10 <=19", "3@20 <=30", "<=34", "<=98", "4@99 <=99", "<=99 +c +d end")
	})
}

func TestReadGroupsWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{streams: []*scripted{play(
			message(cart(10, "1", "a").row(), cart(20, "2", "a").row(), cart(30, "3", "a").row(), childRow(100, childC)), io.EOF,
		)}}
		got, err := readScript(t, scriptedReader(t, s, Options{}))
		if err != nil {
			t.Fatal(err)
		}
		if joined := strings.Join(got, "|"); joined != "1@10 2@20 3@30 <=99 +c end" && joined != "1@10 2@20 3@30 <=99|<=99 +c end" {
			t.Fatalf("frames: %q", got)
		}
	})
}

func TestReadFramesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var steps []any
		for i := range 50 {
			steps = append(steps, message(cart(change.Timestamp(10+i), "1", "a").row()))
		}
		s := &script{streams: []*scripted{play(append(steps, message(childRow(100, childC)), io.EOF)...)}}
		r := scriptedReader(t, s, Options{MaxFrameBytes: 2000})
		frames, changes := 0, 0
		err := r.Read(t.Context(), part("p", 1), 0, func(f *change.Frame) error {
			frames++
			changes += len(f.Changes)
			if f.Bytes > 4000 {
				t.Errorf("a frame of %d bytes", f.Bytes)
			}
			return nil
		})
		if err != nil || changes != 50 || frames < 10 {
			t.Fatalf("%d changes in %d frames: %v", changes, frames, err)
		}
	})
}

func TestReadTooLargeTimestamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{streams: []*scripted{play(message(cart(10, "1", "a").row()), message(cart(20, "2", "a").row(), cart(20, "3", "a").row(), cart(20, "4", "a").row()))}}
		got, err := readScript(t, scriptedReader(t, s, Options{MaxTimestampBytes: 1500}))
		var large *TooLargeError
		if !errors.As(err, &large) || large.Commit != 20 {
			t.Fatalf("got %v", err)
		}
		if got[len(got)-1] != "1@10 <=19" {
			t.Fatalf("what was proven before is missing: %q", got)
		}
	})
}

// Each class of error that may pass: what was read is not read again, and the wait fits the class.
func TestPitfallPassingErrors(t *testing.T) {
	advised := func(code codes.Code, wait time.Duration) error {
		s, err := status.New(code, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
		if err != nil {
			t.Fatal(err)
		}
		return s.Err()
	}
	quick, slow := [2]time.Duration{150 * time.Millisecond, 300 * time.Millisecond}, [2]time.Duration{1500 * time.Millisecond, 3 * time.Second}
	for name, c := range map[string]struct {
		err  error
		want [2]time.Duration // the least and the most that two waits take
	}{
		"UNAVAILABLE":                 {status.Error(codes.Unavailable, "broken"), quick},
		"INTERNAL RST_STREAM":         {status.Error(codes.Internal, "stream terminated by RST_STREAM with error code: INTERNAL_ERROR"), quick},
		"INTERNAL EOF":                {status.Error(codes.Internal, "Received unexpected EOS on DATA frame from server"), quick},
		"INTERNAL":                    {status.Error(codes.Internal, "a fault of the server"), slow},
		"UNKNOWN":                     {status.Error(codes.Unknown, "?"), slow},
		"ABORTED":                     {status.Error(codes.Aborted, "broken"), quick},
		"CANCELLED by the server":     {status.Error(codes.Canceled, "going away"), quick},
		"DEADLINE_EXCEEDED":           {status.Error(codes.DeadlineExceeded, "too slow"), quick},
		"RESOURCE_EXHAUSTED":          {status.Error(codes.ResourceExhausted, "busy"), slow},
		"RESOURCE_EXHAUSTED, advised": {advised(codes.ResourceExhausted, 7*time.Second), [2]time.Duration{14 * time.Second, 16 * time.Second}},
		"UNAVAILABLE, advised":        {advised(codes.Unavailable, 20*time.Second), [2]time.Duration{40 * time.Second, 41 * time.Second}},
		"advised for ever":            {advised(codes.ResourceExhausted, 1000*time.Hour), [2]time.Duration{10 * time.Minute, 10*time.Minute + 2*time.Second}},
		"no token from the metadata":  {status.Error(codes.Unauthenticated, "transport: per-RPC creds failed due to error: timeout"), quick},
		"the session is lost, twice":  {&sessionLostError{status.Error(codes.NotFound, "Session not found: s")}, [2]time.Duration{100 * time.Millisecond, 200 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{streams: []*scripted{
					play(message(cart(10, "1", "a").row()), message(cart(20, "2", "a").row()), time.Millisecond, c.err),
					play(c.err),
					play(message(cart(20, "2", "a").row(), childRow(100, childC)), io.EOF),
				}}
				var retries []int
				r := scriptedReader(t, s, Options{OnRetry: func(token string, attempt int, err error) { retries = append(retries, attempt) }})
				began := time.Now()
				got, err := readScript(t, r)
				if err != nil {
					t.Fatal(err)
				}
				changes := strings.Join(got, " ")
				if strings.Count(changes, "1@10") != 1 || strings.Count(changes, "2@20") != 1 {
					t.Errorf("each change wants to come once: %q", got)
				}
				if want := []string{micro(1), micro(20), micro(20)}; !slices.Equal(s.starts, want) {
					t.Errorf("queries started at %q, want %q", s.starts, want)
				}
				if !slices.Equal(retries, []int{1, 2}) {
					t.Errorf("retries: %v", retries)
				}
				if d := time.Since(began) - time.Millisecond; d < c.want[0] || d > c.want[1] {
					t.Errorf("the waits took %v, want %v to %v", d, c.want[0], c.want[1])
				}
			})
		})
	}
}

// An unbounded query may end well without the partition's end; then nothing is finished.
func TestPitfallEndWithoutChildren(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{streams: []*scripted{
			play(message(cart(10, "1", "a").row()), io.EOF),
			play(io.EOF),
			play(message(cart(10, "1", "a").row()), message(childRow(100, childC)), io.EOF),
		}}
		got, err := readScript(t, scriptedReader(t, s, Options{}))
		if err != nil {
			t.Fatal(err)
		}
		if joined := strings.Join(got, "|"); strings.Count(joined, "1@10") != 1 || strings.Count(joined, "end") != 1 || !strings.HasSuffix(joined, "+c end") {
			t.Fatalf("frames: %q", got)
		}
	})
}

// Children whose announcement broke off are announced again; the end is told once.
func TestPitfallStartAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{streams: []*scripted{
			play(message(cart(10, "1", "a").row(), childRow(100, childC)), time.Second, status.Error(codes.Unavailable, "broken")),
			play(message(childRow(100, childC)), io.EOF),
		}}
		got, err := readScript(t, scriptedReader(t, s, Options{}))
		if err != nil {
			t.Fatal(err)
		}
		wantFrames(t, got, "1@10 <=99", "<=99 +c end")
		if s.starts[1] != micro(100) {
			t.Fatalf("the second query started at %s; the partition's end is allowed, later is not", s.starts[1])
		}
	})
}

func TestPitfallDeadStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := play(message(heartbeatRow("1970-01-01T00:00:00.000031Z")))
		s := &script{streams: []*scripted{silent, play(message(childRow(100, childC)), io.EOF)}}
		r := scriptedReader(t, s, Options{Heartbeat: time.Second})
		began := time.Now()
		got, err := readScript(t, r)
		if err != nil {
			t.Fatal(err)
		}
		if got[0] != "<=30" || got[len(got)-1] != "<=99 +c end" {
			t.Fatalf("frames: %q", got)
		}
		if d := time.Since(began); d < 10*time.Second || d > 20*time.Second {
			t.Errorf("silence was noticed after %v", d)
		}
		if silent.silence != 15*time.Second {
			t.Errorf("the connection was told of a silence of %v", silent.silence)
		}
	})
}

func TestReadBackoffGrowsAndIsBounded(t *testing.T) {
	for attempt := 1; attempt < 100; attempt++ {
		full := defaultMaxBackoff
		if attempt < 10 {
			full = min(full, defaultMinBackoff<<(attempt-1))
		}
		if d := backoff(attempt, defaultMinBackoff, defaultMaxBackoff); d < full/2 || d > full {
			t.Errorf("attempt %d waits %v, want %v to %v", attempt, d, full/2, full)
		}
	}
}

func TestReadFinalErrors(t *testing.T) {
	isRefused := func(err error) bool {
		var e *RefusedError
		return errors.As(err, &e) && e.From == 1
	}
	for name, c := range map[string]struct {
		code codes.Code
		text string
		want func(error) bool
		say  string
	}{
		"retention": {codes.OutOfRange, "start_timestamp is too far in the past", func(err error) bool {
			var e *LostError
			return errors.As(err, &e) && e.From == 1 && e.Token == "p"
		}, "Begin again from now or from the earliest"},
		"token of another stream": {codes.InvalidArgument, "Partition token does not belong to this change stream", func(err error) bool {
			var e *GoneError
			return errors.As(err, &e) && e.Token == "p"
		}, "dropped and made again"},
		"dropped stream": {codes.InvalidArgument, "Table-valued function not found: READ_S", func(err error) bool {
			var e *GoneError
			return errors.As(err, &e)
		}, "dropped"},
		"dropped while reading": {codes.NotFound, "Change stream not found: S", func(err error) bool {
			var e *GoneError
			return errors.As(err, &e)
		}, "dropped"},
		"database gone": {codes.NotFound, "Database not found", func(err error) bool {
			var e *GoneError
			return errors.As(err, &e) && e.Cause == DatabaseGone
		}, "check its name"},
		"permission": {codes.PermissionDenied, "no", func(err error) bool {
			var e *DeniedError
			return errors.As(err, &e) && e.Role == ""
		}, "spanner.databases.select"},
		"anything else": {codes.Unimplemented, "no", isRefused, "will not pass"},
		"a message too large for a given connection": {codes.ResourceExhausted, "grpc: received message larger than max (5000000 vs. 4194304)", isRefused, "MaxCallRecvMsgSize"},
		"a refused token": {codes.Unauthenticated, "Request had invalid authentication credentials", func(err error) bool {
			var e *DeniedError
			return errors.As(err, &e)
		}, "may not read"},
		"a broken heartbeat": {codes.InvalidArgument, "heartbeat", isRefused, "not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{streams: []*scripted{play(status.Error(c.code, c.text))}}
				_, err := readScript(t, scriptedReader(t, s, Options{}))
				if err == nil || !c.want(err) || !strings.Contains(err.Error(), c.say) || status.Code(err) != c.code {
					t.Fatalf("got %v", err)
				}
				if len(s.starts) != 1 {
					t.Fatalf("%d queries for an error that will not pass", len(s.starts))
				}
			})
		})
	}
}

func TestPitfallStartInTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{streams: []*scripted{play(status.Error(codes.OutOfRange, "too far in the future"))}}
		start := change.TimestampOf(time.Now().Add(time.Hour))
		err := scriptedReader(t, s, Options{}).Read(t.Context(), part("p", start), 0, func(*change.Frame) error { return nil })
		var lost *LostError
		if err == nil || errors.As(err, &lost) || !strings.Contains(err.Error(), "future") {
			t.Fatalf("got %v", err)
		}
	})
}

func TestReadYieldError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{streams: []*scripted{play(message(heartbeatRow("1970-01-01T00:00:01Z")))}}
		full := errors.New("the disk is full")
		err := scriptedReader(t, s, Options{}).Read(t.Context(), part("p", 1), 0, func(*change.Frame) error { return full })
		if err != full {
			t.Fatalf("got %v, want yield's own error", err)
		}
	})
}

func TestReadCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{streams: []*scripted{play(message(heartbeatRow("1970-01-01T00:00:01Z")))}}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		err := scriptedReader(t, s, Options{}).Read(ctx, part("p", 1), 0, func(*change.Frame) error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
	})
}

// A caller that takes its time is no silence, and what waits for it is bounded.
func TestReadSlowCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var steps []any
		for i := range 2000 {
			steps = append(steps, message(cart(change.Timestamp(10+i), "1", "a").row()))
		}
		s := &script{streams: []*scripted{play(append(steps, message(childRow(10_000, part("c", 10_000))), io.EOF)...)}}
		changes := 0
		err := scriptedReader(t, s, Options{MaxFrameBytes: 64 << 10, OnRetry: func(_ string, _ int, err error) { t.Error(err) }}).Read(t.Context(), part("p", 1), 0, func(f *change.Frame) error {
			time.Sleep(time.Minute)
			changes += len(f.Changes)
			return nil
		})
		if err != nil || changes != 2000 || len(s.starts) != 1 {
			t.Fatalf("%d changes by %d queries: %v", changes, len(s.starts), err)
		}
	})
}

func TestPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{streams: []*scripted{
			play(status.Error(codes.Unavailable, "broken")),
			play(message(childRow(7, part("a", 7), part("b", 7))), message(childRow(7, part("c", 7))), io.EOF),
		}}
		got, err := scriptedReader(t, s, Options{}).Partitions(t.Context(), 7)
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"a", "b", "c"}; !slices.Equal(tokens(got), want) || got[0].Start != 7 || got[0].Parents != nil {
			t.Fatalf("got %+v", got)
		}
	})
}
