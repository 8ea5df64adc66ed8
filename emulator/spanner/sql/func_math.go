package sql

import (
	"math"
	"math/big"
	"math/bits"

	"github.com/cloudspannerecosystem/memefish/ast"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func floatValue(f float64) store.Value { return store.Value{Valid: true, Float: f} }

// ratOf is a NUMERIC as a fraction. Values of the type always parse.
func ratOf(v store.Value) *big.Rat {
	r, ok := new(big.Rat).SetString(v.Text)
	if !ok {
		return new(big.Rat)
	}
	return r
}

// onFloat is a function of one FLOAT64 that has no value outside its domain.
func onFloat(name string, fn func(float64) float64) []function {
	return []function{sig(float64Type, func(v values) (store.Value, error) {
		return checkedFloat(name, fn(v[0].Float), v...)
	}, float64Type)}
}

// checkedFloat refuses a result that is not finite though the arguments are.
func checkedFloat(name string, f float64, args ...store.Value) (store.Value, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		for _, a := range args {
			if math.IsNaN(a.Float) || math.IsInf(a.Float, 0) {
				return floatValue(f), nil
			}
		}
		return store.Value{}, outOfRange("Floating point error in function: %s(%v)", name, args[0].Float)
	}
	return floatValue(f), nil
}

func onRat(fn func(*big.Rat) (store.Value, error)) function {
	return sig(numericType, func(v values) (store.Value, error) { return fn(ratOf(v[0])) }, numericType)
}

// rounding gives ROUND, TRUNC and the like for FLOAT64 and NUMERIC, with digits where more than one argument is allowed.
func rounding(digits bool, onFloat64 func(float64) float64, rat func(*big.Rat) *big.Rat) []function {
	float := func(v values) (store.Value, error) {
		if len(v) == 1 {
			return floatValue(onFloat64(v[0].Float)), nil
		}
		return roundFloat(v[0].Float, v[1].Int, rat), nil
	}
	numeric := func(v values) (store.Value, error) {
		var n int64
		if len(v) == 2 {
			n = max(min(v[1].Int, 9), -30)
		}
		scale := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(abs64(n)), nil))
		if n < 0 {
			scale.Inv(scale)
		}
		r := rat(new(big.Rat).Mul(ratOf(v[0]), scale))
		return roundedNumeric(r.Quo(r, scale))
	}
	if !digits {
		return []function{sig(float64Type, float, float64Type), sig(numericType, numeric, numericType)}
	}
	return []function{sig(float64Type, float, float64Type, int64Type).optional(1), sig(numericType, numeric, numericType, int64Type).optional(1)}
}

func abs64(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

// roundFloat rounds to n digits after the point, exactly in decimal.
func roundFloat(f float64, n int64, rat func(*big.Rat) *big.Rat) store.Value {
	r := new(big.Rat)
	switch {
	case r.SetFloat64(f) == nil || n > 330:
		return floatValue(f)
	case n < -330:
		return floatValue(0)
	}
	scale := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(abs64(n)), nil))
	if n < 0 {
		scale.Inv(scale)
	}
	r = rat(r.Mul(r, scale))
	out, _ := r.Quo(r, scale).Float64()
	return floatValue(out)
}

func ratRound(r *big.Rat) *big.Rat {
	out, ok := new(big.Rat).SetString(r.FloatString(0))
	if !ok {
		return r
	}
	return out
}

func ratTrunc(r *big.Rat) *big.Rat { return new(big.Rat).SetInt(new(big.Int).Quo(r.Num(), r.Denom())) }

func ratFloor(r *big.Rat) *big.Rat { return new(big.Rat).SetInt(new(big.Int).Div(r.Num(), r.Denom())) }

func ratCeil(r *big.Rat) *big.Rat {
	return ratFloor(new(big.Rat).Neg(r)).Neg(ratFloor(new(big.Rat).Neg(r)))
}

// numbers gives a function of one number its three signatures.
func numbers(ints, floats func(values) (store.Value, error), rats func(*big.Rat) (store.Value, error)) []function {
	return []function{sig(int64Type, ints, int64Type), sig(float64Type, floats, float64Type), onRat(rats), sig(float32Type, floats, float32Type)}
}

