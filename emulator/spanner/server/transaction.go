package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// Transaction ids name their kind. Only read-write transactions have state in the server: clients never end read-only
// ones, so those live in their ids.
const (
	readWritePrefix   = "rw/"
	readOnlyPrefix    = "ro/"
	partitionedPrefix = "pd/"
)

// transaction is one open read-write transaction.
type transaction struct {
	id       string
	session  string
	excluded bool
	txn      *store.Txn

	// mu serializes the statements and the commit.
	mu      sync.Mutex
	tag     string
	replies map[int64]*sppb.ResultSet // by seqno, for retried ExecuteSql calls
	batches map[int64]*sppb.ExecuteBatchDmlResponse
	ended   *outcome
	used    time.Time // under Database.mu
}

// outcome is how a transaction ended; it is kept a while for clients that ask again.
type outcome struct {
	response *sppb.CommitResponse
	err      error
}

const (
	// maxFinished is how many outcomes are kept.
	maxFinished = 1000
	// maxIdle is how long an idle transaction is kept once there are manyOpen others; Spanner aborts idle ones too.
	maxIdle  = time.Minute
	manyOpen = 1000
)

func (d *Database) begin(session, tag string, excluded bool) *transaction {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if len(d.txns) > manyOpen {
		for id, t := range d.txns {
			if now.Sub(t.used) > maxIdle {
				delete(d.txns, id)
			}
		}
	}
	d.nextID++
	t := &transaction{
		id: readWritePrefix + strconv.FormatInt(d.nextID, 36), session: session, tag: tag, excluded: excluded,
		txn: d.store.Begin(), used: now,
	}
	d.txns[t.id] = t
	return t
}

// end forgets an open transaction and remembers how it ended.
func (d *Database) end(t *transaction, o *outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.txns, t.id)
	if o == nil {
		return
	}
	d.finished[t.id] = o
	d.finOrder = append(d.finOrder, t.id)
	if len(d.finOrder) > maxFinished {
		delete(d.finished, d.finOrder[0])
		d.finOrder = d.finOrder[1:]
	}
}

// open finds an open read-write transaction, or the outcome of one that ended lately.
func (d *Database) open(session string, id []byte) (*transaction, *outcome, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.txns[string(id)]
	if t == nil {
		if o := d.finished[string(id)]; o != nil {
			return nil, o, nil
		}
		if strings.HasPrefix(string(id), readWritePrefix) {
			return nil, nil, abortedError("the transaction is not open any more: it was idle for too long, or has ended")
		}
		return nil, nil, errorf(codes.InvalidArgument, "invalid transaction id %.40q", id)
	}
	if t.session != session {
		return nil, nil, errorf(codes.InvalidArgument, "the transaction belongs to another session")
	}
	t.used = time.Now()
	return t, nil, nil
}

func (t *transaction) setTag(tag string) {
	if t.tag == "" {
		t.tag = tag
	}
}

// abortedError is ABORTED with the delay after which a client should retry: short, and not the same for all.
func abortedError(msg string) error {
	delay := time.Millisecond + rand.N(9*time.Millisecond)
	return withDetail(codes.Aborted, msg, &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
}

// wire makes an error fit to be sent: aborts carry their delay, context errors their code.
func wire(err error) error {
	var se *store.Error
	switch {
	case errors.As(err, &se) && se.Code == codes.Aborted:
		return abortedError(se.Msg)
	case errors.As(err, &se):
		return se
	case errors.Is(err, context.Canceled):
		return errorf(codes.Canceled, "the request was cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		return errorf(codes.DeadlineExceeded, "the request's deadline has passed")
	}
	return err
}

// source is what a read or statement runs on.
type source struct {
	reader store.Reader
	// snapshot is set unless the source is a read-write transaction.
	snapshot *store.Snapshot
	// txn is set for read-write transactions, and fresh says that this request began it.
	txn   *transaction
	fresh bool
	// partitioned is a partitioned DML transaction, excluded its exclusion from change streams.
	partitioned, excluded bool
	// meta goes into the result's metadata; it may be nil.
	meta *sppb.Transaction
}

// fail takes back a transaction that the failed request began, so that the client begins anew.
func (s *source) fail(d *Database) {
	if s.fresh {
		s.txn.txn.Rollback()
		d.end(s.txn, nil)
	}
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

func (ses *session) beginSource(ctx context.Context, o *sppb.TransactionOptions, tag string) (*source, error) {
	switch m := o.GetMode().(type) {
	case *sppb.TransactionOptions_ReadOnly_:
		return ses.db.readOnly(ctx, o, m.ReadOnly, false)
	case *sppb.TransactionOptions_ReadWrite_:
		t := ses.db.begin(ses.proto.GetName(), tag, o.GetExcludeTxnFromChangeStreams())
		return &source{reader: t.txn, txn: t, fresh: true, meta: &sppb.Transaction{Id: []byte(t.id)}}, nil
	case *sppb.TransactionOptions_PartitionedDml_:
		id := partitionedPrefix + strconv.FormatBool(o.GetExcludeTxnFromChangeStreams())
		return &source{partitioned: true, excluded: o.GetExcludeTxnFromChangeStreams(), meta: &sppb.Transaction{Id: []byte(id)}}, nil
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
	if ex, ok := strings.CutPrefix(text, partitionedPrefix); ok {
		return &source{partitioned: true, excluded: ex == "true"}, nil
	}
	t, ended, err := d.open(ses.proto.GetName(), id)
	if err != nil {
		return nil, err
	}
	if ended != nil {
		return nil, errorf(codes.FailedPrecondition, "the transaction has already ended")
	}
	t.mu.Lock()
	t.setTag(tag)
	t.mu.Unlock()
	return &source{reader: t.txn, txn: t}, nil
}

// readOnly picks the read timestamp of a read-only transaction.
func (d *Database) readOnly(ctx context.Context, o *sppb.TransactionOptions, ro *sppb.TransactionOptions_ReadOnly, single bool) (*source, error) {
	if o.GetExcludeTxnFromChangeStreams() {
		return nil, errorf(codes.InvalidArgument, "exclude_txn_from_change_streams must not be set on a read-only transaction")
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
	if !single || ro.GetReturnReadTimestamp() {
		src.meta = &sppb.Transaction{}
		if !single {
			src.meta.Id = []byte(readOnlyPrefix + strconv.FormatInt(snap.Timestamp(), 10))
		}
		if ro.GetReturnReadTimestamp() {
			src.meta.ReadTimestamp = micros(snap.Timestamp())
		}
	}
	return src, nil
}

// await waits until the clock has reached a read timestamp in the future.
func (d *Database) await(ctx context.Context, us int64) error {
	for {
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

func (a *dataService) BeginTransaction(ctx context.Context, r *sppb.BeginTransactionRequest) (*sppb.Transaction, error) {
	ses, err := a.s.session(r.GetSession())
	if err != nil {
		return nil, err
	}
	src, err := ses.beginSource(ctx, r.GetOptions(), r.GetRequestOptions().GetTransactionTag())
	if err != nil {
		return nil, err
	}
	return src.meta, nil
}

func (a *dataService) Rollback(_ context.Context, r *sppb.RollbackRequest) (*emptypb.Empty, error) {
	ses, err := a.s.session(r.GetSession())
	if err != nil {
		return nil, err
	}
	// A transaction that is not open, because it was aborted or never wrote, is rolled back already.
	if t, _, err := ses.db.open(r.GetSession(), r.GetTransactionId()); err == nil && t != nil {
		t.txn.Rollback()
		ses.db.end(t, nil)
	}
	return &emptypb.Empty{}, nil
}
