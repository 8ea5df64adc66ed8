package ingest

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"cloud.google.com/go/spanner"
)

// Expected is what an append expects of its stream: [Any], [None], or
// [Exactly] a version.
type Expected int64

const (
	// Any expects nothing.
	Any Expected = -1
	// None expects a stream without events.
	None Expected = 0
)

// Exactly expects the stream's last event to have this version, from 1; 0 is
// the same as [None].
func Exactly(version int64) Expected { return Expected(version) }

func (e Expected) String() string {
	switch e {
	case Any:
		return "any version"
	case None:
		return "no events"
	}
	return "version " + strconv.FormatInt(int64(e), 10)
}

// Batch is the events to append to one stream, in order.
type Batch struct {
	Stream   string // 1 to 512 characters
	Expected Expected
	Events   []Event // at least one
}

// Result says where the events of a [Batch] are.
type Result struct {
	Stream string
	// Versions has the version of each event of the batch. Events that repeat
	// an earlier one of the same batch share its version.
	Versions []int64
	// CommittedAt is Spanner's commit timestamp; of a repeated append, the
	// last one of its events' first commits. It is zero when [Store.AppendTx]
	// returns new events: their commit is still to come.
	CommittedAt time.Time
	// Repeated says that nothing was written: all events were stored before.
	Repeated bool
}

// Last returns the highest version of the batch.
func (r Result) Last() int64 {
	var last int64
	for _, v := range r.Versions {
		last = max(last, v)
	}
	return last
}

// Options are the options of [New]; the zero value is good for Spanner.
type Options struct {
	// MaxTransactions bounds the transactions and reads under way at once; 0
	// is no bound. Google's emulator needs 1: it runs one transaction at a
	// time per client.
	MaxTransactions int
}

// Store appends events to the events table and reads them back. It may be used
// concurrently. It does not own the client.
type Store struct {
	client *spanner.Client
	slots  chan struct{} // nil: no bound
	heads  heads
}

// New returns a store over a database that [DDL] has been applied to; it sends
// nothing. [Store.Check] asks whether the database is there.
func New(client *spanner.Client, opts Options) *Store {
	s := &Store{client: client}
	if opts.MaxTransactions > 0 {
		s.slots = make(chan struct{}, opts.MaxTransactions)
	}
	return s
}

// acquire takes a slot; the returned function gives it back.
func (s *Store) acquire(ctx context.Context) (release func(), err error) {
	if s.slots == nil {
		return func() {}, nil
	}
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Check asks Spanner for the events table and gives up after timeout. Its
// errors, a [*MissingTableError] or an [*UnreachableError] among them, say what
// to do. Do this before other work: Spanner's client waits for an endpoint that
// does not answer for as long as its context allows.
func (s *Store) Check(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %s", timeout))
	defer cancel()
	release, err := s.acquire(ctx)
	if err != nil {
		return fmt.Errorf("look for table %s: %w", Table, err)
	}
	defer release()
	// All columns, so that a table of an earlier shape is noticed.
	err = s.client.Single().Read(ctx, Table, spanner.Key{"", 0}, columns).Do(func(*spanner.Row) error { return nil })
	if err == nil {
		err = s.client.Single().ReadUsingIndex(ctx, Table, IDIndex, spanner.Key{"", "", ""}, idColumns).
			Do(func(*spanner.Row) error { return nil })
	}
	return s.explain(ctx, "look for table "+Table, err)
}

// Append appends events to a stream in one transaction and returns after its
// commit. Ids are looked up before expected is compared: if all events are
// stored already, with the same content, the first result is returned whatever
// the stream's version is now.
//
// Errors about the events ([IsRefusal]) are a [*VersionError], [*ConflictError],
// [*MixedError] or [*LimitError], or an [*EventError] holding a [*FieldError].
// After any other error the append may or may not have happened; repeat it, the
// ids make that safe.
func (s *Store) Append(ctx context.Context, stream string, expected Expected, events ...Event) (Result, error) {
	results, err := s.AppendAll(ctx, Batch{Stream: stream, Expected: expected, Events: events})
	if err != nil {
		return Result{}, err
	}
	return results[0], nil
}

// AppendAll appends several batches in one transaction: all or nothing. A
// stream may occur twice; the second batch then comes after the first.
func (s *Store) AppendAll(ctx context.Context, batches ...Batch) ([]Result, error) {
	if err := checkBatches(batches); err != nil {
		return nil, err
	}
	outcomes, err := s.commit(ctx, batches, true)
	if err != nil {
		return nil, s.explain(ctx, "append "+describe(batches), err)
	}
	results := make([]Result, len(outcomes))
	for i, o := range outcomes {
		results[i] = o.result
	}
	return results, nil
}

// AppendTx appends batches inside the caller's own transaction, which decides
// whether and when they are committed. Call it once per transaction: its writes
// are buffered until the commit, so a second call would not see the first one's
// versions, and the commit would fail with ALREADY_EXISTS. Return its error
// from the transaction function as it is, so that Spanner's client can retry.
func (s *Store) AppendTx(ctx context.Context, txn *spanner.ReadWriteTransaction, batches ...Batch) ([]Result, error) {
	if err := checkBatches(batches); err != nil {
		return nil, err
	}
	outcomes, _, err := s.appendTx(ctx, txn, batches, true)
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(outcomes))
	for i, o := range outcomes {
		results[i] = o.result
	}
	return results, nil
}

