package row

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	api "google.golang.org/api/bigquery/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

func TestParseText(t *testing.T) {
	for _, c := range []struct {
		field    Field
		in, want string // want "" is an error
	}{
		{Field{Kind: Int64}, "-7", "-7"},
		{Field{Kind: Int64}, "1.0", ""},
		{Field{Kind: Int64}, "9223372036854775808", ""},
		{Field{Kind: Float64}, "1e300", "1e+300"},
		{Field{Kind: Float64}, "-inf", "-Infinity"},
		{Field{Kind: Bool}, "TRUE", "true"},
		{Field{Kind: Bool}, "1", ""},
		{Field{Kind: String, MaxLength: 2}, "äö", "äö"},
		{Field{Kind: String, MaxLength: 2}, "äöü", ""},
		{Field{Kind: String}, "\xff", ""},
		{Field{Kind: Bytes}, "\xff", "/w=="},
		{Field{Kind: Numeric}, "99999999999999999999999999999.999999999", "99999999999999999999999999999.999999999"},
		{Field{Kind: Numeric}, "100000000000000000000000000000", ""},
		{Field{Kind: Numeric}, "0.0000000001", ""},
		{Field{Kind: Numeric}, "1e5", "100000"},
		{Field{Kind: Numeric}, "1e999999999", ""},
		{Field{Kind: Numeric}, "1/3", ""},
		{Field{Kind: Numeric, Precision: 4, Scale: 2}, "99.99", "99.99"},
		{Field{Kind: Numeric, Precision: 4, Scale: 2}, "100", ""},
		{Field{Kind: Numeric, Precision: 4, Scale: 2}, "0.001", ""},
		{Field{Kind: BigNumeric}, "578960446186580977117854925043439539266", "578960446186580977117854925043439539266"},
		{Field{Kind: BigNumeric}, "578960446186580977117854925043439539267", ""},
		{Field{Kind: Timestamp}, "2026-01-02 03:04:05.000006+01:00", "2026-01-02T02:04:05.000006Z"},
		{Field{Kind: Timestamp}, "2026-01-02", "2026-01-02T00:00:00Z"},
		{Field{Kind: Timestamp}, "2026-01-02T03:04:05.0000001Z", ""},
		{Field{Kind: Timestamp}, "0001-01-01T00:00:00+01:00", ""},
		{Field{Kind: Date}, "2026-02-29", ""},
		{Field{Kind: Date}, "0001-01-01", "0001-01-01"},
		{Field{Kind: DateTime}, "2026-02-28 23:59:59.5", "2026-02-28T23:59:59.500000"},
		{Field{Kind: Time}, "24:00:00", ""},
		{Field{Kind: JSON}, `{"a":1`, ""},
		{Field{Kind: JSON}, `[1]`, "[1]"},
		{Field{Kind: Struct}, "", ""},
	} {
		v, err := ParseText(&c.field, c.in)
		if c.want == "" {
			if err == nil {
				t.Errorf("%s %q: %v, want an error", c.field.Kind, c.in, v)
			}
			continue
		}
		if err != nil || Text(c.field.Kind, v, RFC3339) != c.want {
			t.Errorf("%s %q: %v, %v, want %s", c.field.Kind, c.in, v, err, c.want)
		}
	}
}

func TestTimestampFormats(t *testing.T) {
	at := time.UnixMicro(-1_500_000).UTC()
	for f, want := range map[Format]string{Seconds: "-1.500000", Micros: "-1500000", RFC3339: "1969-12-31T23:59:58.5Z"} {
		if got := Text(Timestamp, at, f); got != want {
			t.Errorf("%d: %s, want %s", f, got, want)
		}
	}
}

func TestDecimalBytes(t *testing.T) {
	f := &Field{Kind: Numeric}
	for in, want := range map[string]string{"\x01": "0.000000001", "\xff": "-0.000000001", "\x00\xca\x9a\x3b": "1", "\x00": "0"} {
		if v, err := unpackDecimal(f, []byte(in)); err != nil || Text(Numeric, v, 0) != want {
			t.Errorf("%x: %v, %v, want %s", in, v, err, want)
		}
	}
	for _, in := range []string{"", strings.Repeat("\x01", 17), strings.Repeat("\xff", 15) + "\x7f"} {
		if v, err := unpackDecimal(f, []byte(in)); err == nil {
			t.Errorf("%x: %v, want an error", in, v)
		}
	}
	if v, err := floatDecimal(f, math.Inf(1)); err == nil {
		t.Errorf("infinity: %v", v)
	}
}

