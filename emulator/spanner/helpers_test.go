package spanner_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	cloudspanner "cloud.google.com/go/spanner"
	database "cloud.google.com/go/spanner/admin/database/apiv1"
	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	"go.uber.org/goleak"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"

	"github.com/spanledger/spanledger/emulator/spanner"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The client's metrics library starts it and never stops it.
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
		// The client libraries ask for a metadata server and keep the connection idle for a while.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	)
}

const (
	project    = "projects/p"
	instanceID = "test-instance"
	dbName     = project + "/instances/" + instanceID + "/databases/db"
)

// world is a running server with one database and clients of it.
type world struct {
	*testing.T
	ctx    context.Context
	srv    *spanner.Server
	opts   []option.ClientOption
	admin  *database.DatabaseAdminClient
	client *cloudspanner.Client
}

func start(t *testing.T, o spanner.Options, ddl ...string) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	srv, err := spanner.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	w := &world{T: t, ctx: ctx, srv: srv, opts: srv.ClientOptions()}
	if _, err := srv.CreateDatabase(ctx, dbName, ddl...); err != nil {
		t.Fatal(err)
	}
	if w.admin, err = database.NewDatabaseAdminClient(ctx, w.opts...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.admin.Close() })
	w.client = w.newClient()
	return w
}

func (w *world) newClient() *cloudspanner.Client {
	w.Helper()
	c, err := cloudspanner.NewClientWithConfig(w.ctx, dbName, cloudspanner.ClientConfig{DisableNativeMetrics: true}, w.opts...)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(c.Close)
	return c
}

func (w *world) ddl(statements ...string) error {
	op, err := w.admin.UpdateDatabaseDdl(w.ctx, &databasepb.UpdateDatabaseDdlRequest{Database: dbName, Statements: statements})
	if err != nil {
		return err
	}
	return op.Wait(w.ctx)
}

func (w *world) apply(ms ...*cloudspanner.Mutation) time.Time {
	w.Helper()
	at, err := w.client.Apply(w.ctx, ms)
	if err != nil {
		w.Fatal(err)
	}
	return at
}

// query returns all rows, with the values as text.
func (w *world) query(sql string, params ...any) [][]string {
	w.Helper()
	out, err := w.tryQuery(sql, params...)
	if err != nil {
		w.Fatalf("%s: %v", sql, err)
	}
	return out
}

func (w *world) tryQuery(sql string, params ...any) ([][]string, error) {
	st := cloudspanner.Statement{SQL: sql, Params: map[string]any{}}
	for i := 0; i+1 < len(params); i += 2 {
		st.Params[params[i].(string)] = params[i+1]
	}
	it := w.client.Single().Query(w.ctx, st)
	return texts(it)
}

func texts(it *cloudspanner.RowIterator) ([][]string, error) {
	defer it.Stop()
	var out [][]string
	for {
		r, err := it.Next()
		if err == iterator.Done {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		var row []string
		for i := range r.Size() {
			row = append(row, text(r, i))
		}
		out = append(out, row)
	}
}

func text(r *cloudspanner.Row, i int) string {
	var g cloudspanner.GenericColumnValue
	if err := r.Column(i, &g); err != nil {
		return err.Error()
	}
	switch v := g.Value.AsInterface().(type) {
	case nil:
		return "NULL"
	case string:
		return v
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
}
