package differential

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// outcome is all a client could see of a history on one server.
type outcome struct {
	answers []answer
	commits map[string]int   // commit timestamp to step
	played  int              // steps
	during  map[int]interval // of each partitioned step, which does not tell its commit timestamps
	tables  map[string]*table
	views   map[string]*table
	streams map[string][]dataRecord
}

// interval is two read timestamps, before and after a step: what the step commits lies after the first, and not after the second.
type interval struct{ from, to time.Time }

// answer is what one request was answered.
type answer struct {
	step    int
	request string
	code    codes.Code
	message string
	result  *table
}

// runner plays one history on one server.
type runner struct {
	*server
	ctx      context.Context
	database string
	session  string
	seq      int64
	out      *outcome
	created  map[string]time.Time // change streams, by when their DDL was over
}

// run plays h on a database of its own, then reads everything back. An error is one of this test or of the machine, never of the
// history: those are in the outcome.
func (s *server) run(ctx context.Context, h history, id string) (*outcome, error) {
	r := &runner{server: s, ctx: ctx, database: instance + "/databases/" + id, created: map[string]time.Time{},
		out: &outcome{commits: map[string]int{}, during: map[int]interval{}, tables: map[string]*table{}, views: map[string]*table{}, streams: map[string][]dataRecord{}}}
	defer func() {
		_, _ = s.databases.DropDatabase(context.WithoutCancel(ctx), &databasepb.DropDatabaseRequest{Database: r.database}) // it may not exist
	}()
	for i, st := range h {
		if err := r.step(i, st, id); err != nil {
			return nil, fmt.Errorf("%s, step %d: %w", s.name, i+1, err)
		}
		r.out.played++
		if st.kind == create && r.session == "" {
			return r.out, nil // no database, so nothing more can happen
		}
	}
	if err := r.readBack(); err != nil {
		return r.out, fmt.Errorf("%s: read back: %w", s.name, err)
	}
	return r.out, nil
}

func (r *runner) answer(i int, request string, t *table, err error) bool {
	a := answer{step: i, request: request, code: status.Code(err), result: t}
	if err != nil {
		a.message = status.Convert(err).Message()
	}
	r.out.answers = append(r.out.answers, a)
	return err == nil
}

func (r *runner) step(i int, s step, id string) error {
	switch s.kind {
	case create:
		if !r.answer(i, "create", nil, r.createDatabase(r.ctx, id, s.statements)) {
			return nil
		}
		session, err := r.spanner.CreateSession(r.ctx, &sppb.CreateSessionRequest{Database: r.database})
		if err != nil {
			return err
		}
		r.session = session.GetName()
		return r.noteStreams(s.statements)
	case ddl:
		op, err := r.databases.UpdateDatabaseDdl(r.ctx, &databasepb.UpdateDatabaseDdlRequest{Database: r.database, Statements: s.statements})
		if r.answer(i, s.statements[0], nil, r.wait(r.ctx, op, err)) {
			return r.noteStreams(s.statements)
		}
	case partitioned:
		from, err := r.now()
		if err != nil {
			return err
		}
		tx, err := r.spanner.BeginTransaction(r.ctx, &sppb.BeginTransactionRequest{Session: r.session,
			Options: &sppb.TransactionOptions{Mode: &sppb.TransactionOptions_PartitionedDml_{PartitionedDml: &sppb.TransactionOptions_PartitionedDml{}}}})
		if err != nil {
			return err
		}
		t, err := r.execute(r.ctx, &sppb.ExecuteSqlRequest{Session: r.session, Transaction: byID(tx), Sql: s.statements[0]})
		r.answer(i, s.statements[0], t, err)
		to, err := r.now()
		r.out.during[i] = interval{from, to}
		return err
	default:
		return r.transact(i, s)
	}
	return nil
}

func byID(tx *sppb.Transaction) *sppb.TransactionSelector {
	return &sppb.TransactionSelector{Selector: &sppb.TransactionSelector_Id{Id: tx.GetId()}}
}