// safely turns an error of arithmetic into NULL.
func safely(op ast.BinaryOp) []function {
	var out []function
	for _, t := range []*store.Type{int64Type, float64Type, numericType} {
		if op == ast.OpDiv && t == int64Type {
			continue
		}
		out = append(out, pure(t, func(v values) store.Value {
			z, err := arithmetic(op, t, v[0], v[1])
			if err != nil {
				return store.Value{}
			}
			return z
		}, t, t))
	}
	return out
}

var mathFunctions = map[string][]function{
	"ABS": numbers(func(v values) (store.Value, error) {
		if v[0].Int == math.MinInt64 {
			return store.Value{}, outOfRange("int64 overflow: ABS(%d)", v[0].Int)
		}
		return intValue(abs64(v[0].Int)), nil
	}, func(v values) (store.Value, error) { return floatValue(math.Abs(v[0].Float)), nil },
		func(r *big.Rat) (store.Value, error) { return roundedNumeric(r.Abs(r)) }),
	"SIGN": numbers(func(v values) (store.Value, error) {
		switch {
		case v[0].Int > 0:
			return intValue(1), nil
		case v[0].Int < 0:
			return intValue(-1), nil
		}
		return intValue(0), nil
	}, func(v values) (store.Value, error) {
		switch f := v[0].Float; {
		case f > 0:
			return floatValue(1), nil
		case f < 0:
			return floatValue(-1), nil
		default:
			return floatValue(f), nil // 0 and NaN
		}
	}, func(r *big.Rat) (store.Value, error) { return roundedNumeric(new(big.Rat).SetInt64(int64(r.Sign()))) }),
	"ROUND":   rounding(true, math.Round, ratRound),
	"TRUNC":   rounding(true, math.Trunc, ratTrunc),
	"CEIL":    rounding(false, math.Ceil, ratCeil),
	"CEILING": rounding(false, math.Ceil, ratCeil),
	"FLOOR":   rounding(false, math.Floor, ratFloor),
	"MOD": {
		sig(int64Type, func(v values) (store.Value, error) {
			switch v[1].Int {
			case 0:
				return store.Value{}, outOfRange("division by zero: MOD(%d, 0)", v[0].Int)
			case -1:
				return intValue(0), nil
			}
			return intValue(v[0].Int % v[1].Int), nil
		}, int64Type, int64Type),
		sig(numericType, func(v values) (store.Value, error) {
			a, b := ratOf(v[0]), ratOf(v[1])
			if b.Sign() == 0 {
				return store.Value{}, outOfRange("division by zero: MOD(%s, 0)", v[0].Text)
			}
			return roundedNumeric(a.Sub(a, new(big.Rat).Mul(b, ratTrunc(new(big.Rat).Quo(a, b)))))
		}, numericType, numericType),
	},
	"DIV": {
		sig(int64Type, func(v values) (store.Value, error) {
			switch v[1].Int {
			case 0:
				return store.Value{}, outOfRange("division by zero: DIV(%d, 0)", v[0].Int)
			case -1:
				return intArithmetic(ast.OpSub, 0, v[0].Int)
			}
			return intValue(v[0].Int / v[1].Int), nil
		}, int64Type, int64Type),
		sig(numericType, func(v values) (store.Value, error) {
			b := ratOf(v[1])
			if b.Sign() == 0 {
				return store.Value{}, outOfRange("division by zero: DIV(%s, 0)", v[0].Text)
			}
			return roundedNumeric(ratTrunc(b.Quo(ratOf(v[0]), b)))
		}, numericType, numericType),
	},
	"SAFE_ADD": safely(ast.OpAdd), "SAFE_SUBTRACT": safely(ast.OpSub), "SAFE_MULTIPLY": safely(ast.OpMul), "SAFE_DIVIDE": safely(ast.OpDiv),
	"SAFE_NEGATE": numbers(func(v values) (store.Value, error) {
		if v[0].Int == math.MinInt64 {
			return store.Value{}, nil
		}
		return intValue(-v[0].Int), nil
	}, func(v values) (store.Value, error) { return floatValue(-v[0].Float), nil },
		func(r *big.Rat) (store.Value, error) { return roundedNumeric(r.Neg(r)) }),
	"IEEE_DIVIDE": {pure(float64Type, func(v values) store.Value { return floatValue(v[0].Float / v[1].Float) }, float64Type, float64Type)},
	"SQRT":        onFloat("SQRT", math.Sqrt), "EXP": onFloat("EXP", math.Exp), "LN": onFloat("LN", math.Log), "LOG10": onFloat("LOG10", math.Log10),
	"SIN": onFloat("SIN", math.Sin), "COS": onFloat("COS", math.Cos), "TAN": onFloat("TAN", math.Tan),
	"ASIN": onFloat("ASIN", math.Asin), "ACOS": onFloat("ACOS", math.Acos), "ATAN": onFloat("ATAN", math.Atan),
	"SINH": onFloat("SINH", math.Sinh), "COSH": onFloat("COSH", math.Cosh), "TANH": onFloat("TANH", math.Tanh),
	"ASINH": onFloat("ASINH", math.Asinh), "ACOSH": onFloat("ACOSH", math.Acosh), "ATANH": onFloat("ATANH", math.Atanh),
	"ATAN2": {pure(float64Type, func(v values) store.Value { return floatValue(math.Atan2(v[0].Float, v[1].Float)) }, float64Type, float64Type)},
	"LOG": {sig(float64Type, func(v values) (store.Value, error) {
		if len(v) == 1 {
			return checkedFloat("LOG", math.Log(v[0].Float), v...)
		}
		base := v[1].Float
		switch base { // exact where math can be
		case 10:
			return checkedFloat("LOG", math.Log10(v[0].Float), v...)
		case 2:
			return checkedFloat("LOG", math.Log2(v[0].Float), v...)
		}
		return checkedFloat("LOG", math.Log(v[0].Float)/math.Log(base), v...)
	}, float64Type, float64Type).optional(1)},
	"POW": power, "POWER": power,
	"IS_NAN":      {pure(boolType, func(v values) store.Value { return boolValue(math.IsNaN(v[0].Float)) }, float64Type)},
	"IS_INF":      {pure(boolType, func(v values) store.Value { return boolValue(math.IsInf(v[0].Float, 0)) }, float64Type)},
	"BIT_COUNT":   {pure(int64Type, func(v values) store.Value { return intValue(int64(bits.OnesCount64(uint64(v[0].Int)))) }, int64Type), bitCount},
	"BIT_REVERSE": {pure(int64Type, func(v values) store.Value { return intValue(bitReverse(v[0].Int, v[1].Int != 0)) }, int64Type, boolType)},
}

