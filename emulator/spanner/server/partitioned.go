package server

import (
	"bytes"
	"strconv"
	"sync"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
)

// partitionedTxn is a partitioned DML transaction, which runs one statement, once.
type partitionedTxn struct {
	id, session string
	excluded    bool

	// mu is held while the statement runs; the others are what it was and how it was answered.
	mu     sync.Mutex
	ran    bool
	seqno  int64
	digest []byte
	answer *sppb.ResultSet
	err    error
}

// maxPartitioned is how many partitioned DML transactions of a database are remembered, the latest.
const maxPartitioned = 10_000

// partitionedTxns are a database's partitioned DML transactions. They are never ended by their clients.
type partitionedTxns struct {
	byID  map[string]*partitionedTxn
	order []string
}

// beginPartitioned makes a partitioned DML transaction.
func (ses *session) beginPartitioned(o *sppb.TransactionOptions) *partitionedTxn {
	d := ses.db
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nextID++
	t := &partitionedTxn{id: partitionedPrefix + strconv.FormatInt(d.nextID, 36), session: ses.proto.GetName(), excluded: o.GetExcludeTxnFromChangeStreams()}
	p := &d.partitioned
	if p.byID == nil {
		p.byID = map[string]*partitionedTxn{}
	}
	p.byID[t.id] = t
	if p.order = append(p.order, t.id); len(p.order) > maxPartitioned {
		delete(p.byID, p.order[0])
		p.order = p.order[1:]
	}
	return t
}

// findPartitioned finds a partitioned DML transaction of the session.
func (ses *session) findPartitioned(id string) (*partitionedTxn, error) {
	ses.db.mu.Lock()
	defer ses.db.mu.Unlock()
	switch t := ses.db.partitioned.byID[id]; {
	case t == nil:
		return nil, errorf(codes.InvalidArgument, "invalid transaction id %.40q", id)
	case t.session != ses.proto.GetName():
		return nil, errorf(codes.InvalidArgument, "the transaction belongs to another session")
	default:
		return t, nil
	}
}

// once runs the statement of a request, or answers the request as before: clients send it again whose answer was lost, with
// its number, which is 0 if they give none. Other requests are refused, after a failure with its error.
func (t *partitionedTxn) once(seqno int64, digest []byte, run func() (*sppb.ResultSet, error)) (*sppb.ResultSet, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.ran:
		t.ran, t.seqno, t.digest = true, seqno, digest
		t.answer, t.err = run()
	case seqno == t.seqno && !bytes.Equal(digest, t.digest):
		return nil, errorf(codes.InvalidArgument, "Previously received a different request with this seqno. seqno=%d", seqno)
	case seqno != t.seqno && t.err == nil:
		return nil, errorf(codes.InvalidArgument, "PartitionedDml transaction may only be used to execute one statement")
	}
	return t.answer, t.err
}

// errPartitionedReads refuses reads and queries in a partitioned DML transaction.
var errPartitionedReads = errorf(codes.InvalidArgument, "PartitionedDml Transactions may only be used to execute DML statements")