func TestDefaults(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6789, time.UTC)
	for _, c := range []struct {
		kind       Kind
		expr, want string
	}{
		{String, "'a'", "a"}, {Int64, "5", "5"}, {Bool, "true", "true"}, {Timestamp, "CURRENT_TIMESTAMP()", "2026-01-02T03:04:05.000006Z"},
		{Date, "current_date", "2026-01-02"}, {DateTime, "CURRENT_DATETIME()", "2026-01-02T03:04:05.000006"}, {Time, "CURRENT_TIME", "03:04:05.000006"},
	} {
		if v, err := Default(&Field{Kind: c.kind, Default: c.expr}, now); err != nil || Text(c.kind, v, RFC3339) != c.want {
			t.Errorf("%s: %v, %v, want %s", c.expr, v, err, c.want)
		}
	}
	if _, err := Default(&Field{Kind: String, Default: "GENERATE_UUID()"}, now); !errors.Is(err, ErrUnsupported) {
		t.Errorf("an expression: %v", err)
	}
}

func descriptor(fields ...*descriptorpb.FieldDescriptorProto) *descriptorpb.DescriptorProto {
	return &descriptorpb.DescriptorProto{Name: proto.String("Row"), Field: fields}
}

func field(name string, n int32, kind descriptorpb.FieldDescriptorProto_Type, message string) *descriptorpb.FieldDescriptorProto {
	f := &descriptorpb.FieldDescriptorProto{
		Name: proto.String(name), Number: proto.Int32(n), Type: kind.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	}
	if message != "" {
		f.TypeName = proto.String(message)
	}
	return f
}

const (
	pString  = descriptorpb.FieldDescriptorProto_TYPE_STRING
	pInt64   = descriptorpb.FieldDescriptorProto_TYPE_INT64
	pMessage = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
)

