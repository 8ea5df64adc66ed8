package server

import (
	"context"
	"strconv"
	"strings"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// source is what a read or statement runs on.
type source struct {
	reader store.Reader
	// snapshot is set unless the source is a read-write transaction.
	snapshot *store.Snapshot
	// txn is set for read-write transactions, and fresh says that this request began it.
	txn   *transaction
	fresh bool
	// partitioned is set for partitioned DML transactions.
	partitioned *partitionedTxn
	// access is what the session may do.
	access *store.Access
	// meta goes into the result's metadata; it may be nil.
	meta *sppb.Transaction
}

// fail takes back a transaction that the failed request began, so that the client begins anew.
func (s *source) fail(d *Database) {
	if s.fresh {
		d.forget(s.txn)
	}
}

// release counts the request off the source's transaction, if it has one.
func (s *source) release(d *Database) {
	if s.txn != nil {
		d.release(s.txn)
	}
}

// admit refuses what the source's read-write transaction, if it is one, takes no more; else it returns the precommit
// token for the answer, which is nil for sources that need none.
func (s *source) admit(last bool) (*sppb.MultiplexedSessionPrecommitToken, error) {
	if s.txn == nil {
		return nil, nil
	}
	s.txn.mu.Lock()
	defer s.txn.mu.Unlock()
	if err := s.txn.admit(); err != nil {
		return nil, err
	}
	s.txn.last = last
	return s.txn.precommitToken(), nil
}

// direct refuses directed reads outside of read-only transactions. Where there is one replica they change nothing else.
func (s *source) direct(o *sppb.DirectedReadOptions) error {
	if o != nil && s.snapshot == nil {
		return errorf(codes.InvalidArgument, "Directed reads can only be performed in a read-only transaction.")
	}
	return nil
}

// resolve finds or makes what a request's selector names.
func (ses *session) resolve(ctx context.Context, sel *sppb.TransactionSelector, tag string) (*source, error) {
	d := ses.db
	switch x := sel.GetSelector().(type) {
	case nil:
		snap := d.store.Strong(false)
		return &source{reader: snap, snapshot: snap}, nil
	case *sppb.TransactionSelector_SingleUse:
		switch m := x.SingleUse.GetMode().(type) {
		case *sppb.TransactionOptions_ReadOnly_:
			return d.readOnly(ctx, x.SingleUse, m.ReadOnly, true)
		case nil:
			snap := d.store.Strong(false)
			return &source{reader: snap, snapshot: snap}, nil
		}
		return nil, errorf(codes.InvalidArgument, "a single-use transaction of a read or query must be read-only")
	case *sppb.TransactionSelector_Begin:
		return ses.beginSource(ctx, x.Begin, tag)
	case *sppb.TransactionSelector_Id:
		return ses.existing(x.Id, tag)
	}
	return nil, errorf(codes.InvalidArgument, "the transaction selector is not known")
}

// checkReadWrite refuses options of a read-write transaction that are not known. Both lock modes are the same here: conflicts show
// at the commit.
func checkReadWrite(o *sppb.TransactionOptions) error {
	if _, ok := sppb.TransactionOptions_IsolationLevel_name[int32(o.GetIsolationLevel())]; !ok {
		return errorf(codes.InvalidArgument, "the isolation level %v is not known", o.GetIsolationLevel())
	}
	if _, ok := sppb.TransactionOptions_ReadWrite_ReadLockMode_name[int32(o.GetReadWrite().GetReadLockMode())]; !ok {
		return errorf(codes.InvalidArgument, "the read lock mode %v is not known", o.GetReadWrite().GetReadLockMode())
	}
	return nil
}

// checkIsolation refuses the isolation level that only read-write transactions can have.
func checkIsolation(o *sppb.TransactionOptions) error {
	if o.GetIsolationLevel() == sppb.TransactionOptions_REPEATABLE_READ {
		return errorf(codes.InvalidArgument, "the isolation level REPEATABLE_READ is for read-write transactions only")
	}
	return nil
}

func (ses *session) beginSource(ctx context.Context, o *sppb.TransactionOptions, tag string) (*source, error) {
	switch m := o.GetMode().(type) {
	case *sppb.TransactionOptions_ReadOnly_:
		return ses.db.readOnly(ctx, o, m.ReadOnly, false)
	case *sppb.TransactionOptions_ReadWrite_:
		if err := checkReadWrite(o); err != nil {
			return nil, err
		}
		t := ses.begin(o, tag)
		return &source{reader: t.txn, txn: t, fresh: true, meta: &sppb.Transaction{Id: []byte(t.id)}}, nil
	case *sppb.TransactionOptions_PartitionedDml_:
		if err := checkIsolation(o); err != nil {
			return nil, err
		}
		t := ses.beginPartitioned(o)
		return &source{partitioned: t, meta: &sppb.Transaction{Id: []byte(t.id)}}, nil
	}
	return nil, errorf(codes.InvalidArgument, "the transaction options name no mode")
}

func (ses *session) existing(id []byte, tag string) (*source, error) {
	d := ses.db
	text := string(id)
	if at, ok := strings.CutPrefix(text, readOnlyPrefix); ok {
		us, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return nil, errorf(codes.InvalidArgument, "invalid transaction id %.40q", text)
		}
		snap, err := d.store.At(us)
		if err != nil {
			return nil, wire(err)
		}
		return &source{reader: snap, snapshot: snap}, nil
	}
	if strings.HasPrefix(text, partitionedPrefix) {
		t, err := ses.findPartitioned(text)
		return &source{partitioned: t}, err
	}
	t, ended, err := d.find(ses.proto.GetName(), id)
	switch {
	case err != nil:
		return nil, err
	case ended != nil && ended.err != nil:
		return nil, ended.err // an aborted transaction stays aborted
	case ended != nil:
		return nil, errorf(codes.FailedPrecondition, "the transaction has already been committed")
	}
	t.mu.Lock()
	t.setTag(tag)
	t.mu.Unlock()
	return &source{reader: t.txn, txn: t}, nil
}

