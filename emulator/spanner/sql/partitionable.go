package sql

import (
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// partitions judges whether statements can be cut up over the key space, by their shape: there is no plan to look at.
type partitions struct{ schema *store.Schema }

// Partitionable refuses a statement that cannot run as partitioned DML: it must be an UPDATE or DELETE that looks at one row
// of its table at a time.
func (s *Statement) Partitionable(schema *store.Schema) error {
	returns := false
	switch t := s.tree.(type) {
	case *ast.Insert:
		return invalid("INSERT is not supported for Partitioned DML")
	case *ast.Update:
		returns = t.ThenReturn != nil
	case *ast.Delete:
		returns = t.ThenReturn != nil
	}
	if returns {
		return invalid("THEN RETURN is not supported for Partitioned DML")
	}
	if (partitions{schema}).tables(s.tree) > 0 {
		return invalid("Partitioned DML only supports fully partitionable statements.")
	}
	return nil
}

// uncheckedHint is Google's emulator's hint for queries whose partitionability it cannot judge; production ignores it.
const uncheckedHint = "SPANNER_EMULATOR.DISABLE_QUERY_PARTITIONABILITY_CHECK"

// RootPartitionable refuses a query whose partitions could not be computed apart from each other: those are scans of one
// table, or of interleaved tables joined on the ancestor's key, without anything that needs all rows. A query that reads no
// table is partitionable.
func (s *Statement) RootPartitionable(schema *store.Schema) error {
	q, ok := s.tree.(*ast.QueryStatement)
	if !ok || s.kind != Query {
		return invalid("only queries can be partitioned, not %s", firstWords(s.text))
	}
	if q.Hint != nil {
		for _, r := range q.Hint.Records {
			if b, ok := r.Value.(*ast.BoolLiteral); ok && b.Value && strings.EqualFold(pathName(r.Key), uncheckedHint) {
				return nil
			}
		}
	}
	p := partitions{schema}
	if p.tables(q.Query) == 0 {
		return nil
	}
	if why := p.query(q.Query); why != "" {
		return invalid("Query is not root partitionable since it does not have a DistributedUnion at the root: it has %s. Please run EXPLAIN for query plan details.", why)
	}
	return nil
}

// name is the table or view that an item of a FROM clause names, or "": arrays are named in the same way.
func (p partitions) name(n ast.Node) string {
	var name string
	switch t := n.(type) {
	case *ast.TableName:
		name = t.Table.Name
	case *ast.PathTableExpr:
		if name = pathName(t.Path); p.schema.Postgres {
			name = strings.TrimPrefix(name, "public.")
		}
		if strings.EqualFold(t.Path.Idents[0].Name, "INFORMATION_SCHEMA") {
			return name
		}
	}
	if p.schema.Table(name) == nil && p.schema.View(name) == nil {
		return ""
	}
	return name
}

// tables counts the places in which a statement reads tables.
func (p partitions) tables(n ast.Node) (count int) {
	ast.Inspect(n, func(n ast.Node) bool {
		if n != nil && p.name(n) != "" {
			count++
		}
		return true
	})
	return count
}

// query says what stands against the partitioning of a query that reads tables, or "".
func (p partitions) query(e ast.QueryExpr) string {
	switch e := e.(type) {
	case *ast.SubQuery:
		return p.query(e.Query)
	case *ast.Query:
		switch {
		case e.With != nil:
			return "WITH"
		case e.OrderBy != nil:
			return "ORDER BY"
		case e.Limit != nil:
			return "LIMIT"
		}
		return p.query(e.Query)
	case *ast.Select:
		return p.selects(e)
	case *ast.CompoundQuery:
		return "a set operation"
	}
	return "more than a SELECT"
}

func (p partitions) selects(e *ast.Select) string {
	switch {
	case e.AllOrDistinct == ast.AllOrDistinctDistinct:
		return "DISTINCT"
	case e.GroupBy != nil:
		return "GROUP BY"
	case e.Having != nil:
		return "HAVING"
	case e.Where != nil && p.tables(e.Where) > 0:
		return "a sub-query that reads a table"
	case e.From == nil:
		return "a sub-query that reads a table"
	}
	for _, r := range e.Results {
		if p.tables(r) > 0 {
			return "a sub-query that reads a table"
		}
		if hasAggregate(r) {
			return "an aggregate function"
		}
	}
	return p.source(e.From.Source)
}

func (p partitions) source(e ast.TableExpr) string {
	switch e := e.(type) {
	case *ast.TableName, *ast.PathTableExpr:
		if sampled(e) {
			return "TABLESAMPLE"
		}
		v := p.schema.View(p.name(e))
		if v == nil {
			return ""
		}
		tree, err := parseQuery(v.Query)
		if err != nil {
			return "a view that cannot be read"
		}
		return p.query(tree)
	case *ast.ParenTableExpr:
		return p.source(e.Source)
	case *ast.SubQueryTableExpr:
		if sampled(e) {
			return "TABLESAMPLE"
		}
		return p.query(e.Query)
	case *ast.Join:
		if cond, ok := e.Cond.(*ast.On); ok && p.tables(cond) > 0 {
			return "a sub-query that reads a table"
		}
		if p.tables(e.Right) > 0 && !p.together(e) {
			return "a join of tables that are not interleaved, or not on the whole key of the ancestor"
		}
		return p.source(e.Left)
	}
	return "a FROM clause that begins with no table"
}

func sampled(e ast.TableExpr) bool {
	switch e := e.(type) {
	case *ast.TableName:
		return e.Sample != nil
	case *ast.PathTableExpr:
		return e.Sample != nil
	case *ast.SubQueryTableExpr:
		return e.Sample != nil
	}
	return false
}

// aliased is a table of a FROM clause.
type aliased struct {
	alias string
	table *store.Table
}

// joined are the tables at the leaves of a join.
func (p partitions) joined(e ast.TableExpr) []aliased {
	switch e := e.(type) {
	case *ast.ParenTableExpr:
		return p.joined(e.Source)
	case *ast.Join:
		return append(p.joined(e.Left), p.joined(e.Right)...)
	case *ast.TableName:
		if t := p.schema.Table(p.name(e)); t != nil {
			return []aliased{{aliasOf(e.As, e.Table.Name), t}}
		}
	case *ast.PathTableExpr:
		if t := p.schema.Table(p.name(e)); t != nil {
			return []aliased{{aliasOf(e.As, e.Path.Idents[len(e.Path.Idents)-1].Name), t}}
		}
	}
	return nil
}

// together reports whether the rows that a join brings together lie together: its right side is a table that is interleaved
// with one of the left side, and the join is on the whole key of the ancestor of the two.
func (p partitions) together(e *ast.Join) bool {
	right := p.joined(e.Right)
	if len(right) != 1 || sampled(e.Right) || e.Op != ast.InnerJoin && e.Op != ast.LeftOuterJoin {
		return false
	}
	for _, l := range p.joined(e.Left) {
		ancestor := l.table
		if p.descends(ancestor, right[0].table) {
			ancestor = right[0].table
		} else if !p.descends(right[0].table, ancestor) {
			continue
		}
		all := true
		for _, k := range ancestor.Key {
			all = all && equated(e.Cond, l.alias, right[0].alias, ancestor.Columns[k.Column].Name)
		}
		if all {
			return true
		}
	}
	return false
}

// descends reports whether a table is interleaved, perhaps by way of others, in another.
func (p partitions) descends(t, ancestor *store.Table) bool {
	for up := p.schema.Table(t.Parent); up != nil; up = p.schema.Table(up.Parent) {
		if up == ancestor {
			return true
		}
	}
	return false
}

// equated reports whether a join's condition says that a column is the same on both sides.
func equated(cond ast.JoinCondition, left, right, column string) bool {
	switch cond := cond.(type) {
	case *ast.Using:
		for _, id := range cond.Idents {
			if strings.EqualFold(id.Name, column) {
				return true
			}
		}
	case *ast.On:
		is := func(e ast.Expr, alias string) bool {
			path, ok := e.(*ast.Path)
			return ok && len(path.Idents) == 2 && strings.EqualFold(path.Idents[0].Name, alias) && strings.EqualFold(path.Idents[1].Name, column)
		}
		for _, c := range conjuncts(cond.Expr, nil) {
			if b, ok := c.(*ast.BinaryExpr); ok && b.Op == ast.OpEqual && (is(b.Left, left) && is(b.Right, right) || is(b.Left, right) && is(b.Right, left)) {
				return true
			}
		}
	}
	return false
}
