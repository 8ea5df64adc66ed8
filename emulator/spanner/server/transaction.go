package server

import (
	"bytes"
	"context"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
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
	id          string
	session     string
	multiplexed bool
	excluded    bool
	txn         *store.Txn
	used        time.Time // under Database.mu

	// mu serializes the statements and the commit.
	mu      sync.Mutex
	tag     string
	ended   *outcome
	replies map[int64]reply
	seqno   int64 // the highest of replies
	last    bool  // the client has said that no statement will follow
	// tokens counts the precommit tokens given out; parked are the mutations of a commit that came with an old one.
	tokens int32
	parked []*sppb.Mutation
}

// reply is what a numbered DML request was answered, for when the client sends it again.
type reply struct {
	digest []byte
	answer proto.Message
	err    error
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

// begin opens a read-write transaction. On an ordinary session it takes the place of the one before.
func (ses *session) begin(o *sppb.TransactionOptions, tag string) *transaction {
	d := ses.db
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.clock.Now()
	if len(d.txns) > manyOpen {
		for id, t := range d.txns {
			if now.Sub(t.used) > maxIdle {
				delete(d.txns, id)
			}
		}
	}
	d.nextID++
	t := &transaction{
		id: readWritePrefix + strconv.FormatInt(d.nextID, 36), session: ses.proto.GetName(), multiplexed: ses.proto.GetMultiplexed(),
		tag: tag, excluded: o.GetExcludeTxnFromChangeStreams(), used: now,
		txn: d.store.BeginWith(store.TxnOptions{RepeatableRead: o.GetIsolationLevel() == sppb.TransactionOptions_REPEATABLE_READ}),
	}
	d.txns[t.id] = t
	if t.multiplexed {
		return t
	}
	if before := ses.latest; before != nil && d.txns[before.id] != nil {
		d.end(before, &outcome{err: errorf(codes.FailedPrecondition, "This transaction has been invalidated by a later transaction in the same session.")})
	}
	ses.latest = t
	return t
}

// end forgets an open transaction and remembers how it ended. The caller holds d.mu.
func (d *Database) end(t *transaction, o *outcome) {
	delete(d.txns, t.id)
	d.finished[t.id] = o
	d.finOrder = append(d.finOrder, t.id)
	if len(d.finOrder) > maxFinished {
		delete(d.finished, d.finOrder[0])
		d.finOrder = d.finOrder[1:]
	}
}

// forget ends an open transaction whose id its client has never learnt.
func (d *Database) forget(t *transaction) {
	t.txn.Rollback()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.txns, t.id)
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
	t.used = d.clock.Now()
	return t, nil, nil
}

// finish ends a transaction whose mu the caller holds.
func (d *Database) finish(t *transaction, o *outcome) {
	t.ended = o
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end(t, o)
}

func (t *transaction) setTag(tag string) {
	if t.tag == "" {
		t.tag = tag
	}
}

// admit refuses a statement or read in a transaction that takes no more of them. The caller holds t.mu.
func (t *transaction) admit() error {
	switch {
	case t.ended != nil && t.ended.err != nil:
		return t.ended.err
	case t.ended != nil:
		return errorf(codes.FailedPrecondition, "the transaction has already been committed")
	case t.last:
		return errorf(codes.FailedPrecondition, "the transaction takes no more statements: one has been sent as its last (last_statement)")
	}
	return t.txn.Err()
}

