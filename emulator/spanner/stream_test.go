package spanner_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	cloudspanner "cloud.google.com/go/spanner"
	spannerapi "cloud.google.com/go/spanner/apiv1"
	"cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/api/iterator"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/emulator/spanner"
)

// changeRecord is the column of a change-stream query in the ordinary client's form.
type changeRecord struct {
	Data      []*changeData `spanner:"data_change_record"`
	Heartbeat []*struct {
		Timestamp time.Time `spanner:"timestamp"`
	} `spanner:"heartbeat_record"`
	Children []*struct {
		Start      time.Time `spanner:"start_timestamp"`
		Sequence   string    `spanner:"record_sequence"`
		Partitions []*struct {
			Token   string   `spanner:"token"`
			Parents []string `spanner:"parent_partition_tokens"`
		} `spanner:"child_partitions"`
	} `spanner:"child_partitions_record"`
}

type changeData struct {
	CommitTimestamp time.Time     `spanner:"commit_timestamp"`
	Sequence        string        `spanner:"record_sequence"`
	TransactionID   string        `spanner:"server_transaction_id"`
	IsLast          bool          `spanner:"is_last_record_in_transaction_in_partition"`
	Table           string        `spanner:"table_name"`
	ColumnTypes     []*columnType `spanner:"column_types"`
	Mods            []*mod        `spanner:"mods"`
	ModType         string        `spanner:"mod_type"`
	Capture         string        `spanner:"value_capture_type"`
	Records         int64         `spanner:"number_of_records_in_transaction"`
	Partitions      int64         `spanner:"number_of_partitions_in_transaction"`
	Tag             string        `spanner:"transaction_tag"`
	System          bool          `spanner:"is_system_transaction"`
}

type columnType struct {
	Name    string                `spanner:"name"`
	Type    cloudspanner.NullJSON `spanner:"type"`
	IsKey   bool                  `spanner:"is_primary_key"`
	Ordinal int64                 `spanner:"ordinal_position"`
}

type mod struct {
	Keys cloudspanner.NullJSON `spanner:"keys"`
	New  cloudspanner.NullJSON `spanner:"new_values"`
	Old  cloudspanner.NullJSON `spanner:"old_values"`
}

const streamSQL = "SELECT ChangeRecord FROM READ_s(@start, @end, @token, @heartbeat)"

func (w *world) stream(ctx context.Context, from time.Time, end *time.Time, token *string, fn func(*changeRecord) error) error {
	it := w.client.Single().Query(ctx, cloudspanner.Statement{SQL: streamSQL, Params: map[string]any{"start": from, "end": end, "token": token, "heartbeat": int64(1000)}})
	defer it.Stop()
	for {
		row, err := it.Next()
		if err == iterator.Done {
			return nil
		}
		if err != nil {
			return err
		}
		var recs []*changeRecord
		if err := row.Columns(&recs); err != nil {
			return err
		}
		for _, r := range recs {
			if err := fn(r); err != nil {
				return err
			}
		}
	}
}

// tokens runs the initial query.
func (w *world) tokens(from time.Time) []string {
	w.Helper()
	var out []string
	err := w.stream(w.ctx, from, nil, nil, func(r *changeRecord) error {
		for _, c := range r.Children {
			for _, p := range c.Partitions {
				out = append(out, p.Token)
			}
		}
		return nil
	})
	if err != nil || len(out) == 0 {
		w.Fatalf("initial query: %v, %v", out, err)
	}
	return out
}

// now is a timestamp at which the stream exists.
func (w *world) now() time.Time {
	return time.UnixMicro(w.srv.Database(dbName).Store().SafeTime())
}

