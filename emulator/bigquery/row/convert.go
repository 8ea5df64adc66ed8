package row

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"time"

	"cloud.google.com/go/civil"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// converter returns how values of a message's field become values of a column, or nil where they cannot: the table of
// https://cloud.google.com/bigquery/docs/supported-data-types#supported_protocol_buffer_data_types.
func converter(fd protoreflect.FieldDescriptor, f *Field) func(protoreflect.Value) (Value, error) {
	if fd.Message() != nil {
		return messageConverter(fd.Message(), f)
	}
	kind := fd.Kind()
	number := integer(kind)
	switch {
	case kind == protoreflect.StringKind && f.Kind != Int64 && f.Kind != Float64 && f.Kind != Bool:
		return func(v protoreflect.Value) (Value, error) { return ParseText(f, v.String()) }
	case kind == protoreflect.BytesKind:
		switch f.Kind {
		case Bytes:
			return func(v protoreflect.Value) (Value, error) { return checkBytes(f, v.Bytes()) }
		case Numeric, BigNumeric:
			return func(v protoreflect.Value) (Value, error) { return unpackDecimal(f, v.Bytes()) }
		}
	case kind == protoreflect.EnumKind:
		values := fd.Enum().Values()
		switch f.Kind {
		case Int64:
			return func(v protoreflect.Value) (Value, error) { return int64(v.Enum()), nil }
		case String:
			return func(v protoreflect.Value) (Value, error) {
				e := values.ByNumber(v.Enum())
				if e == nil {
					return nil, fmt.Errorf("%d is not a value of enum %s", v.Enum(), fd.Enum().Name())
				}
				return ParseText(f, string(e.Name()))
			}
		}
	case kind == protoreflect.BoolKind && f.Kind == Bool:
		return func(v protoreflect.Value) (Value, error) { return v.Bool(), nil }
	case kind == protoreflect.DoubleKind || kind == protoreflect.FloatKind:
		switch f.Kind {
		case Float64:
			return func(v protoreflect.Value) (Value, error) { return v.Float(), nil }
		case Numeric, BigNumeric:
			return func(v protoreflect.Value) (Value, error) { return floatDecimal(f, v.Float()) }
		}
	case number != nil:
		if c := integerConverter(kind, f); c != nil {
			return func(v protoreflect.Value) (Value, error) { return c(number(v)) }
		}
		if f.Kind == Numeric || f.Kind == BigNumeric { // the only kinds that take all of uint64
			return func(v protoreflect.Value) (Value, error) {
				return checkDecimal(f, new(big.Rat).SetInt(new(big.Int).SetUint64(v.Uint())))
			}
		}
	}
	return nil
}

// integer returns how to read an integer kind; what does not fit an int64 wraps.
func integer(kind protoreflect.Kind) func(protoreflect.Value) int64 {
	switch kind {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind,
		protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.Value.Int
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return func(v protoreflect.Value) int64 { return int64(v.Uint()) }
	}
	return nil
}

func integerConverter(kind protoreflect.Kind, f *Field) func(int64) (Value, error) {
	unsigned64 := kind == protoreflect.Uint64Kind || kind == protoreflect.Fixed64Kind
	switch f.Kind {
	case Bool:
		return func(n int64) (Value, error) { return n != 0, nil }
	case Int64:
		if !unsigned64 {
			return func(n int64) (Value, error) { return n, nil }
		}
	case Numeric, BigNumeric:
		if !unsigned64 {
			return func(n int64) (Value, error) { return checkDecimal(f, new(big.Rat).SetInt64(n)) }
		}
	case Timestamp:
		if !unsigned64 {
			return func(n int64) (Value, error) { return checkTimestamp(time.UnixMicro(n)) }
		}
	case Date:
		if slices.Contains([]protoreflect.Kind{protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind, protoreflect.Int64Kind}, kind) {
			return unpackDate
		}
	case DateTime:
		if kind == protoreflect.Int64Kind {
			return unpackDateTime
		}
	case Time:
		if kind == protoreflect.Int64Kind {
			return unpackTime
		}
	}
	return nil
}

