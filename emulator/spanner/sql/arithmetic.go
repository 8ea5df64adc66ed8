package sql

import (
	"math"
	"math/big"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func arithmeticExpr(op ast.BinaryOp, a, b *expr) (*expr, error) {
	shift := op == ast.OpBitLeftShift || op == ast.OpBitRightShift
	if a.typ != nil && a.typ.Code == store.Bytes && (shift || b.typ != nil && b.typ.Code == store.Bytes) {
		return bytesArithmetic(op, a, b)
	}
	t, err := commonType([]*expr{a, b}, "operator "+string(op))
	if err != nil {
		return nil, err
	}
	if t == nil {
		t = int64Type
	}
	bits := op == ast.OpBitAnd || op == ast.OpBitOr || op == ast.OpBitXor || op == ast.OpBitLeftShift || op == ast.OpBitRightShift
	if !isNumber(t) || bits && t.Code != store.Int64 {
		return nil, invalid("No matching signature for operator %s for argument types: %s, %s", op, TypeName(a.typ), TypeName(b.typ))
	}
	if op == ast.OpDiv && t.Code == store.Int64 || t.Code == store.Float32 {
		t = float64Type
	}
	return ofBoth(t, t, a, b, func(x, y store.Value) (store.Value, error) { return arithmetic(op, t, x, y) })
}

// bytesArithmetic is &, |, ^, << and >> of BYTES.
func bytesArithmetic(op ast.BinaryOp, a, b *expr) (*expr, error) {
	want := bytesType
	if op == ast.OpBitLeftShift || op == ast.OpBitRightShift {
		want = int64Type
	}
	b, err := coerce(b, want)
	if err != nil {
		return nil, err
	}
	return derived(bytesType, func(f *frame) (store.Value, error) {
		vs, ok, err := evalAll(f, a, b)
		if err != nil || !ok {
			return store.Value{}, err
		}
		x := []byte(vs[0].Text)
		if want == int64Type {
			if vs[1].Int < 0 {
				return store.Value{}, outOfRange("Bitwise shift by negative offset.")
			}
			n := new(big.Int).SetBytes(x)
			by := uint(min(vs[1].Int, int64(8*len(x))))
			if op == ast.OpBitLeftShift {
				n.Lsh(n, by)
			} else {
				n.Rsh(n, by)
			}
			raw := n.FillBytes(make([]byte, 2*len(x)+1))
			return textValue(string(raw[len(raw)-len(x):])), nil
		}
		if len(x) != len(vs[1].Text) {
			return store.Value{}, outOfRange("Bitwise binary operator for BYTES requires equal length of the inputs")
		}
		for i := range x {
			switch y := vs[1].Text[i]; op {
			case ast.OpBitAnd:
				x[i] &= y
			case ast.OpBitOr:
				x[i] |= y
			case ast.OpBitXor:
				x[i] ^= y
			default:
				return store.Value{}, outOfRange("operator %s is not defined for BYTES", op)
			}
		}
		return textValue(string(x)), nil
	}, a, b), nil
}

func arithmetic(op ast.BinaryOp, t *store.Type, x, y store.Value) (store.Value, error) {
	switch t.Code {
	case store.Int64:
		return intArithmetic(op, x.Int, y.Int)
	case store.Numeric:
		a, _ := new(big.Rat).SetString(x.Text)
		b, _ := new(big.Rat).SetString(y.Text)
		return numericArithmetic(op, a, b)
	}
	var z float64
	switch op {
	case ast.OpAdd:
		z = x.Float + y.Float
	case ast.OpSub:
		z = x.Float - y.Float
	case ast.OpMul:
		z = x.Float * y.Float
	case ast.OpDiv:
		if y.Float == 0 {
			return store.Value{}, outOfRange("division by zero: %v / 0", x.Float)
		}
		z = x.Float / y.Float
	}
	if math.IsInf(z, 0) && !math.IsInf(x.Float, 0) && !math.IsInf(y.Float, 0) {
		return store.Value{}, outOfRange("double overflow: %v %s %v", x.Float, op, y.Float)
	}
	return store.Value{Valid: true, Float: z}, nil
}

func intArithmetic(op ast.BinaryOp, x, y int64) (store.Value, error) {
	var z int64
	over := false
	switch op {
	case ast.OpAdd:
		z = x + y
		over = (x > 0) == (y > 0) && x != 0 && y != 0 && (z > 0) != (x > 0)
	case ast.OpSub:
		z = x - y
		over = (x < 0) != (y < 0) && (z < 0) != (x < 0)
	case ast.OpMul:
		z = x * y
		over = x != 0 && (z/x != y || x == -1 && y == math.MinInt64)
	case ast.OpBitAnd:
		z = x & y
	case ast.OpBitOr:
		z = x | y
	case ast.OpBitXor:
		z = x ^ y
	case ast.OpBitLeftShift, ast.OpBitRightShift:
		if y < 0 {
			return store.Value{}, outOfRange("Bitwise shift by negative offset.")
		}
		switch {
		case y > 63:
		case op == ast.OpBitLeftShift:
			z = x << y
		default:
			z = int64(uint64(x) >> y)
		}
	}
	if over {
		return store.Value{}, outOfRange("int64 overflow: %d %s %d", x, op, y)
	}
	return intValue(z), nil
}

func numericArithmetic(op ast.BinaryOp, a, b *big.Rat) (store.Value, error) {
	z := new(big.Rat)
	switch op {
	case ast.OpAdd:
		z.Add(a, b)
	case ast.OpSub:
		z.Sub(a, b)
	case ast.OpMul:
		z.Mul(a, b)
	case ast.OpDiv:
		if b.Sign() == 0 {
			return store.Value{}, outOfRange("division by zero: %s / 0", a.FloatString(9))
		}
		z.Quo(a, b)
	}
	return roundedNumeric(z)
}

// roundedNumeric rounds half away from zero to 9 digits after the point.
func roundedNumeric(z *big.Rat) (store.Value, error) {
	rounded, ok := new(big.Rat).SetString(z.FloatString(9))
	if !ok {
		return store.Value{}, outOfRange("numeric overflow")
	}
	text, err := store.NumericText(rounded)
	if err != nil {
		return store.Value{}, outOfRange("numeric overflow: %v", err)
	}
	return textValue(text), nil
}