// commit runs one transaction over batches that were checked. With atomic, the
// first refused batch fails all; without, each outcome has its own error.
func (s *Store) commit(ctx context.Context, batches []Batch, atomic bool) ([]outcome, error) {
	release, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	var (
		outcomes []outcome
		ends     map[string]int64
	)
	response, err := s.client.ReadWriteTransactionWithOptions(ctx, func(ctx context.Context, txn *spanner.ReadWriteTransaction) error {
		var err error
		outcomes, ends, err = s.appendTx(ctx, txn, batches, atomic)
		return err
	}, spanner.TransactionOptions{TransactionTag: "spanledger-ingest"})
	if err != nil {
		return nil, err
	}
	// I8: results leave only here, after Spanner's commit.
	for i := range outcomes {
		if o := &outcomes[i]; o.err == nil && o.result.CommittedAt.IsZero() {
			o.result.CommittedAt = response.CommitTs
		}
	}
	s.heads.learn(ends)
	return outcomes, nil
}

// appendTx reads what the batches touch, plans, and buffers the new rows. It
// returns the streams' last versions as they will be after the commit.
func (s *Store) appendTx(ctx context.Context, txn *spanner.ReadWriteTransaction, batches []Batch, atomic bool) ([]outcome, map[string]int64, error) {
	stored, err := readStored(ctx, txn, batches)
	if err != nil {
		return nil, nil, err
	}
	ends, err := s.readHeads(ctx, txn, batches)
	if err != nil {
		return nil, nil, err
	}
	p := planner{known: stored, heads: ends}
	outcomes := make([]outcome, len(batches))
	for i := range batches {
		o := &outcomes[i]
		o.result, o.err = p.plan(&batches[i])
		if o.err != nil && atomic {
			return nil, nil, o.err
		}
	}
	if len(p.inserts) > 0 {
		if err := txn.BufferWrite(p.inserts); err != nil {
			return nil, nil, err
		}
	}
	return outcomes, ends, nil
}

func describe(batches []Batch) string {
	if len(batches) == 1 {
		return fmt.Sprintf("to stream %q", batches[0].Stream)
	}
	return fmt.Sprintf("to %d streams", len(batches))
}

const (
	// maxEvents keeps a transaction below Spanner's 80,000 mutations: each
	// event counts its 13 columns and its index entry's 4.
	maxEvents = 80_000 / 17
	// maxBytes keeps a transaction well below Spanner's 100 MiB.
	maxBytes = 80 << 20
)

// checkBatches checks everything that needs no database.
func checkBatches(batches []Batch) error {
	events, size := 0, 0
	for i := range batches {
		b := &batches[i]
		if err := b.check(); err != nil {
			return err
		}
		events += len(b.Events)
		size += b.size()
	}
	switch {
	case len(batches) == 0:
		return &FieldError{Field: "batches", Reason: "are missing: there is nothing to append"}
	case events > maxEvents:
		return &LimitError{What: "events", Have: events, Limit: maxEvents}
	case size > maxBytes:
		return &LimitError{What: "bytes", Have: size, Limit: maxBytes}
	}
	return nil
}

func (b *Batch) check() error {
	if err := checkText("stream", b.Stream, maxStream, true); err != nil {
		return err
	}
	if b.Expected < Any {
		return &FieldError{Field: "expected", Reason: fmt.Sprintf("is version %d; want a version of 0 or more, or Any", b.Expected)}
	}
	if len(b.Events) == 0 {
		return &FieldError{Field: "events", Reason: fmt.Sprintf("are missing: the append to stream %q is empty", b.Stream)}
	}
	for i := range b.Events {
		if err := b.Events[i].check(); err != nil {
			return &EventError{Stream: b.Stream, Index: i, ID: b.Events[i].ID, Err: err}
		}
	}
	return nil
}

func (b *Batch) size() int {
	n := 0
	for i := range b.Events {
		n += b.Events[i].size() + 2*len(b.Stream)
	}
	return n
}

// heads remembers how far streams reached when they were last seen. An event is
// never deleted by itself, so a remembered version is a place to read on from,
// not a truth; a transaction reads it again.
type heads struct {
	mu sync.Mutex
	at map[string]int64 // guarded by mu
}

// maxHeads bounds the memory: some 100 bytes a stream.
const maxHeads = 200_000

func (h *heads) learn(ends map[string]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at == nil || len(h.at)+len(ends) > maxHeads {
		// Forgetting costs one query per stream; keeping an order of use
		// would cost on every append.
		h.at = make(map[string]int64, len(ends))
	}
	for stream, version := range ends {
		if version > h.at[stream] {
			h.at[stream] = version
		}
	}
}

func (h *heads) hint(stream string) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at[stream]
}

func (h *heads) forget(stream string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.at, stream)
}