// messageConverter handles Google's well-known messages; their first field is the value of a wrapper.
func messageConverter(md protoreflect.MessageDescriptor, f *Field) func(protoreflect.Value) (Value, error) {
	switch md.FullName() {
	case "google.protobuf.Timestamp":
		if f.Kind != Timestamp {
			return nil
		}
		seconds, nanos := md.Fields().ByNumber(1), md.Fields().ByNumber(2)
		return func(v protoreflect.Value) (Value, error) {
			s, n := v.Message().Get(seconds).Int(), v.Message().Get(nanos).Int()
			if s < minTime.Unix() || s > maxTime.Unix() || n < 0 || n > 999_999_999 {
				return nil, fmt.Errorf("timestamp of %d s and %d ns is out of range", s, n)
			}
			return time.Unix(s, n).UTC().Truncate(time.Microsecond), nil
		}
	case "google.protobuf.DoubleValue", "google.protobuf.FloatValue", "google.protobuf.Int64Value", "google.protobuf.Int32Value",
		"google.protobuf.UInt32Value", "google.protobuf.UInt64Value", "google.protobuf.BoolValue",
		"google.protobuf.StringValue", "google.protobuf.BytesValue":
		value := md.Fields().ByNumber(1)
		convert := converter(value, f)
		if convert == nil {
			return nil
		}
		return func(v protoreflect.Value) (Value, error) { return convert(v.Message().Get(value)) }
	}
	return nil
}

func floatDecimal(f *Field, x float64) (Value, error) {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil, fmt.Errorf("%v is not a %s", x, f.Kind)
	}
	// Exactly x, rounded to the kind's scale, half away from zero as SQL casts do.
	r, ok := new(big.Rat).SetString(new(big.Rat).SetFloat64(x).FloatString(int(scaleOf(f.Kind))))
	if !ok {
		return nil, fmt.Errorf("%v is not a %s", x, f.Kind)
	}
	return checkDecimal(f, r)
}

// unpackDecimal reads the storage form of a decimal: the value times ten to the scale as little-endian two's complement.
func unpackDecimal(f *Field, b []byte) (Value, error) {
	if limit := map[Kind]int{Numeric: 16, BigNumeric: 32}[f.Kind]; len(b) == 0 || len(b) > limit {
		return nil, fmt.Errorf("invalid %s bytes: %d bytes, 1 to %d are allowed", f.Kind, len(b), limit)
	}
	be := slices.Clone(b)
	slices.Reverse(be)
	n := new(big.Int).SetBytes(be)
	if be[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(be))))
	}
	return checkDecimal(f, new(big.Rat).SetFrac(n, pow10(scaleOf(f.Kind))))
}

func unpackDate(days int64) (Value, error) {
	if days < -719_162 || days > 2_932_896 { // 0001-01-01 and 9999-12-31
		return nil, fmt.Errorf("date of %d days since 1970 is outside of 0001-01-01 to 9999-12-31", days)
	}
	return civil.DateOf(time.Unix(days*86_400, 0).UTC()), nil
}

// unpackTime reads the packed form of a civil time: from the top hour, minute and second, then 20 bits of microseconds.
func unpackTime(n int64) (Value, error) {
	t := civil.Time{Hour: int(n >> 32), Minute: int(n >> 26 & 63), Second: int(n >> 20 & 63), Nanosecond: int(n&0xFFFFF) * 1000}
	if n < 0 || !t.IsValid() {
		return nil, fmt.Errorf("%d is not a packed TIME", n)
	}
	return t, nil
}

// unpackDateTime reads the packed form of a civil date and time: year, month (4 bits), day (5), and a packed time (37).
func unpackDateTime(n int64) (Value, error) {
	t, err := unpackTime(n & (1<<37 - 1))
	d := civil.Date{Year: int(n >> 46), Month: time.Month(n >> 42 & 15), Day: int(n >> 37 & 31)}
	if n < 0 || err != nil || !validDate(d) {
		return nil, fmt.Errorf("%d is not a packed DATETIME", n)
	}
	return civil.DateTime{Date: d, Time: t.(civil.Time)}, nil
}
