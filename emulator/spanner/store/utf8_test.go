package store_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// Text that is not UTF-8 gets into no STRING column, nor into an array of them; BYTES take any.
func TestUTF8(t *testing.T) {
	list := &store.Type{Code: store.Array, Elem: stringType}
	tab := newTable(1, "t", "")
	tab.Columns = append(tab.Columns, store.Column{Name: "l", Type: list, Ordinal: 5}, store.Column{Name: "y", Type: &store.Type{Code: store.Bytes}, Ordinal: 6})
	const bad = "a\xff"
	for _, c := range []struct {
		column int
		v      store.Value
		want   codes.Code
	}{
		{2, s(bad), codes.FailedPrecondition},
		{4, store.Value{Valid: true, List: []store.Value{s("a"), s(bad)}}, codes.FailedPrecondition},
		{5, s(bad), codes.OK},
	} {
		db := open(t, store.Options{}, []*store.Table{tab})
		m := store.Mutation{Op: store.InsertRow, Table: tab, Columns: []int{0, c.column}, Rows: []store.Row{{i(1), c.v}}}
		if _, err := commit(db, m); code(err) != c.want {
			t.Errorf("column %s: %v, want %v", tab.Columns[c.column].Name, err, c.want)
		}
	}
}