// once runs a numbered DML request, or answers it as before if it has been run already: clients send requests again
// whose answers were lost. The caller holds t.mu.
func (t *transaction) once(seqno int64, digest []byte, run func() (proto.Message, error)) (proto.Message, error) {
	if seqno == 0 {
		if err := t.admit(); err != nil {
			return nil, err
		}
		return run()
	}
	if done, ok := t.replies[seqno]; ok {
		if !bytes.Equal(done.digest, digest) {
			return nil, errorf(codes.InvalidArgument, "Previously received a different request with this seqno. seqno=%d", seqno)
		}
		return done.answer, done.err
	}
	if seqno < t.seqno {
		return nil, errorf(codes.InvalidArgument, "Request has an out-of-order seqno. Request seqno=%d. Last seen seqno=%d.", seqno, t.seqno)
	}
	if err := t.admit(); err != nil {
		return nil, err
	}
	answer, err := run()
	if t.replies == nil {
		t.replies = map[int64]reply{}
	}
	t.replies[seqno], t.seqno = reply{digest, answer, err}, seqno
	return answer, err
}

// precommitToken is what a client of a multiplexed session must show at the commit: the newest it was given. The holder
// of t.mu calls it once for each answer; ordinary sessions have none.
func (t *transaction) precommitToken() *sppb.MultiplexedSessionPrecommitToken {
	if !t.multiplexed {
		return nil
	}
	if t.tokens < math.MaxInt32 {
		t.tokens++
	}
	return t.newestToken()
}

func (t *transaction) newestToken() *sppb.MultiplexedSessionPrecommitToken {
	return &sppb.MultiplexedSessionPrecommitToken{PrecommitToken: []byte("precommit/" + t.id), SeqNum: t.tokens}
}

// checkToken refuses a commit without the precommit token that the transaction was given. With an old one it returns
// the answer that makes the client commit once more with the newest, without repeating its mutations.
func (t *transaction) checkToken(r *sppb.CommitRequest) (*sppb.CommitResponse, error) {
	if t.tokens == 0 {
		return nil, nil
	}
	given := r.GetPrecommitToken()
	newest := t.newestToken()
	switch {
	case given == nil:
		return nil, errorf(codes.FailedPrecondition, "the commit of a transaction on a multiplexed session needs the precommit token with the highest seq_num that the transaction was given")
	case !bytes.Equal(given.GetPrecommitToken(), newest.PrecommitToken), given.GetSeqNum() > newest.SeqNum:
		return nil, errorf(codes.InvalidArgument, "the precommit token is not one of this transaction's")
	case given.GetSeqNum() < newest.SeqNum:
		t.parked = r.GetMutations()
		return &sppb.CommitResponse{MultiplexedSessionRetry: &sppb.CommitResponse_PrecommitToken{PrecommitToken: newest}}, nil
	}
	return nil, nil
}

// BeginTransaction begins a transaction of any kind.
func (a *dataService) BeginTransaction(ctx context.Context, r *sppb.BeginTransactionRequest) (*sppb.Transaction, error) {
	ses, err := a.s.using(r.GetSession())
	if err != nil {
		return nil, err
	}
	src, err := ses.beginSource(ctx, r.GetOptions(), r.GetRequestOptions().GetTransactionTag())
	if err != nil {
		return nil, err
	}
	if t := src.txn; t != nil && r.GetMutationKey() != nil {
		// The client will only send mutations: this is the one answer before the commit that can carry a token.
		t.mu.Lock()
		src.meta.PrecommitToken = t.precommitToken()
		t.mu.Unlock()
	}
	return src.meta, nil
}

// Rollback ends a read-write transaction without effect.
func (a *dataService) Rollback(_ context.Context, r *sppb.RollbackRequest) (*emptypb.Empty, error) {
	ses, err := a.s.using(r.GetSession())
	if err != nil {
		return nil, err
	}
	// A transaction that is not open, because it was aborted or never wrote, is rolled back already.
	t, ended, err := ses.db.open(r.GetSession(), r.GetTransactionId())
	if ended != nil && ended.err == nil {
		return nil, errorf(codes.FailedPrecondition, "Cannot rollback a transaction after it has been committed.")
	}
	if err == nil && t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.ended == nil {
			t.txn.Rollback()
			ses.db.finish(t, &outcome{err: errorf(codes.FailedPrecondition, "the transaction has already been rolled back")})
		}
	}
	return &emptypb.Empty{}, nil
}
