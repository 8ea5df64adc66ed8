package bigquery_test

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/bigquery/storage/managedwriter"
	"cloud.google.com/go/civil"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// every is a table of every type, and its descriptor by hand: the text forms beside the client's binary ones.
var every = bigquery.Schema{
	{Name: "s", Type: bigquery.StringFieldType},
	{Name: "b", Type: bigquery.BytesFieldType},
	{Name: "i", Type: bigquery.IntegerFieldType},
	{Name: "f", Type: bigquery.FloatFieldType},
	{Name: "o", Type: bigquery.BooleanFieldType},
	{Name: "ts", Type: bigquery.TimestampFieldType},
	{Name: "d", Type: bigquery.DateFieldType},
	{Name: "t", Type: bigquery.TimeFieldType},
	{Name: "dt", Type: bigquery.DateTimeFieldType},
	{Name: "n", Type: bigquery.NumericFieldType},
	{Name: "bn", Type: bigquery.BigNumericFieldType},
	{Name: "j", Type: bigquery.JSONFieldType},
	{Name: "g", Type: bigquery.GeographyFieldType},
	{Name: "list", Type: bigquery.IntegerFieldType, Repeated: true},
	{Name: "rec", Type: bigquery.RecordFieldType, Schema: bigquery.Schema{
		{Name: "x", Type: bigquery.StringFieldType}, {Name: "ys", Type: bigquery.DateFieldType, Repeated: true},
	}},
	{Name: "recs", Type: bigquery.RecordFieldType, Repeated: true, Schema: bigquery.Schema{{Name: "z", Type: bigquery.IntegerFieldType}}},
}

// everyType makes every's message with the given scalar types.
func everyType(t *testing.T, types map[string]descriptorpb.FieldDescriptorProto_Type) (protoreflect.MessageDescriptor, *descriptorpb.DescriptorProto) {
	t.Helper()
	md, dp := message(t, every)
	for _, f := range dp.Field {
		if k, ok := types[f.GetName()]; ok {
			f.Type = k.Enum()
		}
	}
	return md, dp
}