// resume resolves a request's selector; with a resume token, to the timestamp of the interrupted stream. digest is the
// request's, which a token must have been made for.
func (ses *session) resume(ctx context.Context, sel *sppb.TransactionSelector, tag string, token, digest []byte) (position, *source, error) {
	if len(token) == 0 {
		src, err := ses.resolve(ctx, sel, tag)
		if err != nil {
			return position{}, nil, err
		}
		pos := newPosition(digest)
		pos.now = ses.db.clock.Now().UnixMicro()
		if src.snapshot != nil {
			pos.ts = src.snapshot.Timestamp()
		}
		return pos, src, nil
	}
	pos, err := parsePosition(token, digest)
	if err != nil {
		return pos, nil, err
	}
	o, again := sel.GetBegin(), false
	switch sel.GetSelector().(type) {
	case nil, *sppb.TransactionSelector_SingleUse:
		again = true
	case *sppb.TransactionSelector_Begin:
		again = o.GetReadOnly() != nil
	}
	if !again {
		src, err := ses.resolve(ctx, sel, tag)
		return pos, src, err
	}
	snap, err := ses.db.store.At(pos.ts)
	if err != nil {
		return pos, nil, wire(err)
	}
	src := &source{reader: snap, snapshot: snap}
	if o != nil {
		src.describe(o.GetReadOnly(), false)
	}
	return pos, src, nil
}

// describe sets the metadata of a read-only transaction: an id unless it is single-use, a timestamp if asked for.
func (s *source) describe(ro *sppb.TransactionOptions_ReadOnly, single bool) {
	if single && !ro.GetReturnReadTimestamp() {
		return
	}
	s.meta = &sppb.Transaction{}
	if !single {
		s.meta.Id = []byte(readOnlyPrefix + strconv.FormatInt(s.snapshot.Timestamp(), 10))
	}
	if ro.GetReturnReadTimestamp() {
		s.meta.ReadTimestamp = micros(s.snapshot.Timestamp())
	}
}