func TestChangeStreamThroughTheClient(t *testing.T) {
	w := start(t, spanner.Options{}, counters, "CREATE CHANGE STREAM s FOR ALL OPTIONS (value_capture_type = 'NEW_ROW_AND_OLD_VALUES')")
	from := w.now()
	tokens := w.tokens(from)
	at := w.apply(cloudspanner.Insert("counters", []string{"id", "n", "ts"}, []any{1, 5, cloudspanner.CommitTimestamp}))
	_, err := w.client.ReadWriteTransactionWithOptions(w.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
		_, err := tx.Update(ctx, cloudspanner.NewStatement("UPDATE counters SET n = 6 WHERE id = 1"))
		return err
	}, cloudspanner.TransactionOptions{TransactionTag: "a-tag"})
	if err != nil {
		t.Fatal(err)
	}
	last := w.apply(cloudspanner.Delete("counters", cloudspanner.AllKeys()))
	var got []string
	for _, token := range tokens {
		err := w.stream(w.ctx, from, &last, &token, func(r *changeRecord) error {
			for _, d := range r.Data {
				got = append(got, fmt.Sprintln(d.Table, d.ModType, d.Tag, d.Mods[0].Keys, d.Mods[0].New, d.Mods[0].Old))
				if d.ModType == "INSERT" && !d.CommitTimestamp.Equal(at) {
					t.Errorf("insert at %v, want %v", d.CommitTimestamp, at)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	ts := at.UTC().Format("2006-01-02T15:04:05.999999Z")
	want := []string{
		`counters INSERT  {"id":"1"} {"n":"5","ts":"` + ts + `"} {}` + "\n",
		`counters UPDATE a-tag {"id":"1"} {"n":"6","ts":"` + ts + `"} {"n":"5"}` + "\n",
		`counters DELETE  {"id":"1"} {} {"n":"6","ts":"` + ts + `"}` + "\n",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A query resumed with the token of row n goes on with row n+1.
func TestCase26ResumeTokens(t *testing.T) {
	w := start(t, spanner.Options{}, counters, "CREATE CHANGE STREAM s FOR ALL")
	from := w.now()
	token := w.tokens(from)[0]
	var last time.Time
	for i := range 6 {
		last = w.apply(cloudspanner.Insert("counters", []string{"id", "n"}, []any{i, i}))
	}
	c, err := spannerapi.NewClient(w.ctx, w.opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ses, err := c.CreateSession(w.ctx, &spannerpb.CreateSessionRequest{Database: dbName})
	if err != nil {
		t.Fatal(err)
	}
	stream := &spannerpb.ExecuteSqlRequest{
		Session: ses.Name, Sql: streamSQL,
		Params: &structpb.Struct{Fields: map[string]*structpb.Value{
			"start": structpb.NewStringValue(from.UTC().Format(time.RFC3339Nano)), "end": structpb.NewStringValue(last.UTC().Format(time.RFC3339Nano)),
			"token": structpb.NewStringValue(token), "heartbeat": structpb.NewStringValue("300000"),
		}},
		ParamTypes: map[string]*spannerpb.Type{
			"start": {Code: spannerpb.TypeCode_TIMESTAMP}, "end": {Code: spannerpb.TypeCode_TIMESTAMP},
			"token": {Code: spannerpb.TypeCode_STRING}, "heartbeat": {Code: spannerpb.TypeCode_INT64},
		},
	}
	query := &spannerpb.ExecuteSqlRequest{Session: ses.Name, Sql: "SELECT id, n FROM counters"}
	for _, req := range []*spannerpb.ExecuteSqlRequest{stream, query} {
		frames := func(resume []byte) (values []string, tokens [][]byte) {
			req.ResumeToken = resume
			s, err := c.ExecuteStreamingSql(w.ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			for {
				m, err := s.Recv()
				if errors.Is(err, io.EOF) {
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range m.Values {
					values = append(values, v.String())
				}
				if len(m.ResumeToken) > 0 {
					tokens = append(tokens, m.ResumeToken)
				}
			}
		}
		all, tokens := frames(nil)
		seen := map[string]bool{}
		for i, tok := range tokens {
			if seen[string(tok)] {
				t.Errorf("token %d repeats", i)
			}
			seen[string(tok)] = true
			if req != stream {
				continue
			}
			rest, _ := frames(tok)
			if fmt.Sprint(rest) != fmt.Sprint(all[min(i+1, len(all)):]) {
				t.Errorf("resumed after row %d: %d rows, want %d", i, len(rest), len(all)-i-1)
			}
		}
		if req == stream && len(all) < 6 {
			t.Errorf("%d records for 6 commits", len(all))
		}
	}
}
