package sql

import (
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

const pendingName = "PENDING_COMMIT_TIMESTAMP"

// isPending reports whether an expression is PENDING_COMMIT_TIMESTAMP() and nothing else.
func isPending(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return isPending(e.Expr)
	case *ast.CallExpr:
		return strings.EqualFold(pathName(e.Func), pendingName) && len(e.Args) == 0
	}
	return false
}

// checkPending refuses the commit timestamp in some rows of a column and not in others, as Spanner does.
func checkPending(cols []int, rows []*ast.ValuesRow) error {
	for i := range cols {
		n := 0
		for _, r := range rows {
			if i < len(r.Exprs) && isPending(r.Exprs[i].Expr) {
				n++
			}
		}
		if n > 0 && n < len(rows) {
			return invalid("Invalid use of %s in column %d. All values for the column must be %s() or none of them.", pendingName, i+1, pendingName)
		}
	}
	return nil
}

// pending are the columns of t that the transaction has written the commit timestamp to: nobody can read them yet.
func (c *compiler) pending(t *store.Table) []bool {
	if txn, ok := c.env.Reader.(*store.Txn); ok {
		return txn.Pending(t)
	}
	return nil
}

// readable are t's columns for a scan by an index or, without, by the primary key: those that are pending with the error of
// reading them.
func readable(t *store.Table, by *store.Index, pending []bool) ([]column, error) {
	if err := store.Unreadable(t, by, pending); err != nil {
		return nil, err
	}
	columns := tableColumns(t)
	for i, p := range pending {
		if p {
			columns[i].unreadable = store.Unreadable(t, nil, pending, i)
		}
	}
	return columns, nil
}
