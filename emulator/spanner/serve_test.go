package spanner_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// BenchmarkServeChanges reads 20,000 change records of one partition through gRPC, of rows of 100 bytes. The receiver takes
// the bytes and does not decode them, so that what is measured is the server, with gRPC on both sides.
func BenchmarkServeChanges(b *testing.B) {
	const n = 20_000
	srv := embeddedServer(b)
	db := srv.Database(dbName)
	schema := db.Store().Schema()
	from := time.Now()
	var end time.Time
	for i := 0; i < n; {
		m := store.Mutation{Op: store.InsertRow, Table: schema.Tables[0], Columns: []int{0, 1}}
		for range 100 {
			m.Rows = append(m.Rows, store.Row{{Valid: true, Int: int64(i)}, {Valid: true, Text: speedText}})
			i++
		}
		r, err := db.Store().Begin().Commit(store.CommitRequest{Schema: schema, Mutations: []store.Mutation{m}})
		if err != nil {
			b.Fatal(err)
		}
		end = time.UnixMicro(r.Timestamp)
	}
	partitions, err := db.Log().Partitions("S")
	if err != nil {
		b.Fatal(err)
	}
	conn, err := grpc.NewClient(srv.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	api := spannerpb.NewSpannerClient(conn)
	ses, err := api.CreateSession(b.Context(), &spannerpb.CreateSessionRequest{Database: dbName, Session: &spannerpb.Session{Multiplexed: true}})
	if err != nil {
		b.Fatal(err)
	}
	request := call{stream: "S", from: from, end: end, token: partitions[0].Token}.request(ses.Name)
	messages := 0
	for b.Loop() {
		stream, err := api.ExecuteStreamingSql(b.Context(), request)
		if err != nil {
			b.Fatal(err)
		}
		bytes := 0
		for messages = 0; ; messages++ {
			// Everything of a message is an unknown field to an Empty: it is kept as bytes.
			var raw emptypb.Empty
			if err := stream.RecvMsg(&raw); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				b.Fatal(err)
			}
			bytes += len(raw.ProtoReflect().GetUnknown())
		}
		b.SetBytes(int64(bytes))
	}
	b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "changes/s")
	b.ReportMetric(float64(messages), "messages")
}
