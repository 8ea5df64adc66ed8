package sql

import (
	"context"
	"time"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// compileColumns sets Compute of the columns of t that have a default or are generated.
func compileColumns(t *store.Table) error {
	for i := range t.Columns {
		c := &t.Columns[i]
		text, sc := c.Default, &scope{}
		if c.Generated != "" {
			text = c.Generated
			sc.add(t.Name, tableColumns(t))
		}
		if text == "" {
			continue
		}
		tree, err := parseExpr(text)
		if err != nil {
			return invalid("Error parsing the expression of column %s.%s: %v", t.QualifiedName(), c.Name, err)
		}
		compile := func(now time.Time) (*expr, error) {
			x, err := (&compiler{env: Env{Now: now}, scope: sc, depth: maxQueryDepth + 1}).expr(tree)
			if err != nil {
				return nil, err
			}
			return coerce(x, c.Type)
		}
		x, err := compile(time.Time{})
		if err != nil {
			return invalid("Error parsing the expression of column %s.%s: %v", t.QualifiedName(), c.Name, err)
		}
		if c.Generated != "" {
			for j := range t.Columns {
				if t.Columns[j].Generated != "" && usesColumn(text, t.Columns[j].Name) {
					return unimplemented("a generated column that uses another: %s.%s uses %s", t.QualifiedName(), c.Name, t.Columns[j].Name)
				}
			}
			c.Compute = func(r store.Row) (store.Value, error) {
				return x.eval(&frame{ctx: context.Background(), row: r})
			}
			continue
		}
		c.Compute = func(store.Row) (store.Value, error) {
			x, err := compile(time.Now())
			if err != nil {
				return store.Value{}, err
			}
			return x.eval(&frame{ctx: context.Background()})
		}
	}
	return nil
}

func usesColumn(text, name string) bool {
	tree, err := parseExpr(text)
	if err != nil {
		return false
	}
	return mentions(tree, &store.Table{Columns: []store.Column{{Name: name}}}, "")
}