var bitCount = pure(int64Type, func(v values) store.Value {
	n := 0
	for i := range len(v[0].Text) {
		n += bits.OnesCount8(v[0].Text[i])
	}
	return intValue(int64(n))
}, bytesType)

// bitReverse reverses the order of the bits; with keepSign the sign bit stays where it is.
func bitReverse(n int64, keepSign bool) int64 {
	if !keepSign {
		return int64(bits.Reverse64(uint64(n)))
	}
	return n&math.MinInt64 | int64(bits.Reverse64(uint64(n)<<1))
}

var power = []function{
	sig(float64Type, func(v values) (store.Value, error) {
		return checkedFloat("POW", math.Pow(v[0].Float, v[1].Float), v...)
	}, float64Type, float64Type),
	sig(numericType, func(v values) (store.Value, error) {
		a, b := ratOf(v[0]), ratOf(v[1])
		if b.IsInt() && b.Num().IsInt64() && abs64(b.Num().Int64()) <= 200 {
			n := b.Num().Int64()
			if a.Sign() == 0 && n < 0 {
				return store.Value{}, outOfRange("division by zero: POW(%s, %s)", v[0].Text, v[1].Text)
			}
			z := big.NewRat(1, 1)
			for range abs64(n) {
				z.Mul(z, a)
			}
			if n < 0 {
				z.Inv(z)
			}
			return roundedNumeric(z)
		}
		x, _ := a.Float64()
		y, _ := b.Float64()
		z := new(big.Rat).SetFloat64(math.Pow(x, y))
		if z == nil {
			return store.Value{}, outOfRange("Floating point error in function: POW(%s, %s)", v[0].Text, v[1].Text)
		}
		return roundedNumeric(z)
	}, numericType, numericType),
}
