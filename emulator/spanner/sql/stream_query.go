package sql

import (
	"strings"
	"time"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// readFunction leads the names of change streams' read functions.
const readFunction = "READ_"

// StreamQuery is a call of a change stream's read function, its shape and argument types checked. A nil pointer is SQL
// NULL. What the values may be is the change-stream log's to say.
type StreamQuery struct {
	// Stream is the name, behind its prefix, of the read function as it was declared: the stream's as in DDL, with its
	// placement where it has a function for each.
	Stream          string
	Start, End      *time.Time
	Token           *string
	HeartbeatMillis *int64
	// ReadOptions says that read_options is not NULL.
	ReadOptions bool
}

// findTVF returns the table-valued function that a query reads from, anywhere in its FROM clauses, or nil.
func findTVF(q ast.QueryExpr) (tvf *ast.TVFCallExpr) {
	ast.Inspect(q, func(n ast.Node) bool {
		if t, ok := n.(*ast.TVFCallExpr); ok && tvf == nil {
			tvf = t
		}
		return tvf == nil
	})
	return tvf
}

// ChangeStreamQuery checks a change-stream query and reads its arguments. access is what the session may do: it needs
// both EXECUTE on the function and SELECT on the stream, or else the answer is PERMISSION_DENIED.
func (s *Statement) ChangeStreamQuery(schema *store.Schema, access *store.Access, params map[string]Param) (*StreamQuery, error) {
	if s.kind != ChangeStream {
		return nil, invalid("the statement is not a change-stream query: %s", firstWords(s.text))
	}
	name := pathName(s.tvf.Name)
	if s.postgres {
		return s.pgStreamQuery(name, schema, access, params)
	}
	f := functionOf(schema, name)
	if f == nil {
		return nil, invalid("Table-valued function not found: %s", name)
	}
	return s.streamQuery(name, schema, f, access, params)
}

// pgStreamQuery checks a call of spanner.read_json_<stream> or spanner.read_proto_bytes_<stream>.
func (s *Statement) pgStreamQuery(name string, schema *store.Schema, access *store.Access, params map[string]Param) (*StreamQuery, error) {
	stream, proto, ok := pgStreamName(s.tvf.Name)
	var f *streamFunction
	if ok {
		f = functionNamed(schema, stream)
	}
	// Names keep their case there, and a stream has the functions that fit its partition mode.
	if f == nil || f.name != stream || proto != (optionValue(f.def.Options, "partition_mode") == "MUTABLE_KEY_RANGE") {
		return nil, invalid("function %s(…) does not exist", name)
	}
	if len(s.tvf.Args) != len(streamParams) || len(s.tvf.NamedArgs) > 0 {
		return nil, invalid("function %s takes %d arguments by position", name, len(streamParams))
	}
	return s.streamQuery(name, schema, f, access, params)
}

// streamQuery checks the query around a read function and reads the arguments.
func (s *Statement) streamQuery(name string, schema *store.Schema, f *streamFunction, access *store.Access, params map[string]Param) (*StreamQuery, error) {
	if err := s.checkShape(name); err != nil {
		return nil, err
	}
	if err := access.Object(store.ExecutePrivilege, store.FunctionObject, f.called(schema)); err != nil {
		return nil, err
	}
	if err := access.Object(store.SelectPrivilege, store.StreamObject, f.def.Name); err != nil {
		return nil, err
	}
	args, err := s.streamArgs(name, params)
	if err != nil {
		return nil, err
	}
	q := &StreamQuery{Stream: f.name, ReadOptions: args[4].Valid}
	if args[0].Valid {
		t := args[0].Time()
		q.Start = &t
	}
	if args[1].Valid {
		t := args[1].Time()
		q.End = &t
	}
	if args[2].Valid {
		q.Token = &args[2].Text
	}
	if args[3].Valid {
		q.HeartbeatMillis = &args[3].Int
	}
	return q, nil
}

// streamFunction is a change stream's read function, with its name behind the prefix.
type streamFunction struct {
	def  *store.ChangeStream
	name string
}

// functionOf finds a read function, or returns nil.
func functionOf(schema *store.Schema, function string) *streamFunction {
	if len(function) <= len(readFunction) || !strings.EqualFold(function[:len(readFunction)], readFunction) {
		return nil
	}
	return functionNamed(schema, function[len(readFunction):])
}

// called is the name that queries call a read function by.
func (f *streamFunction) called(schema *store.Schema) string {
	switch {
	case !schema.Postgres:
		return readFunction + f.name
	case optionValue(f.def.Options, "partition_mode") == "MUTABLE_KEY_RANGE":
		return "spanner." + pgReadFunctions[1] + f.name
	}
	return "spanner." + pgReadFunctions[0] + f.name
}

// functionsOf are the read functions of a stream.
func functionsOf(schema *store.Schema, def *store.ChangeStream) (out []*streamFunction) {
	if !perPlacement(def) {
		return []*streamFunction{{def, def.Name}}
	}
	for _, p := range schema.PlacementNames() {
		out = append(out, &streamFunction{def, def.Name + "_" + p})
	}
	return out
}

// functionNamed finds a read function by its name behind the prefix, or returns nil. With per_placement_tvf a stream has one
// function for each placement, and none for all.
func functionNamed(schema *store.Schema, name string) *streamFunction {
	for _, def := range schema.Streams {
		if !perPlacement(def) {
			if strings.EqualFold(name, def.Name) {
				return &streamFunction{def, def.Name}
			}
			continue
		}
		for _, p := range schema.PlacementNames() {
			if full := def.Name + "_" + p; strings.EqualFold(name, full) {
				return &streamFunction{def, full}
			}
		}
	}
	return nil
}

func perPlacement(def *store.ChangeStream) bool {
	for _, o := range def.Options {
		if o.Name == "per_placement_tvf" {
			return o.Value == "true"
		}
	}
	return false
}

// checkShape refuses everything around the function call but SELECT ChangeRecord or SELECT *.
func (s *Statement) checkShape(name string) error {
	bad := func(what string) error {
		return unimplemented("%s in a change-stream query: %s must not be combined with other SQL; write SELECT ChangeRecord FROM %s(...)", what, name, name)
	}
	e := s.tree.(*ast.QueryStatement).Query
	for {
		if sub, ok := e.(*ast.SubQuery); ok {
			e = sub.Query
			continue
		}
		q, ok := e.(*ast.Query)
		if !ok {
			break
		}
		switch {
		case q.With != nil:
			return bad("WITH")
		case q.OrderBy != nil:
			return bad("ORDER BY")
		case q.Limit != nil:
			return bad("LIMIT")
		case q.ForUpdate != nil:
			return bad("FOR UPDATE")
		case len(q.PipeOperators) > 0:
			return bad("pipe syntax")
		}
		e = q.Query
	}
	sel, ok := e.(*ast.Select)
	if !ok {
		return bad("a set operation")
	}
	switch {
	case sel.AllOrDistinct == ast.AllOrDistinctDistinct:
		return bad("DISTINCT")
	case sel.As != nil:
		return bad("SELECT AS")
	case sel.Where != nil:
		return bad("WHERE")
	case sel.GroupBy != nil:
		return bad("GROUP BY")
	case sel.Having != nil:
		return bad("HAVING")
	case len(sel.Results) != 1:
		return bad("more than one column")
	case sel.From == nil || sel.From.Source != ast.TableExpr(s.tvf):
		return bad("a join, alias or sub-query")
	case s.tvf.Sample != nil:
		return bad("TABLESAMPLE")
	}
	switch r := sel.Results[0].(type) {
	case *ast.Star:
		if r.Except == nil && r.Replace == nil {
			return nil
		}
	case *ast.ExprSelectItem:
		if id, ok := r.Expr.(*ast.Ident); ok {
			if strings.EqualFold(id.Name, "ChangeRecord") {
				return nil
			}
			return invalid("Unrecognized name: %s", id.Name)
		}
	}
	return bad("the select list " + sel.Results[0].SQL())
}

// streamParams are the read function's arguments, in order.
var streamParams = []struct {
	name string
	typ  *store.Type
}{
	{"start_timestamp", timestampType}, {"end_timestamp", timestampType}, {"partition_token", stringType},
	{"heartbeat_milliseconds", int64Type}, {"read_options", &store.Type{Code: store.Array, Elem: stringType}},
}

func (s *Statement) streamArgs(name string, params map[string]Param) (out [5]store.Value, err error) {
	var trees [5]ast.Expr
	if len(s.tvf.Args) > len(trees) {
		return out, invalid("%s takes at most %d arguments, not %d", name, len(trees), len(s.tvf.Args))
	}
	for i, a := range s.tvf.Args {
		ea, ok := a.(*ast.ExprArg)
		if !ok {
			return out, invalid("argument %d of %s must be a literal or a query parameter", i, name)
		}
		trees[i] = ea.Expr
	}
	for _, a := range s.tvf.NamedArgs {
		at := -1
		for i, p := range streamParams {
			if strings.EqualFold(p.name, a.Name.Name) {
				at = i
			}
		}
		switch {
		case at < 0:
			return out, invalid("%s has no argument named %s", name, a.Name.Name)
		case trees[at] != nil:
			return out, invalid("argument %s of %s is given twice", a.Name.Name, name)
		}
		trees[at] = a.Value
	}
	c := &compiler{env: Env{Params: params}, scope: &scope{}}
	for i, tree := range trees {
		if tree == nil {
			continue
		}
		if !isLiteralOrParam(tree) {
			return out, invalid("argument %d of %s must be a literal or a query parameter, not %s", i, name, tree.SQL())
		}
		x, err := c.expr(tree)
		if err != nil {
			return out, err
		}
		if i == 4 && x.typ != nil && x.typ.Code == store.Array {
			out[i].Valid = true // of any element type: it is refused anyway
			continue
		}
		if x, err = coerce(x, streamParams[i].typ); err != nil {
			return out, invalid("argument %d of %s (%s): %v", i, name, streamParams[i].name, err)
		}
		if out[i], err = x.eval(nil); err != nil {
			return out, err
		}
	}
	return out, nil
}

func isLiteralOrParam(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Param, *ast.NullLiteral, *ast.StringLiteral, *ast.IntLiteral, *ast.TimestampLiteral, *ast.ArrayLiteral,
		*ast.BoolLiteral, *ast.FloatLiteral, *ast.BytesLiteral, *ast.DateLiteral, *ast.NumericLiteral:
		return true
	case *ast.UnaryExpr:
		_, ok := e.Expr.(*ast.IntLiteral)
		return ok && e.Op == ast.OpMinus
	}
	return false
}
