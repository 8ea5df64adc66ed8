package sql

import (
	"crypto/md5" //nolint:gosec // MD5() is a function of SQL
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // SHA1() likewise
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// maxText is the longest text a function makes, in bytes.
const maxText = 1 << 20

var (
	stringArray = &store.Type{Code: store.Array, Elem: stringType}
	bytesArray  = &store.Type{Code: store.Array, Elem: bytesType}
	int64Array  = &store.Type{Code: store.Array, Elem: int64Type}
)

func onText(out *store.Type, fn func(string) store.Value, in *store.Type) function {
	return pure(out, func(v values) store.Value { return fn(v[0].Text) }, in)
}

func toText(fn func(string) string) func(string) store.Value {
	return func(s string) store.Value { return textValue(fn(s)) }
}

func listValue(list []store.Value) store.Value {
	if list == nil {
		list = []store.Value{}
	}
	return store.Value{Valid: true, List: list}
}

// both gives a function of text one signature for STRING and one for BYTES.
func both(out func(*store.Type) *store.Type, args func(t *store.Type) []*store.Type, optional int, fn func(bytes bool, v values) (store.Value, error)) []function {
	var fs []function
	for _, t := range []*store.Type{stringType, bytesType} {
		fs = append(fs, sig(out(t), func(v values) (store.Value, error) { return fn(t == bytesType, v) }, args(t)...).optional(optional))
	}
	return fs
}

func itself(t *store.Type) *store.Type { return t }

func always(t *store.Type) func(*store.Type) *store.Type {
	return func(*store.Type) *store.Type { return t }
}

func twice(t *store.Type) []*store.Type { return []*store.Type{t, t} }

func once(t *store.Type) []*store.Type { return []*store.Type{t} }

func infallible(fn func(bytes bool, v values) store.Value) func(bool, values) (store.Value, error) {
	return func(b bool, v values) (store.Value, error) { return fn(b, v), nil }
}

var textFunctions = map[string][]function{
	"LOWER": both(itself, once, 0, infallible(func(bytes bool, v values) store.Value { return textValue(lower(bytes, v[0].Text)) })),
	"UPPER": both(itself, once, 0, infallible(func(bytes bool, v values) store.Value { return textValue(upper(bytes, v[0].Text)) })),
	"TRIM": both(itself, twice, 1, infallible(func(bytes bool, v values) store.Value {
		return textValue(trimRight(bytes, trimLeft(bytes, v[0].Text, v[1:]), v[1:]))
	})),
	"LTRIM":            both(itself, twice, 1, infallible(func(b bool, v values) store.Value { return textValue(trimLeft(b, v[0].Text, v[1:])) })),
	"RTRIM":            both(itself, twice, 1, infallible(func(b bool, v values) store.Value { return textValue(trimRight(b, v[0].Text, v[1:])) })),
	"LENGTH":           both(always(int64Type), once, 0, infallible(length)),
	"BYTE_LENGTH":      both(always(int64Type), once, 0, infallible(func(_ bool, v values) store.Value { return length(true, v) })),
	"OCTET_LENGTH":     both(always(int64Type), once, 0, infallible(func(_ bool, v values) store.Value { return length(true, v) })),
	"CHAR_LENGTH":      {pure(int64Type, func(v values) store.Value { return length(false, v) }, stringType)},
	"CHARACTER_LENGTH": {pure(int64Type, func(v values) store.Value { return length(false, v) }, stringType)},
	"STARTS_WITH": both(always(boolType), twice, 0, infallible(func(_ bool, v values) store.Value {
		return boolValue(strings.HasPrefix(v[0].Text, v[1].Text))
	})),
	"ENDS_WITH": both(always(boolType), twice, 0, infallible(func(_ bool, v values) store.Value {
		return boolValue(strings.HasSuffix(v[0].Text, v[1].Text))
	})),
	"STRPOS": both(always(int64Type), twice, 0, infallible(func(bytes bool, v values) store.Value {
		i := strings.Index(v[0].Text, v[1].Text)
		if i >= 0 && !bytes {
			i = utf8.RuneCountInString(v[0].Text[:i])
		}
		return intValue(int64(i + 1))
	})),
	"REPLACE": both(itself, func(t *store.Type) []*store.Type { return []*store.Type{t, t, t} }, 0, func(_ bool, v values) (store.Value, error) {
		if v[1].Text == "" {
			return v[0], nil
		}
		if n := strings.Count(v[0].Text, v[1].Text); len(v[0].Text)+n*len(v[2].Text) > 10*maxText {
			return store.Value{}, outOfRange("the result of REPLACE is too long")
		}
		return textValue(strings.ReplaceAll(v[0].Text, v[1].Text, v[2].Text)), nil
	}),
	"SUBSTR":    both(itself, substrArgs, 1, substr),
	"SUBSTRING": both(itself, substrArgs, 1, substr),
	"REVERSE": both(itself, once, 0, infallible(func(bytes bool, v values) store.Value {
		if bytes {
			b := []byte(v[0].Text)
			slices.Reverse(b)
			return textValue(string(b))
		}
		r := []rune(v[0].Text)
		slices.Reverse(r)
		return textValue(string(r))
	})),
	"REPEAT": both(itself, func(t *store.Type) []*store.Type { return []*store.Type{t, int64Type} }, 0, func(_ bool, v values) (store.Value, error) {
		n := v[1].Int
		if n < 0 {
			return store.Value{}, outOfRange("Second argument in REPEAT() cannot be negative")
		}
		if len(v[0].Text) > 0 && n > maxText/int64(len(v[0].Text)) {
			return store.Value{}, outOfRange("the result of REPEAT is longer than %d bytes", maxText)
		}
		if v[0].Text == "" {
			n = 0
		}
		return textValue(strings.Repeat(v[0].Text, int(n))), nil
	}),
	"LPAD": both(itself, padArgs, 1, func(bytes bool, v values) (store.Value, error) { return pad(bytes, true, v) }),
	"RPAD": both(itself, padArgs, 1, func(bytes bool, v values) (store.Value, error) { return pad(bytes, false, v) }),
	"SPLIT": {
		pure(stringArray, func(v values) store.Value { return split(v[0].Text, ",", v[1:]) }, stringType, stringType).optional(1),
		pure(bytesArray, func(v values) store.Value { return split(v[0].Text, "", v[1:]) }, bytesType, bytesType),
	},
}

func lower(bytes bool, s string) string {
	if bytes {
		return asciiMap(s, 'A', 'Z', 'a'-'A')
	}
	return strings.ToLower(s)
}

func upper(bytes bool, s string) string {
	if bytes {
		return asciiMap(s, 'a', 'z', -('a' - 'A'))
	}
	return strings.ToUpper(strings.ReplaceAll(s, "ß", "SS"))
}

func asciiMap(s string, from, to byte, by int) string {
	b := []byte(s)
	for i, c := range b {
		if c >= from && c <= to {
			b[i] = byte(int(c) + by)
		}
	}
	return string(b)
}

// trimLeft drops leading white space, or with an argument the characters (bytes) in it.
func trimLeft(bytes bool, s string, set values) string {
	switch {
	case len(set) == 0:
		return strings.TrimLeftFunc(s, unicode.IsSpace)
	case bytes:
		for s != "" && strings.IndexByte(set[0].Text, s[0]) >= 0 {
			s = s[1:]
		}
		return s
	}
	return strings.TrimLeft(s, set[0].Text)
}

func trimRight(bytes bool, s string, set values) string {
	switch {
	case len(set) == 0:
		return strings.TrimRightFunc(s, unicode.IsSpace)
	case bytes:
		for s != "" && strings.IndexByte(set[0].Text, s[len(s)-1]) >= 0 {
			s = s[:len(s)-1]
		}
		return s
	}
	return strings.TrimRight(s, set[0].Text)
}

func length(bytes bool, v values) store.Value {
	if bytes {
		return intValue(int64(len(v[0].Text)))
	}
	return intValue(int64(utf8.RuneCountInString(v[0].Text)))
}

// units cuts a text into what positions count: characters, or bytes.
func units(bytes bool, s string) []string {
	if !bytes {
		return strings.Split(s, "")
	}
	out := make([]string, len(s))
	for i := range out {
		out[i] = s[i : i+1]
	}
	return out
}

func substrArgs(t *store.Type) []*store.Type { return []*store.Type{t, int64Type, int64Type} }

func substr(bytes bool, v values) (store.Value, error) {
	u := units(bytes, v[0].Text)
	n := int64(len(u))
	pos := v[1].Int
	switch {
	case pos < -n:
		pos = 0
	case pos < 0:
		pos += n
	case pos > 0:
		pos--
	}
	pos = min(pos, n)
	end := n
	if len(v) == 3 {
		if v[2].Int < 0 {
			return store.Value{}, outOfRange("Third argument in SUBSTR() cannot be negative")
		}
		if v[2].Int < n-pos {
			end = pos + v[2].Int
		}
	}
	return textValue(strings.Join(u[pos:end], "")), nil
}

func padArgs(t *store.Type) []*store.Type { return []*store.Type{t, int64Type, t} }

func pad(bytes, left bool, v values) (store.Value, error) {
	with := " "
	if len(v) == 3 {
		with = v[2].Text
	}
	switch {
	case v[1].Int < 0:
		return store.Value{}, outOfRange("the length to pad to must not be negative")
	case v[1].Int > maxText:
		return store.Value{}, outOfRange("the length to pad to is over %d", maxText)
	case with == "":
		return store.Value{}, outOfRange("the pattern to pad with must not be empty")
	}
	u, n := units(bytes, v[0].Text), int(v[1].Int)
	if len(u) >= n {
		return textValue(strings.Join(u[:n], "")), nil
	}
	w := units(bytes, with)
	fill := make([]string, n-len(u))
	for i := range fill {
		fill[i] = w[i%len(w)]
	}
	if left {
		return textValue(strings.Join(fill, "") + v[0].Text), nil
	}
	return textValue(v[0].Text + strings.Join(fill, "")), nil
}

func split(s, by string, given values) store.Value {
	if len(given) > 0 {
		by = given[0].Text
	}
	parts := strings.Split(s, by)
	if s == "" {
		parts = []string{""}
	}
	list := make(values, len(parts))
	for i, p := range parts {
		list[i] = textValue(p)
	}
	return listValue(list)
}

func digest(fn func([]byte) []byte) []function {
	return both(always(bytesType), once, 0, infallible(func(_ bool, v values) store.Value { return textValue(string(fn([]byte(v[0].Text)))) }))
}

var bytesFunctions = map[string][]function{
	"TO_HEX":    {onText(stringType, toText(func(s string) string { return hex.EncodeToString([]byte(s)) }), bytesType)},
	"TO_BASE64": {onText(stringType, toText(func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }), bytesType)},
	"FROM_HEX": {sig(bytesType, func(v values) (store.Value, error) {
		s := v[0].Text
		if len(s)%2 == 1 {
			s = "0" + s
		}
		b, err := hex.DecodeString(s)
		if err != nil {
			return store.Value{}, outOfRange("Failed to decode invalid hexadecimal string due to character: %q", v[0].Text)
		}
		return textValue(string(b)), nil
	}, stringType)},
	"FROM_BASE64": {sig(bytesType, func(v values) (store.Value, error) {
		b, err := base64.StdEncoding.DecodeString(v[0].Text)
		if err != nil {
			return store.Value{}, outOfRange("Failed to decode invalid base64 string")
		}
		return textValue(string(b)), nil
	}, stringType)},
	"TO_CODE_POINTS": {
		pure(int64Array, func(v values) store.Value {
			var list values
			for _, r := range v[0].Text {
				list = append(list, intValue(int64(r)))
			}
			return listValue(list)
		}, stringType),
		pure(int64Array, func(v values) store.Value {
			var list values
			for i := range len(v[0].Text) {
				list = append(list, intValue(int64(v[0].Text[i])))
			}
			return listValue(list)
		}, bytesType),
	},
	"CODE_POINTS_TO_STRING": {sig(stringType, func(v values) (store.Value, error) {
		var b strings.Builder
		for _, e := range v[0].List {
			if !e.Valid {
				return store.Value{}, nil
			}
			if e.Int < 0 || e.Int > unicode.MaxRune || !utf8.ValidRune(rune(e.Int)) {
				return store.Value{}, outOfRange("Invalid codepoint %d", e.Int)
			}
			b.WriteRune(rune(e.Int))
		}
		return textValue(b.String()), nil
	}, int64Array)},
	"CODE_POINTS_TO_BYTES": {sig(bytesType, func(v values) (store.Value, error) {
		var b []byte
		for _, e := range v[0].List {
			if !e.Valid {
				return store.Value{}, nil
			}
			if e.Int < 0 || e.Int > 255 {
				return store.Value{}, outOfRange("Invalid extended ASCII code points %d", e.Int)
			}
			b = append(b, byte(e.Int))
		}
		return textValue(string(b)), nil
	}, int64Array)},
	"SAFE_CONVERT_BYTES_TO_STRING": {onText(stringType, toText(func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }), bytesType)},
	"MD5":                          digest(func(b []byte) []byte { s := md5.Sum(b); return s[:] }),  //nolint:gosec // asked for by name
	"SHA1":                         digest(func(b []byte) []byte { s := sha1.Sum(b); return s[:] }), //nolint:gosec // asked for by name
	"SHA256":                       digest(func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }),
	"SHA512":                       digest(func(b []byte) []byte { s := sha512.Sum512(b); return s[:] }),
	"FARM_FINGERPRINT": both(always(int64Type), once, 0, infallible(func(_ bool, v values) store.Value {
		return intValue(int64(fingerprint(v[0].Text)))
	})),
}

var idFunctions = map[string][]function{
	"CURRENT_TIMESTAMP": {{out: timestampType, fn: func(now time.Time, _ values) (store.Value, error) { return store.TimeValue(now), nil }}},
	"GENERATE_UUID":     {{out: stringType, volatile: true, fn: func(time.Time, values) (store.Value, error) { return textValue(newUUID()), nil }}},
	"NEW_UUID":          {{out: uuidType, volatile: true, fn: func(time.Time, values) (store.Value, error) { return textValue(newUUID()), nil }}},
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	b[6], b[8] = b[6]&0x0F|0x40, b[8]&0x3F|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
