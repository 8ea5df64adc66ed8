package changes

import (
	"slices"

	"cloud.google.com/go/spanner/apiv1/spannerpb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// view is what a stream tracks of one version of a table.
type view struct {
	table   *store.Table
	name    string
	watched bool
	root    string
	keys    []int  // key columns, in key order
	tracked []int  // non-key columns, by ordinal position
	is      []bool // by column index: in tracked
	columns []column
}

// column is the part of a column's description that every record repeats.
type column struct {
	typeJSON string
	typ      *spannerpb.Type
}

func newView(def *store.ChangeStream, t *store.Table, root string) *view {
	v := &view{table: t, name: t.QualifiedName(), root: root, is: make([]bool, len(t.Columns)), columns: make([]column, len(t.Columns))}
	w := -1
	if !def.All {
		w = slices.IndexFunc(def.Watch, func(w store.Watch) bool { return w.Table == v.name })
		if w < 0 {
			return v
		}
	}
	v.watched = true
	for _, k := range t.Key {
		v.keys = append(v.keys, k.Column)
	}
	for i, c := range t.Columns {
		v.columns[i] = column{typeJSON: typeJSON(c.Type), typ: protoType(c.Type)}
		if t.IsKey(i) || c.Generated != "" {
			continue
		}
		if def.All || def.Watch[w].AllColumns || slices.Contains(def.Watch[w].Columns, c.Name) {
			v.tracked = append(v.tracked, i)
			v.is[i] = true
		}
	}
	slices.SortStableFunc(v.tracked, func(a, b int) int { return t.Columns[a].Ordinal - t.Columns[b].Ordinal })
	return v
}
