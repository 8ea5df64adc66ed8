package server_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
)

// stream reads a query or read to its end.
func stream(c *caller, req proto.Message) (values []string, tokens [][]byte, after []int, meta *sppb.ResultSetMetadata, err error) {
	var s interface {
		Recv() (*sppb.PartialResultSet, error)
	}
	switch r := req.(type) {
	case *sppb.ExecuteSqlRequest:
		s, err = c.ExecuteStreamingSql(c.ctx, r)
	case *sppb.ReadRequest:
		s, err = c.StreamingRead(c.ctx, r)
	}
	chunked := false
	for err == nil {
		var m *sppb.PartialResultSet
		if m, err = s.Recv(); err != nil {
			break
		}
		if m.Metadata != nil {
			meta = m.Metadata
		}
		for i, v := range m.Values {
			if chunked && i == 0 {
				values[len(values)-1] += v.GetStringValue()
				continue
			}
			values = append(values, v.GetStringValue())
		}
		chunked = m.ChunkedValue
		if len(m.ResumeToken) > 0 {
			tokens, after = append(tokens, m.ResumeToken), append(after, len(values))
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return
}

// Queries and reads go on exactly behind the row of their resume token, at the same timestamp.
func TestResumeTokens(t *testing.T) {
	c := newCaller(t, true)
	// An index would bound the length of what it indexes.
	if _, err := c.admin.UpdateDatabaseDdl(c.ctx, &databasepb.UpdateDatabaseDdlRequest{Database: testDB, Statements: []string{"DROP INDEX x"}}); err != nil {
		t.Fatal(err)
	}
	for k := range 40 {
		n := 40_000
		if k == 20 {
			n = 3_000_000 / 2 // more than one message holds, cut between é's bytes if that were wrong
		}
		c.apply(put(fmt.Sprint(k), strings.Repeat("é", n/2)))
	}
	query := &sppb.ExecuteSqlRequest{Session: c.session, Sql: "SELECT s FROM t"}
	inOne := proto.Clone(query).(*sppb.ExecuteSqlRequest)
	inOne.Transaction = begin(readOnly(&sppb.TransactionOptions_ReadOnly{ReturnReadTimestamp: true}))
	read := &sppb.ReadRequest{Session: c.session, Table: "t", Columns: []string{"s"}, KeySet: &sppb.KeySet{All: true}}
	for what, req := range map[string]proto.Message{"query": query, "beginning query": inOne, "read": read} {
		all, tokens, after, meta, err := stream(c, req)
		if err != nil || len(all) != 40 || len(tokens) < 5 {
			t.Fatalf("%s: %d values, %d tokens, %v", what, len(all), len(tokens), err)
		}
		c.apply(put("0", what), put("100", what))
		field := req.ProtoReflect().Descriptor().Fields().ByName("resume_token")
		for i, token := range tokens {
			m := proto.Clone(req)
			m.ProtoReflect().Set(field, protoreflect.ValueOfBytes(token))
			rest, _, _, again, err := stream(c, m)
			if err != nil || strings.Join(rest, ",") != strings.Join(all[after[i]:], ",") {
				t.Errorf("%s resumed after %d values has %d more, %v; want %d", what, after[i], len(rest), err, len(all)-after[i])
			}
			if !proto.Equal(again.GetTransaction(), meta.GetTransaction()) {
				t.Errorf("%s resumed in %v, which was %v", what, again, meta)
			}
		}
		for _, bad := range []proto.Message{&sppb.ExecuteSqlRequest{Session: c.session, Sql: "SELECT k FROM t", ResumeToken: tokens[0]}, &sppb.ExecuteSqlRequest{Session: c.session, Sql: "SELECT s FROM t", ResumeToken: tokens[0][:5]}} {
			_, _, _, _, err = stream(c, bad)
			c.want(err, codes.InvalidArgument, "a token of another request")
		}
		c.apply(&sppb.Mutation{Operation: &sppb.Mutation_Delete_{Delete: &sppb.Mutation_Delete{Table: "t", KeySet: &sppb.KeySet{Keys: []*structpb.ListValue{{Values: []*structpb.Value{structpb.NewStringValue("100")}}}}}}})
	}
	big := &sppb.ExecuteSqlRequest{Session: c.session, Sql: "SELECT CONCAT(x.s, y.s) FROM t AS x CROSS JOIN t AS y WHERE x.k = 20"}
	_, err := c.ExecuteSql(c.ctx, big)
	c.want(err, codes.FailedPrecondition, "more than 10 MiB in one answer")
}

// The partitions of a query or read hold each row once between them.
func TestPartitions(t *testing.T) {
	c := newCaller(t, true)
	for k := range 10 {
		c.apply(put(fmt.Sprint(k), fmt.Sprint(k)))
	}
	o := &sppb.PartitionOptions{MaxPartitions: 3}
	tx := begin(readOnly(&sppb.TransactionOptions_ReadOnly{}))
	q, err := c.PartitionQuery(c.ctx, &sppb.PartitionQueryRequest{Session: c.session, Sql: "SELECT k FROM t", Transaction: tx, PartitionOptions: o})
	if err != nil {
		t.Fatal(err)
	}
	keys := &sppb.KeySet{All: true}
	r, err := c.PartitionRead(c.ctx, &sppb.PartitionReadRequest{Session: c.session, Table: "t", Columns: []string{"k"}, KeySet: keys, Transaction: existing(q.Transaction.Id)})
	if err != nil {
		t.Fatal(err)
	}
	c.apply(put("100", "late"))
	sel := existing(q.Transaction.Id)
	seen := map[string]int{}
	for _, p := range q.Partitions {
		req := &sppb.ExecuteSqlRequest{Session: c.session, Sql: "SELECT k FROM t", Transaction: sel, PartitionToken: p.PartitionToken, DataBoostEnabled: true}
		values, tokens, after, _, err := stream(c, req)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			seen[v]++
		}
		req.ResumeToken = tokens[0]
		if rest, _, _, _, err := stream(c, req); err != nil || len(rest) != len(values)-after[0] {
			t.Errorf("a partition resumed after %d of %d values has %d more, %v", after[0], len(values), len(rest), err)
		}
	}
	for _, p := range r.Partitions {
		values, _, _, _, err := stream(c, &sppb.ReadRequest{Session: c.session, Table: "t", Columns: []string{"k"}, KeySet: keys, Transaction: sel, PartitionToken: p.PartitionToken})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			seen[v] += 10
		}
	}
	if len(q.Partitions) != 3 || len(r.Partitions) < 2 || len(seen) != 10 {
		t.Errorf("%d and %d partitions, %d rows", len(q.Partitions), len(r.Partitions), len(seen))
	}
	for k, n := range seen {
		if n != 11 {
			t.Errorf("row %s was seen %d times by the query and %d by the read", k, n%10, n/10)
		}
	}
	token := q.Partitions[0].PartitionToken
	_, err = c.ExecuteSql(c.ctx, &sppb.ExecuteSqlRequest{Session: c.session, Sql: "SELECT s FROM t", Transaction: sel, PartitionToken: token})
	c.want(err, codes.InvalidArgument, "a token of another query")
	_, err = c.Read(c.ctx, &sppb.ReadRequest{Session: c.session, Table: "t", Columns: []string{"k"}, KeySet: keys, Limit: 1, Transaction: sel, PartitionToken: r.Partitions[0].PartitionToken})
	c.want(err, codes.InvalidArgument, "a partition with a limit")
	_, err = c.PartitionQuery(c.ctx, &sppb.PartitionQueryRequest{Session: c.session, Sql: "SELECT k FROM t"})
	c.want(err, codes.InvalidArgument, "partitions of a single-use transaction")
}