// now is the server's own time, after all it has committed. The official emulator's clock gains on the system's without bound:
// whatever asks it for the time moves it on by a microsecond at least.
func (r *runner) now() (time.Time, error) {
	tx, err := r.spanner.BeginTransaction(r.ctx, &sppb.BeginTransactionRequest{Session: r.session,
		Options: &sppb.TransactionOptions{Mode: &sppb.TransactionOptions_ReadOnly_{ReadOnly: &sppb.TransactionOptions_ReadOnly{
			TimestampBound: &sppb.TransactionOptions_ReadOnly_Strong{Strong: true}, ReturnReadTimestamp: true}}}})
	return tx.GetReadTimestamp().AsTime(), err
}

// noteStreams remembers when new change streams came to be: no query may start before.
func (r *runner) noteStreams(statements []string) error {
	at, err := r.now()
	for _, s := range statements {
		if name, ok := strings.CutPrefix(s, "DROP CHANGE STREAM "); ok {
			delete(r.created, name)
		}
		if rest, ok := strings.CutPrefix(s, "CREATE CHANGE STREAM "); ok {
			name, _, _ := strings.Cut(rest, " ")
			r.created[name] = at
		}
	}
	return err
}

func (r *runner) transact(i int, s step) error {
	readWrite := &sppb.TransactionOptions{Mode: &sppb.TransactionOptions_ReadWrite_{ReadWrite: &sppb.TransactionOptions_ReadWrite{}}}
	options := &sppb.RequestOptions{TransactionTag: s.tag}
	req := &sppb.CommitRequest{Session: r.session, RequestOptions: options}
	var tx *sppb.Transaction
	if s.kind == once {
		req.Transaction = &sppb.CommitRequest_SingleUseTransaction{SingleUseTransaction: readWrite}
	} else {
		var err error
		if tx, err = r.spanner.BeginTransaction(r.ctx, &sppb.BeginTransactionRequest{Session: r.session, Options: readWrite, RequestOptions: options}); err != nil {
			return err
		}
		req.Transaction = &sppb.CommitRequest_TransactionId{TransactionId: tx.GetId()}
	}
	for j, o := range s.ops {
		m, err := o.mutation()
		switch {
		case err != nil:
			return err
		case m != nil:
			req.Mutations = append(req.Mutations, m)
		case o.kind == batched:
			if j == 0 || s.ops[j-1].kind != batched {
				r.batch(i, tx, options, s.ops[j:])
			}
		default:
			r.seq++
			t, err := r.execute(r.ctx, &sppb.ExecuteSqlRequest{Session: r.session, Transaction: byID(tx), Sql: o.sql, Seqno: r.seq, RequestOptions: options})
			r.answer(i, o.String(), t, err) // on an error the transaction goes on, to see what becomes of it
		}
	}
	if s.kind == rollback {
		_, err := r.spanner.Rollback(r.ctx, &sppb.RollbackRequest{Session: r.session, TransactionId: tx.GetId()})
		r.answer(i, "rollback", nil, err)
		return nil
	}
	res, err := r.spanner.Commit(r.ctx, req)
	if r.answer(i, "commit", nil, err) {
		r.out.commits[timeText(res.GetCommitTimestamp().AsTime())] = i
	} else if tx != nil {
		// The official emulator keeps the locks of a transaction whose commit failed, as clients roll it back.
		_, _ = r.spanner.Rollback(r.ctx, &sppb.RollbackRequest{Session: r.session, TransactionId: tx.GetId()})
	}
	return nil
}

// batch sends the statements that ops begins with at once. The rows of its result are the counts of those that were carried out.
func (r *runner) batch(i int, tx *sppb.Transaction, options *sppb.RequestOptions, ops []op) {
	r.seq++
	req := &sppb.ExecuteBatchDmlRequest{Session: r.session, Transaction: byID(tx), Seqno: r.seq, RequestOptions: options}
	for _, o := range ops {
		if o.kind != batched {
			break
		}
		req.Statements = append(req.Statements, &sppb.ExecuteBatchDmlRequest_Statement{Sql: o.sql})
	}
	res, err := r.spanner.ExecuteBatchDml(r.ctx, req)
	if err == nil {
		err = status.ErrorProto(res.GetStatus())
	}
	t := &table{}
	for _, set := range res.GetResultSets() {
		t.rows = append(t.rows, []any{set.GetStats().GetRowCountExact()})
	}
	r.answer(i, fmt.Sprintf("batch of %d statements, from %s", len(req.GetStatements()), ops[0].sql), t, err)
}

