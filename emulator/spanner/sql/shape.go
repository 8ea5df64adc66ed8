package sql

import (
	"github.com/cloudspannerecosystem/memefish/ast"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// checkShape refuses results that Spanner cannot return: a column of a struct, and an array of structs that may be NULL,
// as a parameter may.
func checkShape(tree ast.QueryExpr, columns []store.Field) error {
	for _, f := range columns {
		if f.Type.Code == store.Struct {
			return unimplementedShape("A struct value cannot be returned as a column value. Rewrite the query to flatten the struct fields in the result.")
		}
	}
	s, ok := tree.(*ast.Select)
	if !ok || len(s.Results) != len(columns) {
		return nil
	}
	for i, r := range s.Results {
		var x ast.Expr
		switch item := r.(type) {
		case *ast.ExprSelectItem:
			x = item.Expr
		case *ast.Alias:
			x = item.Expr
		}
		t := columns[i].Type
		if _, param := x.(*ast.Param); param && t.Code == store.Array && t.Elem != nil && t.Elem.Code == store.Struct {
			return unimplementedShape("This query can return a null-valued array of struct, which is not supported by Spanner.")
		}
	}
	return nil
}

func unimplementedShape(why string) error {
	return store.Errorf(codes.Unimplemented, "Unsupported query shape: %s", why)
}
