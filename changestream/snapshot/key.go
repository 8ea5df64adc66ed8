package snapshot

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/spanner"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/rawjson"
)

// parseKey reads a key as people write it: a JSON array with the values of the first columns of the primary key, or, of its
// first column alone, the bare value. It answers the canonical form, a JSON array of values as change streams write them; ""
// stays "", which is no bound.
func parseKey(text string, columns []change.Column) (string, error) {
	if strings.TrimSpace(text) == "" {
		return "", nil
	}
	var parts []json.RawMessage
	if err := json.Unmarshal([]byte(text), &parts); err != nil || parts == nil {
		if strings.HasPrefix(strings.TrimSpace(text), "[") {
			return "", fmt.Errorf("key %s is not a JSON array: %w", text, err)
		}
		bare, err := bareValue(text, columns)
		if err != nil {
			return "", err
		}
		parts = []json.RawMessage{bare}
	}
	switch {
	case len(parts) == 0:
		return "", errors.New("key [] has no values: leave the bound out for none")
	case len(parts) > len(columns):
		return "", fmt.Errorf("key %s has %d values, the primary key has %d columns: %s", text, len(parts), len(columns), names(columns))
	}
	out := []byte{'['}
	for i, p := range parts {
		v, err := keyPart(p, columns[i].Type)
		if err != nil {
			return "", fmt.Errorf("key %s: column %s (%s): %w", text, columns[i].Name, columns[i].Type, err)
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, v...)
	}
	return string(append(out, ']')), nil
}

func names(columns []change.Column) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = c.Name
	}
	return strings.Join(list, ", ")
}

// bareValue is a single value without quotes as JSON, by the first column's type.
func bareValue(text string, columns []change.Column) (json.RawMessage, error) {
	if len(columns) == 0 {
		return nil, errors.New("the table has no key: it holds one row, which needs no range")
	}
	if text == "null" {
		return json.RawMessage(text), nil
	}
	switch code := columns[0].Type; {
	case code != nil && (code.Code == change.CodeBool || code.Code == change.CodeFloat64 || code.Code == change.CodeFloat32):
		return json.RawMessage(text), nil
	case len(text) > 1 && text[0] == '"' && json.Valid([]byte(text)):
		return json.RawMessage(text), nil
	}
	return json.Marshal(text)
}

// keyPart checks one value of a key and answers it as change streams write it.
func keyPart(raw json.RawMessage, t *change.Type) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || d.More() {
		return nil, fmt.Errorf("%s is not a value", raw)
	}
	code := change.CodeUnknown
	if t != nil {
		code = t.Code
	}
	bad := func(want string) ([]byte, error) { return nil, fmt.Errorf("%s: want %s", raw, want) }
	switch v := v.(type) {
	case nil:
		return []byte("null"), nil
	case bool:
		if code != change.CodeBool && code != change.CodeUnknown {
			return bad("a value of the column's type")
		}
		return strconv.AppendBool(nil, v), nil
	case json.Number:
		switch code {
		case change.CodeFloat64, change.CodeFloat32, change.CodeUnknown:
			f, err := v.Float64()
			if err != nil {
				return bad("a number")
			}
			return appendFloat(nil, f, bits(t)), nil
		case change.CodeInt64, change.CodeEnum, change.CodeNumeric:
			return checkText(v.String(), code, bad)
		}
		return bad("a value of the column's type, in quotes")
	case string:
		return checkText(v, code, bad)
	}
	return bad("a simple value")
}

func checkText(s string, code change.Code, bad func(string) ([]byte, error)) ([]byte, error) {
	switch code {
	case change.CodeBool:
		return bad("true or false")
	case change.CodeFloat64, change.CodeFloat32:
		if s != "NaN" && s != "Infinity" && s != "-Infinity" {
			return bad("a number")
		}
	case change.CodeInt64, change.CodeEnum:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return bad("a whole number of 64 bits")
		}
		s = strconv.FormatInt(n, 10)
	case change.CodeNumeric:
		if _, ok := new(big.Rat).SetString(s); !ok || strings.ContainsAny(s, "/eE") {
			return bad("a decimal number")
		}
	case change.CodeTimestamp:
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return bad("a time such as 2026-01-02T15:04:05Z")
		}
		s = t.UTC().Format(time.RFC3339Nano)
	case change.CodeDate:
		if _, err := time.Parse(time.DateOnly, s); err != nil {
			return bad("a date such as 2026-01-02")
		}
	case change.CodeBytes, change.CodeProto:
		if _, err := base64.StdEncoding.DecodeString(s); err != nil {
			return bad("bytes in base64")
		}
	}
	return rawjson.AppendString(nil, s), nil
}

// spannerKey is a canonical key as Spanner's client takes it. Whatever is a string in JSON is one on the wire as well.
func spannerKey(canonical string) (spanner.Key, error) {
	if canonical == "" {
		return spanner.Key{}, nil
	}
	var parts []any
	if err := json.Unmarshal([]byte(canonical), &parts); err != nil {
		return nil, fmt.Errorf("snapshot: stored key %s cannot be read: %w", canonical, err)
	}
	key := make(spanner.Key, len(parts))
	for i, p := range parts {
		if key[i] = p; p == nil {
			key[i] = spanner.NullString{}
		}
	}
	return key, nil
}
