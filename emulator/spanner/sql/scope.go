package sql

import (
	"context"
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// frame is the row that expressions look at. All sources of one SELECT fill parts of one row; a sub-query's frame
// points to that of the query around it.
type frame struct {
	ctx   context.Context
	row   []store.Value
	outer *frame
}

// expr is a compiled expression.
type expr struct {
	// typ is nil for a NULL of no type yet.
	typ  *store.Type
	eval func(*frame) (store.Value, error)
	// literal says that the value has no firm type: literals adapt to their surroundings.
	literal bool
	// untyped says that it is a parameter whose type the client did not name: its text is the API's, of whatever type is
	// wanted.
	untyped bool
	// constant says that eval needs no row.
	constant bool
	// parts are what an array or struct expression is made of, if it is one.
	parts []*expr
}

func constant(t *store.Type, v store.Value) *expr {
	return &expr{typ: t, constant: true, eval: func(*frame) (store.Value, error) { return v, nil }}
}

// column is one column that a source offers.
type column struct {
	name   string
	typ    *store.Type
	hidden bool // not part of *
	merged bool // joined by USING: the bare name means the merged column
	// unreadable is why the column cannot be read, if so.
	unreadable error
}

// relation is one named source in scope; its columns lie at offset in the frame's row.
type relation struct {
	name    string
	columns []column
	offset  int
	// mayRead refuses a column that the session may not read; nil lets all be read.
	mayRead func(column int) error
}

// read is called for every column of the relation that a statement uses.
func (r *relation) read(column int) error {
	if r.mayRead == nil {
		return nil
	}
	return r.mayRead(column)
}

// scope is what names mean at one level of a query.
type scope struct {
	relations []*relation
	parent    *scope
	width     int
	// correlated says that something at this level depends on a row outside of it.
	correlated bool
	// beside is the level that this one is a derived table of: what one depends on, so does the other.
	beside *scope
}

func (s *scope) dependsOutside() {
	for ; s != nil; s = s.beside {
		s.correlated = true
	}
}

func (s *scope) add(name string, cols []column) *relation {
	r := &relation{name: name, columns: cols, offset: s.width}
	s.relations = append(s.relations, r)
	s.width += len(cols)
	return r
}

// named reports whether a relation at this level has the name.
func (s *scope) named(rel string) bool {
	for _, r := range s.relations {
		if strings.EqualFold(r.name, rel) {
			return true
		}
	}
	return false
}

// find resolves a column name, or relation.column. ok is false if there is none; up counts the levels outward.
func (s *scope) find(rel, name string) (slot int, typ *store.Type, up int, ok bool, err error) {
	for ; s != nil; s, up = s.parent, up+1 {
		var in *relation
		for _, r := range s.relations {
			if rel != "" && !strings.EqualFold(r.name, rel) {
				continue
			}
			for i, c := range r.columns {
				if !strings.EqualFold(c.name, name) || rel == "" && c.merged {
					continue
				}
				if ok {
					return 0, nil, 0, false, invalid("Column name %s is ambiguous", name)
				}
				slot, typ, ok, in, err = r.offset+i, c.typ, true, r, c.unreadable
			}
		}
		if ok {
			if err == nil {
				err = in.read(slot - in.offset)
			}
			return slot, typ, up, true, err
		}
	}
	return 0, nil, 0, false, nil
}

func slotExpr(slot int, typ *store.Type, up int) *expr {
	if up == 0 {
		return &expr{typ: typ, eval: func(f *frame) (store.Value, error) { return f.row[slot], nil }}
	}
	return &expr{typ: typ, eval: func(f *frame) (store.Value, error) {
		for range up {
			f = f.outer
		}
		return f.row[slot], nil
	}}
}

// compiler turns expression trees into closures in one scope.
type compiler struct {
	env   Env
	scope *scope
	// grouping is set while compiling what comes after GROUP BY.
	grouping *grouping
	// aliases are the select list while HAVING is compiled, which may name its columns.
	aliases []item
	// ctes are the named queries of WITH clauses in force.
	ctes map[string]*query
	// usingPins are the left side's columns of a USING clause while the right side is planned.
	usingPins map[string]*expr
	// depth counts the queries around this one.
	depth int
}

// schema is the schema version that names refer to.
func (c *compiler) schema() *store.Schema {
	if c.env.schema != nil {
		return c.env.schema
	}
	return c.env.Reader.Schema()
}

// beside is a compiler for a derived table: it sees what is outside this level, not what is in it.
func (c *compiler) beside() *compiler {
	return &compiler{env: c.env, scope: &scope{parent: c.scope.parent, beside: c.scope}, ctes: c.ctes, depth: c.depth + 1}
}

// inner is a compiler for a sub-query.
func (c *compiler) inner() *compiler {
	return &compiler{env: c.env, scope: &scope{parent: c.scope}, ctes: c.ctes, depth: c.depth + 1}
}

// in is a compiler for the same level with another scope.
func (c *compiler) in(s *scope) *compiler {
	return &compiler{env: c.env, scope: s, ctes: c.ctes, depth: c.depth}
}

// maxQueryDepth bounds sub-queries in sub-queries.
const maxQueryDepth = 20

// bool compiles a condition.
func (c *compiler) bool(e ast.Expr, where string) (*expr, error) {
	x, err := c.expr(e)
	if err != nil {
		return nil, err
	}
	if x.typ != nil && x.typ.Code != store.Bool {
		return nil, invalid("%s should return type BOOL, but returns %s", where, TypeName(x.typ))
	}
	return x, nil
}

func (x *expr) isTrue(f *frame) (bool, error) {
	v, err := x.eval(f)
	return v.Valid && v.Int != 0, err
}
