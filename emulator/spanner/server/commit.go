package server

import (
	"context"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// Commit ends a read-write transaction, or makes and ends one for its mutations.
func (a *dataService) Commit(ctx context.Context, r *sppb.CommitRequest) (*sppb.CommitResponse, error) {
	ses, err := a.s.session(r.GetSession())
	if err != nil {
		return nil, err
	}
	d := ses.db
	switch x := r.GetTransaction().(type) {
	case *sppb.CommitRequest_SingleUseTransaction:
		if x.SingleUseTransaction.GetReadWrite() == nil {
			return nil, errorf(codes.InvalidArgument, "the single-use transaction of a commit must be read-write")
		}
		res, err := d.commit(d.store.Begin(), r.GetMutations(), r.GetRequestOptions().GetTransactionTag(), x.SingleUseTransaction.GetExcludeTxnFromChangeStreams())
		if err != nil {
			return nil, wire(err)
		}
		return commitResponse(res, r.GetReturnCommitStats()), nil
	case *sppb.CommitRequest_TransactionId:
		t, ended, err := d.open(r.GetSession(), x.TransactionId)
		if err != nil {
			return nil, err
		}
		if ended != nil {
			return ended.response, ended.err
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.ended != nil {
			return t.ended.response, t.ended.err
		}
		t.setTag(r.GetRequestOptions().GetTransactionTag())
		res, err := d.commit(t.txn, r.GetMutations(), t.tag, t.excluded)
		o := &outcome{}
		if err != nil {
			o.err = wire(err)
		} else {
			o.response = commitResponse(res, r.GetReturnCommitStats())
		}
		t.ended = o
		d.end(t, o)
		return o.response, o.err
	}
	return nil, errorf(codes.InvalidArgument, "the commit names no transaction")
}

func (d *Database) commit(t *store.Txn, ms []*sppb.Mutation, tag string, excluded bool) (store.CommitResult, error) {
	req := store.CommitRequest{Tag: tag, Excluded: excluded, Schema: d.store.Schema()}
	var err error
	if req.Mutations, err = mutations(req.Schema, ms); err != nil {
		t.Rollback()
		return store.CommitResult{}, err
	}
	return t.Commit(req)
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
	ses, err := a.s.session(r.GetSession())
	if err != nil {
		return err
	}
	d := ses.db
	for i, g := range r.GetMutationGroups() {
		if err := stream.Context().Err(); err != nil {
			return wire(err)
		}
		out := &sppb.BatchWriteResponse{Indexes: []int32{int32(i)}}
		res, err := d.commit(d.store.Begin(), g.GetMutations(), r.GetRequestOptions().GetTransactionTag(), r.GetExcludeTxnFromChangeStreams())
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
