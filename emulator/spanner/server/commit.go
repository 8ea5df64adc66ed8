package server

import (
	"context"
	"slices"
	"strings"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// maxCommitDelay is the largest max_commit_delay. A commit is never delayed here, whatever the client allows.
const maxCommitDelay = 500 * time.Millisecond

// Commit ends a read-write transaction, or makes and ends one for its mutations.
func (a *dataService) Commit(ctx context.Context, r *sppb.CommitRequest) (*sppb.CommitResponse, error) {
	ses, access, err := a.s.using(r.GetSession())
	if err != nil {
		return nil, err
	}
	if delay := r.GetMaxCommitDelay(); delay != nil && (delay.CheckValid() != nil || delay.AsDuration() < 0 || delay.AsDuration() > maxCommitDelay) {
		return nil, errorf(codes.InvalidArgument, "max_commit_delay must be between 0 and %v", maxCommitDelay)
	}
	d := ses.db
	switch x := r.GetTransaction().(type) {
	case *sppb.CommitRequest_SingleUseTransaction:
		o := x.SingleUseTransaction
		if o.GetReadWrite() == nil {
			return nil, errorf(codes.InvalidArgument, "the single-use transaction of a commit must be read-write")
		}
		if err := checkReadWrite(o); err != nil {
			return nil, err
		}
		res, err := d.commit(ctx, d.store.Begin(), r.GetMutations(), access, r.GetRequestOptions().GetTransactionTag(), o.GetExcludeTxnFromChangeStreams())
		if err != nil {
			return nil, wire(err)
		}
		return commitResponse(res, r.GetReturnCommitStats()), nil
	case *sppb.CommitRequest_TransactionId:
		id := string(x.TransactionId)
		if strings.HasPrefix(id, readOnlyPrefix) || strings.HasPrefix(id, partitionedPrefix) {
			return nil, errReadOnlyEnd
		}
		t, ended, err := d.find(r.GetSession(), x.TransactionId)
		if err != nil {
			return nil, err
		}
		if ended != nil {
			return ended.answer(r)
		}
		defer d.release(t)
		return d.commitOpen(ctx, t, access, r)
	}
	return nil, errorf(codes.InvalidArgument, "the commit names no transaction")
}

// commitOpen commits an open transaction and remembers the outcome for a client that lost the answer.
func (d *Database) commitOpen(ctx context.Context, t *transaction, access *store.Access, r *sppb.CommitRequest) (*sppb.CommitResponse, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended != nil {
		return t.ended.answer(r)
	}
	if again, err := t.checkToken(r); again != nil || err != nil {
		return again, err
	}
	t.setTag(r.GetRequestOptions().GetTransactionTag())
	res, err := d.commit(ctx, t.txn, slices.Concat(t.parked, r.GetMutations()), access, t.tag, t.excluded)
	o := &outcome{result: res, err: wire(err)}
	if status.Code(err) == codes.Canceled {
		// Should the client be there again and ask, it has the whole transaction to try again.
		o.err = abortedError("the transaction was aborted: its commit was cut off while it waited for an older transaction")
	}
	d.finish(t, o)
	return o.answer(r)
}

// commit translates mutations under the newest schema and commits them. Should the schema change meanwhile, a
// transaction that has read nothing starts anew: its client has nothing to redo.
func (d *Database) commit(ctx context.Context, t *store.Txn, ms []*sppb.Mutation, access *store.Access, tag string, excluded bool) (store.CommitResult, error) {
	for {
		req := store.CommitRequest{Tag: tag, Excluded: excluded, Schema: d.store.Schema(), Cancel: ctx.Done()}
		var err error
		if req.Mutations, err = mutations(req.Schema, access, ms, d.store.Latest()); err != nil {
			t.Rollback()
			return store.CommitResult{}, err
		}
		res, err := t.Commit(req)
		if !aborted(err) || !t.Blind() {
			return res, err
		}
		t = d.store.Begin()
	}
}

func commitResponse(res store.CommitResult, stats bool) *sppb.CommitResponse {
	out := &sppb.CommitResponse{CommitTimestamp: micros(res.Timestamp)}
	if stats {
		out.CommitStats = &sppb.CommitResponse_CommitStats{MutationCount: res.MutationCount}
	}
	return out
}

// BatchWrite commits each group of mutations on its own.
func (a *dataService) BatchWrite(r *sppb.BatchWriteRequest, stream sppb.Spanner_BatchWriteServer) error {
	ses, access, err := a.s.using(r.GetSession())
	if err != nil {
		return err
	}
	d := ses.db
	for i, g := range r.GetMutationGroups() {
		if err := stream.Context().Err(); err != nil {
			return wire(err)
		}
		out := &sppb.BatchWriteResponse{Indexes: []int32{int32(i)}}
		res, err := d.commit(stream.Context(), d.store.Begin(), g.GetMutations(), access, r.GetRequestOptions().GetTransactionTag(), r.GetExcludeTxnFromChangeStreams())
		out.Status = status.Convert(wire(err)).Proto()
		if err == nil {
			out.CommitTimestamp = micros(res.Timestamp)
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
	return nil
}
