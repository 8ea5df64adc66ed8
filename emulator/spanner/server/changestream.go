package server

import (
	"context"
	"math"
	"strings"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/spanledger/spanledger/emulator/spanner/changes"
	"github.com/spanledger/spanledger/emulator/spanner/sql"
	"github.com/spanledger/spanledger/emulator/spanner/store"
)

const (
	// changeStreamResume leads the resume tokens of change-stream queries.
	changeStreamResume = "C"
	// replayResume follows it where a fault makes the token useless; no position is written so.
	replayResume = "*"
)

// changeStream answers one call of a read function: one message for each record, each with a resume token of its own.
func (a *dataService) changeStream(ctx context.Context, ses *session, access *store.Access, r *sppb.ExecuteSqlRequest, st *sql.Statement, stream sppb.Spanner_ExecuteStreamingSqlServer) error {
	if r.GetQueryMode() == sppb.ExecuteSqlRequest_PLAN {
		return errorf(codes.Unimplemented, "the embedded Spanner does not support the query mode PLAN for change-stream queries")
	}
	ro, err := singleUse(r.GetTransaction())
	if err != nil {
		return err
	}
	d := ses.db
	ps, err := params(r.GetParams(), r.GetParamTypes())
	if err != nil {
		return err
	}
	q, err := st.ChangeStreamQuery(d.store.Schema(), access, ps)
	if err != nil {
		return err
	}
	resume, mine := strings.CutPrefix(string(r.GetResumeToken()), changeStreamResume)
	if len(r.GetResumeToken()) > 0 && !mine {
		return errorf(codes.InvalidArgument, "the resume token is not one of this query's")
	}
	row, err := d.log.RowType(q.Stream)
	if err != nil {
		return err
	}
	meta := &sppb.ResultSetMetadata{RowType: row}
	if ro.GetReturnReadTimestamp() {
		// A stream has no one read timestamp; Spanner answers this marker, the greatest but one of its timestamps.
		meta.Transaction = &sppb.Transaction{ReadTimestamp: markerTimestamp}
	}
	query := changes.Query{
		Stream: q.Stream, Start: q.Start, End: q.End, Token: q.Token, HeartbeatMillis: q.HeartbeatMillis,
		ReadOptions: q.ReadOptions, Resume: resume,
	}
	defer ses.stream()()
	f := d.strikeStream(ctx, a.s, &query)
	if query.Token == nil {
		f.whole()
	}
	if resume == replayResume {
		f.replay, query.Resume = true, ""
	}
	send := func(rec changes.Record) error {
		if f.mute && rec.Kind == changes.Heartbeat {
			return nil
		}
		token := changeStreamResume + rec.Resume
		if f.replay {
			token = changeStreamResume + replayResume
		}
		if err := sendRecord(stream, rec, token, meta); err != nil {
			return err
		}
		meta = nil
		if rec.Kind == changes.ChildPartitions {
			f.whole()
		}
		return f.row()
	}
	if err = f.due(); err == nil {
		err = d.log.Query(ctx, query, send)
	}
	if err := f.result(err); err != nil {
		return err
	}
	return stream.Send(&sppb.PartialResultSet{Metadata: meta, Last: true})
}

func sendRecord(stream sppb.Spanner_ExecuteStreamingSqlServer, rec changes.Record, token string, meta *sppb.ResultSetMetadata) error {
	wire := rec.Wire()
	if len(wire) > maxRawBytes {
		return sendChunks(stream, rec.Value(), token, meta)
	}
	return stream.SendMsg(&rawFrame{value: wire, token: token, meta: meta})
}

// maxRawBytes is the largest record that goes out in one message.
const maxRawBytes = chunkBytes

// sendChunks sends a large record in several messages; only the last, which ends the row, has the resume token.
func sendChunks(stream sppb.Spanner_ExecuteStreamingSqlServer, v *structpb.Value, token string, meta *sppb.ResultSetMetadata) error {
	parts := chunks(v)
	for i, p := range parts {
		m := &sppb.PartialResultSet{Metadata: meta, Values: []*structpb.Value{p}, ChunkedValue: i < len(parts)-1}
		if !m.ChunkedValue {
			m.ResumeToken = []byte(token)
		}
		meta = nil
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	return nil
}

// markerTimestamp is int64 max − 1 microseconds, capped by what a Timestamp can hold.
var markerTimestamp = func() *timestamppb.Timestamp {
	t := timestamppb.New(time.UnixMicro(math.MaxInt64 - 1))
	if t.CheckValid() != nil {
		t = timestamppb.New(time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC))
	}
	return t
}()

// singleUse checks that a change-stream query runs as a single-use strong read.
func singleUse(sel *sppb.TransactionSelector) (*sppb.TransactionOptions_ReadOnly, error) {
	switch x := sel.GetSelector().(type) {
	case nil:
		return nil, nil
	case *sppb.TransactionSelector_SingleUse:
		switch m := x.SingleUse.GetMode().(type) {
		case nil:
			return nil, nil
		case *sppb.TransactionOptions_ReadOnly_:
			switch m.ReadOnly.GetTimestampBound().(type) {
			case nil, *sppb.TransactionOptions_ReadOnly_Strong:
				return m.ReadOnly, nil
			}
		}
		return nil, errorf(codes.InvalidArgument, "Change stream queries must be strong reads: the single-use transaction must be read-only with the strong timestamp bound.")
	}
	return nil, errorf(codes.InvalidArgument, "Change stream queries must run in a single-use read-only transaction.")
}