func TestOperations(t *testing.T) {
	c := newCaller(t, true)
	op, err := c.admin.UpdateDatabaseDdl(c.ctx, &databasepb.UpdateDatabaseDdlRequest{Database: testDB, Statements: []string{"CREATE TABLE u (k INT64) PRIMARY KEY (k)"}, OperationId: "mine"})
	if err != nil || op.Name != testDB+"/operations/mine" || !op.Done {
		t.Fatalf("%v, %v", op, err)
	}
	_, err = c.admin.UpdateDatabaseDdl(c.ctx, &databasepb.UpdateDatabaseDdlRequest{Database: testDB, Statements: []string{"CREATE TABLE v (k INT64) PRIMARY KEY (k)"}, OperationId: "mine"})
	c.want(err, codes.AlreadyExists, "the same operation id")
	got, err := c.ops.GetOperation(c.ctx, &longrunningpb.GetOperationRequest{Name: op.Name})
	if err != nil || !proto.Equal(got, op) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := c.ops.WaitOperation(c.ctx, &longrunningpb.WaitOperationRequest{Name: op.Name}); err != nil || !got.Done {
		t.Errorf("%v, %v", got, err)
	}
	for filter, want := range map[string]int{
		"": 2, "name:mine": 1, "done:true": 2, "done:false": 0,
		"(metadata.@type:type.googleapis.com/google.spanner.admin.database.v1.CreateDatabaseMetadata) AND (name:" + testDB + "/operations/)": 1,
	} {
		list, err := c.admin.ListDatabaseOperations(c.ctx, &databasepb.ListDatabaseOperationsRequest{Parent: "projects/p/instances/in", Filter: filter})
		if err != nil || len(list.Operations) != want {
			t.Errorf("%q: %d operations, %v; want %d", filter, len(list.GetOperations()), err, want)
		}
	}
	if list, err := c.ops.ListOperations(c.ctx, &longrunningpb.ListOperationsRequest{Name: testDB + "/operations", PageSize: 1}); err != nil || len(list.Operations) != 1 || list.NextPageToken == "" {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := c.ops.CancelOperation(c.ctx, &longrunningpb.CancelOperationRequest{Name: op.Name}); err != nil {
		t.Error(err)
	}
	if _, err := c.ops.DeleteOperation(c.ctx, &longrunningpb.DeleteOperationRequest{Name: op.Name}); err != nil {
		t.Error(err)
	}
	for what, call := range map[string]func() error{
		"get": func() error {
			_, err := c.ops.GetOperation(c.ctx, &longrunningpb.GetOperationRequest{Name: op.Name})
			return err
		},
		"wait": func() error {
			_, err := c.ops.WaitOperation(c.ctx, &longrunningpb.WaitOperationRequest{Name: op.Name})
			return err
		},
		"cancel": func() error {
			_, err := c.ops.CancelOperation(c.ctx, &longrunningpb.CancelOperationRequest{Name: op.Name})
			return err
		},
		"delete": func() error {
			_, err := c.ops.DeleteOperation(c.ctx, &longrunningpb.DeleteOperationRequest{Name: op.Name})
			return err
		},
	} {
		c.want(call(), codes.NotFound, what+" of a deleted operation")
	}
}