func TestEveryType(t *testing.T) {
	w := start(t)
	table := w.table("every", every)
	text := descriptorpb.FieldDescriptorProto_TYPE_STRING
	_, binary := everyType(t, nil)
	_, texts := everyType(t, map[string]descriptorpb.FieldDescriptorProto_Type{
		"ts": text, "d": text, "t": text, "dt": text, "n": text, "bn": text, "b": text,
	})
	bigInt := func(s string) *big.Int { n, _ := new(big.Int).SetString(s, 10); return n }
	micros := int64(1_767_225_599_123_456)
	values := map[string]any{
		"s": "häß", "b": []byte{0, 0xff}, "i": int64(-5), "f": 1.5, "o": true, "ts": micros, "d": int32(20_000),
		"t": int64(13)<<32 | 59<<26 | 58<<20 | 1, "dt": (int64(2026)<<26|12<<22|31<<17|23<<12|59<<6|58)<<20 | 999_999,
		"n": little(bigInt("-1234567890123456789"), 16), "bn": little(bigInt("15"+zeros(37)), 32), "j": `{"a": [1]}`, "g": "POINT(1 2)",
	}
	inText := map[string]any{
		"ts": "2025-12-31T23:59:59.123456Z", "d": "2024-10-04", "t": "13:59:58.000001", "dt": "2026-12-31 23:59:58.999999",
		"n": "-1234567890.123456789", "bn": "1.5", "b": string([]byte{0, 0x7f}),
	}
	for i, dp := range []*descriptorpb.DescriptorProto{binary, texts} {
		md := standalone(t, dp)
		m := dynamicpb.NewMessage(md)
		for name, v := range values {
			if x, ok := inText[name]; ok && i == 1 {
				v = x
			}
			m.Set(md.Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOf(v))
		}
		list := m.Mutable(md.Fields().ByName("list")).List()
		list.Append(protoreflect.ValueOfInt64(1))
		list.Append(protoreflect.ValueOfInt64(2))
		rec := m.Mutable(md.Fields().ByName("rec")).Message()
		rec.Set(rec.Descriptor().Fields().ByName("x"), protoreflect.ValueOfString("in"))
		rec.Mutable(rec.Descriptor().Fields().ByName("ys")).List().Append(protoreflect.ValueOfInt32(0))
		m.Mutable(md.Fields().ByName("recs")).List().AppendMutable()
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		ms, err := w.writer.NewManagedStream(t.Context(), managedwriter.WithDestinationTable(path("every")),
			managedwriter.WithType(managedwriter.DefaultStream), managedwriter.WithSchemaDescriptor(dp))
		if err != nil {
			t.Fatal(err)
		}
		defer ms.Close()
		if resp, err := appendRows(t, ms, [][]byte{b, nil}); err != nil {
			t.Fatal(i, err, resp.GetRowErrors())
		}
	}
	got := all(t, table.Read(t.Context()), nil)
	want := []bigquery.Value{
		"häß", []byte{0, 0xff}, int64(-5), 1.5, true, time.UnixMicro(micros).UTC(), civil.Date{Year: 2024, Month: 10, Day: 4},
		civil.Time{Hour: 13, Minute: 59, Second: 58, Nanosecond: 1000},
		civil.DateTime{Date: civil.Date{Year: 2026, Month: 12, Day: 31}, Time: civil.Time{Hour: 23, Minute: 59, Second: 58, Nanosecond: 999_999_000}},
		big.NewRat(-1234567890123456789, 1_000_000_000), big.NewRat(3, 2), `{"a": [1]}`, "POINT(1 2)",
		[]bigquery.Value{int64(1), int64(2)},
		[]bigquery.Value{"in", []bigquery.Value{civil.Date{Year: 1970, Month: 1, Day: 1}}},
		[]bigquery.Value{[]bigquery.Value{nil}},
	}
	empty := make([]bigquery.Value, len(want))
	empty[13], empty[15] = []bigquery.Value{}, []bigquery.Value{}
	rats := cmp.Comparer(func(a, b *big.Rat) bool { return a.Cmp(b) == 0 })
	for i, w := range [][]bigquery.Value{want, empty, want, empty} {
		w = append([]bigquery.Value(nil), w...)
		if i == 2 {
			w[1] = []byte{0, 0x7f}
		}
		if i%2 == 1 {
			for _, k := range []int{13, 15} {
				if l, ok := got[i][k].([]bigquery.Value); !ok || len(l) != 0 {
					t.Errorf("row %d: a missing list is %v", i, got[i][k])
				}
				w[k] = got[i][k]
			}
		}
		if diff := cmp.Diff(w, got[i], rats); diff != "" {
			t.Errorf("row %d: %s", i, diff)
		}
	}
	q := w.client.Query("SELECT rec.x, ts FROM d.every WHERE ts = @at AND n < -1.5 AND d >= '2024-01-01' AND rec.x = 'in' LIMIT 1")
	q.Parameters = []bigquery.QueryParameter{{Name: "at", Value: time.UnixMicro(micros)}}
	it, err := q.Read(t.Context())
	if rows := all(t, it, err); len(rows) != 1 || rows[0][0] != "in" {
		t.Errorf("%v", rows)
	}
}

func zeros(n int) string { return fmt.Sprintf("%0*d", n, 0) }

// little is n as little-endian two's complement of size bytes.
func little(n *big.Int, size int) []byte {
	m := new(big.Int).And(n, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(8*size)), big.NewInt(1)))
	be := m.FillBytes(make([]byte, size))
	for i, j := 0, size-1; i < j; i, j = i+1, j-1 {
		be[i], be[j] = be[j], be[i]
	}
	return be
}

// standalone resolves a descriptor as the client library's users do.
func standalone(t *testing.T, dp *descriptorpb.DescriptorProto) protoreflect.MessageDescriptor {
	t.Helper()
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("t.proto"), Syntax: proto.String("proto2"), MessageType: []*descriptorpb.DescriptorProto{dp},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return fd.Messages().Get(0)
}
