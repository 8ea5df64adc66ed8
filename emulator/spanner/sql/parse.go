package sql

import (
	"fmt"

	"github.com/cloudspannerecosystem/memefish"
	"github.com/cloudspannerecosystem/memefish/ast"
)

// guarded runs the parser. It panics on some texts, such as an octal escape cut off by the end ("\0), and a client's
// text must not end the process. Nothing but the parser runs under this recover.
func guarded[T any](parse func(string, string) (T, error), text string) (tree T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the parser could not cope with it: %v", r)
		}
	}()
	return parse("", text)
}

func parseDDL(text string) (ast.DDL, error) { return guarded(memefish.ParseDDL, text) }

func parseStatement(text string) (ast.Statement, error) {
	return guarded(memefish.ParseStatement, text)
}

func parseExpr(text string) (ast.Expr, error) { return guarded(memefish.ParseExpr, text) }