// readOnly picks the read timestamp of a read-only transaction.
func (d *Database) readOnly(ctx context.Context, o *sppb.TransactionOptions, ro *sppb.TransactionOptions_ReadOnly, single bool) (*source, error) {
	if o.GetExcludeTxnFromChangeStreams() {
		return nil, errorf(codes.InvalidArgument, "exclude_txn_from_change_streams must not be set on a read-only transaction")
	}
	if err := checkIsolation(o); err != nil {
		return nil, err
	}
	var snap *store.Snapshot
	at := func(us int64) error {
		err := d.await(ctx, us)
		if err == nil {
			snap, err = d.store.At(us)
		}
		return wire(err)
	}
	var err error
	switch b := ro.GetTimestampBound().(type) {
	case nil:
		snap = d.store.Strong(true)
	case *sppb.TransactionOptions_ReadOnly_Strong:
		// Without a timestamp to report, the last commit's is as good as now, and costs no lock.
		snap = d.store.Strong(!single || ro.GetReturnReadTimestamp())
	case *sppb.TransactionOptions_ReadOnly_ReadTimestamp:
		if err := b.ReadTimestamp.CheckValid(); err != nil {
			return nil, errorf(codes.InvalidArgument, "invalid read_timestamp: %v", err)
		}
		err = at(b.ReadTimestamp.AsTime().UnixMicro())
	case *sppb.TransactionOptions_ReadOnly_ExactStaleness:
		if err := b.ExactStaleness.CheckValid(); err != nil || b.ExactStaleness.AsDuration() < 0 {
			return nil, errorf(codes.InvalidArgument, "invalid exact_staleness")
		}
		err = at(d.clock.Now().Add(-b.ExactStaleness.AsDuration()).UnixMicro())
	case *sppb.TransactionOptions_ReadOnly_MinReadTimestamp:
		if !single {
			return nil, errorf(codes.InvalidArgument, "min_read_timestamp is for single-use transactions only")
		}
		if err := b.MinReadTimestamp.CheckValid(); err != nil {
			return nil, errorf(codes.InvalidArgument, "invalid min_read_timestamp: %v", err)
		}
		err = at(max(b.MinReadTimestamp.AsTime().UnixMicro(), d.store.SafeTime()))
	case *sppb.TransactionOptions_ReadOnly_MaxStaleness:
		if !single {
			return nil, errorf(codes.InvalidArgument, "max_staleness is for single-use transactions only")
		}
		if err := b.MaxStaleness.CheckValid(); err != nil || b.MaxStaleness.AsDuration() < 0 {
			return nil, errorf(codes.InvalidArgument, "invalid max_staleness")
		}
		snap = d.store.Strong(true)
	default:
		return nil, errorf(codes.InvalidArgument, "the timestamp bound is not known")
	}
	if err != nil {
		return nil, err
	}
	src := &source{reader: snap, snapshot: snap}
	src.describe(ro, single)
	return src, nil
}

// await waits until a read timestamp in the future has come. Where the clock stands, or has gone back, commits lie ahead of
// it: what they have reached needs no wait.
func (d *Database) await(ctx context.Context, us int64) error {
	for {
		if us <= d.store.SafeTime() {
			return nil
		}
		wait := time.UnixMicro(us).Sub(d.clock.Now())
		if wait <= 0 {
			return nil
		}
		if wait > time.Hour {
			return errorf(codes.FailedPrecondition, "the read timestamp %s is too far in the future", store.FormatMicros(us))
		}
		fired, stop := d.clock.NewTimer(wait)
		select {
		case <-fired:
		case <-ctx.Done():
			stop()
			return ctx.Err()
		}
	}
}