func TestWriterSchemas(t *testing.T) {
	columns := []Field{{Name: "a", Kind: String}, {Name: "n", Kind: Int64}, {Name: "at", Kind: Timestamp}, {Name: "l", Kind: Int64, Mode: Repeated}}
	optional := field("A", 1, pString, "")
	optional.Proto3Optional, optional.OneofIndex = proto.Bool(true), proto.Int32(0)
	proto3 := descriptor(optional)
	proto3.OneofDecl = []*descriptorpb.OneofDescriptorProto{{Name: proto.String("_a")}}
	for name, c := range map[string]struct {
		in   *descriptorpb.DescriptorProto
		want string
	}{
		"plain":     {descriptor(field("a", 1, pString, ""), field("n", 2, pInt64, "")), ""},
		"wrappers":  {descriptor(field("n", 1, pMessage, ".google.protobuf.Int64Value"), field("at", 2, pMessage, ".google.protobuf.Timestamp")), ""},
		"proto3":    {proto3, ""},
		"extra":     {descriptor(field("zz", 1, pString, "")), "more fields"},
		"mismatch":  {descriptor(field("n", 1, pString, "")), "cannot be written"},
		"twice":     {descriptor(field("a", 1, pString, ""), field("A", 2, pString, "")), "two fields"},
		"not list":  {descriptor(field("l", 1, pInt64, "")), "REPEATED"},
		"unknown":   {descriptor(field("a", 1, pMessage, ".gone.Message")), "gone"},
		"nameless":  {&descriptorpb.DescriptorProto{}, "no name"},
		"same tag":  {descriptor(field("a", 1, pString, ""), field("n", 1, pInt64, "")), "writer schema"},
		"recursive": {descriptor(field("a", 1, pMessage, ".Row")), "cannot be written"},
	} {
		_, err := NewDecoder(c.in, columns)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// FuzzDecode feeds both the row and the writer's schema: whatever they are, the answer is a row as wide as the table that
// can be shown, or an error.
func FuzzDecode(f *testing.F) {
	schema := &api.TableSchema{Fields: []*api.TableFieldSchema{
		{Name: "a", Type: "STRING"}, {Name: "n", Type: "INT64"}, {Name: "d", Type: "NUMERIC"}, {Name: "at", Type: "TIMESTAMP"},
		{Name: "t", Type: "DATETIME"}, {Name: "r", Type: "STRUCT", Mode: "REPEATED", Fields: []*api.TableFieldSchema{{Name: "x", Type: "DATE"}}},
	}}
	columns, err := Parse(schema)
	if err != nil {
		f.Fatal(err)
	}
	nested := descriptor(field("a", 1, pString, ""), field("n", 2, pInt64, ""), field("at", 3, pInt64, ""), field("t", 4, pInt64, ""),
		field("r", 5, pMessage, "X"), field("d", 6, descriptorpb.FieldDescriptorProto_TYPE_BYTES, ""))
	nested.Field[4].Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	x := descriptor(field("x", 1, descriptorpb.FieldDescriptorProto_TYPE_INT32, ""))
	x.Name = proto.String("X")
	nested.NestedType = []*descriptorpb.DescriptorProto{x}
	seed, err := proto.Marshal(nested)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, []byte("\x0a\x01a\x10\x05\x2a\x02\x08\x07\x32\x01\xff"))
	f.Add(seed, []byte("\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, descriptor, data []byte) {
		var dp descriptorpb.DescriptorProto
		if proto.Unmarshal(descriptor, &dp) != nil {
			return
		}
		d, err := NewDecoder(&dp, columns)
		if err != nil {
			return
		}
		r, err := d.Decode(data, nil)
		if err != nil {
			return
		}
		if len(r) != len(columns) || len(TableRow(columns, r, Seconds).F) != len(columns) {
			t.Fatalf("%d values for %d columns", len(r), len(columns))
		}
	})
}

// FuzzEvolve: any two schemas either do not go together, or the result begins with the old columns in their order.
func FuzzEvolve(f *testing.F) {
	f.Add([]byte(`{"fields":[{"name":"a","type":"STRING","mode":"REQUIRED"}]}`), []byte(`{"fields":[{"name":"b","type":"INT64"},{"name":"A","type":"STRING"}]}`))
	f.Add([]byte(`{"fields":[{"name":"r","type":"RECORD","fields":[{"name":"x","type":"NUMERIC","precision":"5"}]}]}`), []byte(`{"fields":[null]}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var old, next api.TableSchema
		if json.Unmarshal(a, &old) != nil || json.Unmarshal(b, &next) != nil {
			return
		}
		was, err := Parse(&old)
		if err != nil {
			return
		}
		merged, err := Evolve(&old, &next)
		if err != nil {
			return
		}
		is, err := Parse(merged)
		if err != nil || len(is) < len(was) {
			t.Fatalf("%v, %v became %v", err, was, is)
		}
		for i := range was {
			if !strings.EqualFold(was[i].Name, is[i].Name) || was[i].Kind != is[i].Kind {
				t.Fatalf("column %d: %v became %v", i, was[i], is[i])
			}
		}
	})
}

// FuzzParseText: a text is refused, or it is a value whose own text form reads as the same value again.
func FuzzParseText(f *testing.F) {
	for k, s := range map[Kind]string{
		Numeric: "-1.5", BigNumeric: "1e30", Timestamp: "2026-01-02 03:04:05.000006+01:00", Date: "2026-01-02", Time: "03:04:05.6",
		DateTime: "2026-01-02T03:04:05", Float64: "-1e-7", Bool: "True", JSON: "{}", Int64: "-9",
	} {
		f.Add(int(k), s)
	}
	f.Fuzz(func(t *testing.T, k int, s string) {
		field := &Field{Kind: Kind(k)}
		v, err := ParseText(field, s)
		if err != nil || field.Kind == Bytes {
			return
		}
		text := Text(field.Kind, v, RFC3339)
		again, err := ParseText(field, text)
		if err != nil || Text(field.Kind, again, RFC3339) != text {
			t.Fatalf("%s %q became %q, then %v, %v", field.Kind, s, text, again, err)
		}
	})
}