func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// views are the catalogue's tables that are compared, and their columns.
var views = map[string][]string{
	"CHANGE_STREAMS":        {"CHANGE_STREAM_NAME", "`ALL`"},
	"CHANGE_STREAM_TABLES":  {"CHANGE_STREAM_NAME", "TABLE_NAME", "ALL_COLUMNS"},
	"CHANGE_STREAM_COLUMNS": {"CHANGE_STREAM_NAME", "TABLE_NAME", "COLUMN_NAME"},
	"CHANGE_STREAM_OPTIONS": {"CHANGE_STREAM_NAME", "OPTION_NAME", "OPTION_TYPE", "OPTION_VALUE"},
	"COLUMNS":               {"TABLE_NAME", "COLUMN_NAME", "ORDINAL_POSITION", "IS_NULLABLE", "SPANNER_TYPE", "IS_GENERATED", "IS_STORED"},
}

// viewsQuery reads them all at once: the official emulator builds its whole catalogue for each query. Each row begins with its
// view's name; all values are text.
var viewsQuery = func() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(views)) {
		list := []string{"'" + name + "' AS V"}
		for i := range len(views["COLUMNS"]) {
			value := "''"
			if i < len(views[name]) {
				value = "CAST(" + views[name][i] + " AS STRING)"
			}
			list = append(list, fmt.Sprintf("%s AS C%d", value, i))
		}
		part := "SELECT " + strings.Join(list, ", ") + " FROM INFORMATION_SCHEMA." + name
		if name == "COLUMNS" {
			part += " WHERE TABLE_SCHEMA = ''"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " UNION ALL ")
}()

// readViews reads the catalogue, each view's rows in order.
func (r *runner) readViews() error {
	t, err := r.execute(r.ctx, &sppb.ExecuteSqlRequest{Session: r.session, Transaction: singleUse(), Sql: viewsQuery})
	if err != nil {
		return fmt.Errorf("read the catalogue: %w", err)
	}
	for name, columns := range views {
		v := &table{columns: columns, types: t.types[1 : 1+len(columns)]}
		for _, row := range t.rows {
			if row[0] == name {
				v.rows = append(v.rows, row[1:1+len(columns)])
			}
		}
		slices.SortFunc(v.rows, func(a, b []any) int { return strings.Compare(jsonText(a), jsonText(b)) })
		r.out.views[name] = v
	}
	return nil
}

func (r *runner) readBack() error {
	end, err := r.now()
	if err != nil {
		return err
	}
	if err := r.readViews(); err != nil {
		return err
	}
	columns := map[string][]string{}
	for _, row := range r.out.views["COLUMNS"].rows {
		name := row[0].(string)
		columns[name] = append(columns[name], row[1].(string))
	}
	for name, cols := range columns {
		t, err := r.read(r.ctx, r.session, name, cols)
		if err != nil {
			return fmt.Errorf("table %s: %w", name, err)
		}
		r.out.tables[name] = t
	}
	for name, start := range r.created {
		records, err := r.readStream(r.ctx, r.session, name, start, end)
		if err != nil {
			return err
		}
		r.out.streams[name] = records
	}
	return nil
}

// when names the step that a commit timestamp belongs to, or -1.
func (o *outcome) when(t time.Time) int {
	if i, ok := o.commits[timeText(t)]; ok {
		return i
	}
	for i, d := range o.during {
		if t.After(d.from) && !t.After(d.to) {
			o.commits[timeText(t)] = i
			return i
		}
	}
	return -1
}
