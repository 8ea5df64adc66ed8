package server

import (
	"bytes"
	"context"
	"math"
	"strings"
	"sync"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// Transaction ids name their kind. Read-only transactions have no state in the server: clients never end them, so they live
// in their ids.
const (
	readWritePrefix   = "rw/"
	readOnlyPrefix    = "ro/"
	partitionedPrefix = "pd/"
)

// errReadOnlyEnd refuses to commit or roll back transactions that have nothing to commit.
var errReadOnlyEnd = errorf(codes.FailedPrecondition, "Cannot commit or rollback a read-only or partitioned-dml transaction.")

// transaction is one open read-write transaction.
type transaction struct {
	id          string
	number      int64
	line        lineage
	session     string
	multiplexed bool
	excluded    bool
	txn         *store.Txn

	// used is when the last request ended, running how many there are; under Database.mu.
	used    time.Time
	running int

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

// maxIdle is how long a transaction may be idle before it is aborted, as in Spanner.
const maxIdle = 10 * time.Second

// begin opens a read-write transaction, with a request that runs on it. It ends the one that it tries again, and on an
// ordinary session the one before.
func (ses *session) begin(o *sppb.TransactionOptions, tag string) *transaction {
	t, over := ses.open(o, tag)
	rollback(over...)
	return t
}

func (ses *session) open(o *sppb.TransactionOptions, tag string) (t *transaction, over []*transaction) {
	d := ses.db
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nextID++
	line := ses.aborted
	ses.aborted = lineage{}
	previous := string(o.GetReadWrite().GetMultiplexedSessionPreviousTransactionId())
	if ses.proto.GetMultiplexed() {
		_, line = parseID(previous)
	}
	line = line.again(d.nextID)
	t = &transaction{
		id: line.id(d.nextID), number: d.nextID, line: line, session: ses.proto.GetName(), multiplexed: ses.proto.GetMultiplexed(),
		tag: tag, excluded: o.GetExcludeTxnFromChangeStreams(), running: 1, txn: d.store.BeginWith(line.options(o)),
	}
	d.txns[t.id] = t
	if t.multiplexed {
		if before := d.txns[previous]; before != nil && before.session == t.session {
			d.end(before, &outcome{err: abortedError("the transaction was aborted: another tries it again")})
			over = append(over, before)
		}
		return t, over
	}
	if before := ses.latest; before != nil {
		d.end(before, &outcome{err: errorf(codes.FailedPrecondition, "This transaction has been invalidated by a later transaction in the same session.")})
		over = append(over, before)
	}
	ses.latest = t
	return t, over
}

// rollback takes back transactions that have ended. It may wait for their requests, so no lock may be held.
func rollback(over ...*transaction) {
	for _, t := range over {
		t.txn.Rollback()
	}
}

// end forgets an open transaction and remembers how it ended. The caller holds d.mu.
func (d *Database) end(t *transaction, o *outcome) {
	delete(d.txns, t.id)
	if ses := d.sessions[t.session]; ses != nil && ses.latest == t {
		ses.latest = nil
		if status.Code(o.err) == codes.Aborted {
			ses.aborted = t.line
		}
	}
	d.outcomes.add(t.number, *o, d.clock.Now())
}

// forget ends an open transaction whose id its client has never learnt.
func (d *Database) forget(t *transaction) {
	t.txn.Rollback()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.txns, t.id)
	if ses := d.sessions[t.session]; ses != nil && ses.latest == t {
		ses.latest = nil
	}
}

// find finds an open read-write transaction, for a request that then runs on it, or the outcome of one that ended lately.
func (d *Database) find(session string, id []byte) (*transaction, *outcome, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.txns[string(id)]
	if t == nil {
		number, _ := parseID(string(id))
		if o := d.outcomes.find(number); o != nil {
			return nil, o, nil
		}
		if number > 0 {
			return nil, nil, abortedError("the transaction is not open any more: it was idle for too long, or has ended")
		}
		return nil, nil, errorf(codes.InvalidArgument, "invalid transaction id %.40q", id)
	}
	if t.session != session {
		return nil, nil, errorf(codes.InvalidArgument, "the transaction belongs to another session")
	}
	if d.idle(t, d.clock.Now()) {
		o := &outcome{err: errIdle()}
		d.end(t, o)
		rollback(t) // no request runs that it could wait for
		return nil, o, nil
	}
	t.running++
	return t, nil, nil
}

// release counts a request off that find or begin has counted in.
func (d *Database) release(t *transaction) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t.running--
	t.used = d.clock.Now()
}

func (d *Database) idle(t *transaction, now time.Time) bool {
	return t.running == 0 && now.Sub(t.used) > maxIdle
}

func errIdle() error {
	return abortedError("the transaction was aborted: it was idle for more than " + maxIdle.String())
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
	ses, _, err := a.s.using(r.GetSession())
	if err != nil {
		return nil, err
	}
	src, err := ses.beginSource(ctx, r.GetOptions(), r.GetRequestOptions().GetTransactionTag())
	if err != nil {
		return nil, err
	}
	defer src.release(ses.db)
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
	ses, _, err := a.s.using(r.GetSession())
	if err != nil {
		return nil, err
	}
	if id := string(r.GetTransactionId()); strings.HasPrefix(id, readOnlyPrefix) || strings.HasPrefix(id, partitionedPrefix) {
		return nil, errReadOnlyEnd
	}
	// A transaction that is not open, because it was aborted or never wrote, is rolled back already.
	t, ended, err := ses.db.find(r.GetSession(), r.GetTransactionId())
	if ended != nil && ended.err == nil {
		return nil, errorf(codes.FailedPrecondition, "Cannot rollback a transaction after it has been committed.")
	}
	if err == nil && t != nil {
		defer ses.db.release(t)
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.ended == nil {
			t.txn.Rollback()
			ses.db.finish(t, &outcome{err: errorf(codes.FailedPrecondition, "the transaction has already been rolled back")})
		}
	}
	return &emptypb.Empty{}, nil
}
