package filter

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/spanledger/spanledger/change"
)

// decode turns a column's raw JSON into CEL's value; a CEL error, which ends the evaluation, where it does not hold what
// its type says.
func decode(v change.Value, c *change.Column) ref.Val {
	out, err := value(v, c.Type)
	if err != nil {
		return types.NewErr("column %s (%s): %v", c.Name, c.Type, err)
	}
	return out
}

func value(v []byte, t *change.Type) (ref.Val, error) {
	if string(v) == "null" {
		return types.NullValue, nil
	}
	code := change.CodeUnknown
	if t != nil {
		code = t.Code
	}
	switch code {
	case change.CodeBool:
		var b bool
		err := json.Unmarshal(v, &b)
		return types.Bool(b), err
	case change.CodeFloat64, change.CodeFloat32:
		return float(v)
	case change.CodeArray:
		var raw []json.RawMessage
		if err := json.Unmarshal(v, &raw); err != nil {
			return nil, err
		}
		elems := make([]ref.Val, len(raw))
		for i := range raw {
			var err error
			if elems[i], err = value(raw[i], t.Elem); err != nil {
				return nil, fmt.Errorf("element %d: %w", i, err)
			}
		}
		return types.NewRefValList(types.DefaultTypeAdapter, elems), nil
	case change.CodeUnknown, change.CodeStruct:
		return document(v)
	}
	s, err := text(v)
	if err != nil {
		return nil, err
	}
	switch code {
	case change.CodeInt64, change.CodeEnum:
		n, err := strconv.ParseInt(s, 10, 64)
		return types.Int(n), err
	case change.CodeTimestamp:
		at, err := time.Parse(time.RFC3339Nano, s)
		return types.Timestamp{Time: at}, err
	case change.CodeBytes, change.CodeProto:
		b, err := base64.StdEncoding.DecodeString(s)
		return types.Bytes(b), err
	case change.CodeJSON:
		return document([]byte(s))
	}
	return types.String(s), nil
}

// text is a JSON string's; a bare number is taken as its digits.
func text(v []byte) (string, error) {
	if len(v) > 0 && v[0] != '"' {
		var n json.Number
		err := json.Unmarshal(v, &n)
		return n.String(), err
	}
	var s string
	err := json.Unmarshal(v, &s)
	return s, err
}

func float(v []byte) (ref.Val, error) {
	s, err := text(v)
	if err != nil {
		return nil, err
	}
	switch s {
	case "NaN":
		return types.Double(math.NaN()), nil
	case "Infinity":
		return types.Double(math.Inf(1)), nil
	case "-Infinity":
		return types.Double(math.Inf(-1)), nil
	}
	f, err := strconv.ParseFloat(s, 64)
	return types.Double(f), err
}

// document is any JSON document, with numbers as double, as CEL has them.
func document(b []byte) (ref.Val, error) {
	var doc any
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, err
	}
	return types.DefaultTypeAdapter.NativeToValue(doc), nil
}
