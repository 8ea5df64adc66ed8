package spanner_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"

	cloudspanner "cloud.google.com/go/spanner"
	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// shopFiles reads the types that tests put into proto bundles.
func shopFiles(t *testing.T) *descriptorpb.FileDescriptorSet {
	t.Helper()
	text, err := os.ReadFile("testdata/shop.textpb")
	if err != nil {
		t.Fatal(err)
	}
	files := &descriptorpb.FileDescriptorSet{}
	if err := prototext.Unmarshal(text, files); err != nil {
		t.Fatal(err)
	}
	return files
}

func serialized(t *testing.T, files *descriptorpb.FileDescriptorSet) []byte {
	t.Helper()
	b, err := proto.Marshal(files)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func shopDescriptors(t *testing.T) []byte {
	t.Helper()
	return serialized(t, shopFiles(t))
}

const shopTable = "CREATE TABLE goods (k INT64 NOT NULL, item shop.Item, color shop.Color, items ARRAY<shop.Item>, colors ARRAY<`shop.Color`>) PRIMARY KEY (k)"

// protoShop is a database with the types and a table of them.
func protoShop(t *testing.T, ddl ...string) *wire {
	t.Helper()
	l := bed(t)
	l.protos(shopDescriptors(t), append([]string{"CREATE PROTO BUNDLE (shop.Item, shop.Item.Size, shop.Color)", shopTable}, ddl...)...)
	return l
}

// protos runs schema statements with proto descriptors.
func (l *wire) protos(descriptors []byte, statements ...string) {
	l.Helper()
	if err := l.tryProtos(descriptors, statements...); err != nil {
		l.Fatal(err)
	}
}

func (l *wire) tryProtos(descriptors []byte, statements ...string) error {
	op, err := l.admin.UpdateDatabaseDdl(l.ctx, &databasepb.UpdateDatabaseDdlRequest{Database: dbName, Statements: statements, ProtoDescriptors: descriptors})
	if err != nil {
		return err
	}
	return op.Wait(l.ctx)
}

// typed is a value with a type that the client need not have a Go type for.
func typed(code sppb.TypeCode, name string, v *structpb.Value) cloudspanner.GenericColumnValue {
	return cloudspanner.GenericColumnValue{Type: &sppb.Type{Code: code, ProtoTypeFqn: name}, Value: v}
}

func base64Text(s string) *structpb.Value {
	return structpb.NewStringValue(base64.StdEncoding.EncodeToString([]byte(s)))
}

// What GetDatabaseDdl answers makes the same database again.
func TestProtoDDLRoundTrip(t *testing.T) {
	l := protoShop(t, "CREATE INDEX by_color ON goods (color DESC)", "CREATE TABLE sized (k shop.Color, w INT64 AS (item.size.w) STORED, item shop.Item, other shop.Color DEFAULT ('RED')) PRIMARY KEY (k)")
	first, err := l.admin.GetDatabaseDdl(l.ctx, &databasepb.GetDatabaseDdlRequest{Database: dbName})
	if err != nil {
		t.Fatal(err)
	}
	if len(first.GetProtoDescriptors()) == 0 || first.GetStatements()[0] != "CREATE PROTO BUNDLE (\n  shop.Color,\n  shop.Item,\n  shop.Item.Size,\n)" {
		t.Fatalf("%d bytes of descriptors, %q", len(first.GetProtoDescriptors()), first.GetStatements())
	}
	again := project + "/instances/" + instanceID + "/databases/again"
	op, err := l.admin.CreateDatabase(l.ctx, &databasepb.CreateDatabaseRequest{
		Parent: project + "/instances/" + instanceID, CreateStatement: "CREATE DATABASE again",
		ExtraStatements: first.GetStatements(), ProtoDescriptors: first.GetProtoDescriptors(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := op.Wait(l.ctx); err != nil {
		t.Fatal(err)
	}
	second, err := l.admin.GetDatabaseDdl(l.ctx, &databasepb.GetDatabaseDdlRequest{Database: again})
	if err != nil || !proto.Equal(first, second) {
		t.Errorf("%v, %v\nwant %v", second, err, first)
	}
	if got := l.query("SELECT LENGTH(PROTO_BUNDLE) > 0 FROM INFORMATION_SCHEMA.SCHEMATA WHERE SCHEMA_NAME = ''")[0][0]; got != "true" {
		t.Errorf("SCHEMATA has no bundle: %s", got)
	}
}

// Descriptors that cannot be used are refused with the reason; nothing changes then.
func TestBadDescriptors(t *testing.T) {
	l := protoShop(t)
	files := func(change func(f *descriptorpb.FileDescriptorProto)) []byte {
		s := shopFiles(t)
		change(s.GetFile()[0])
		return serialized(t, s)
	}
	for _, c := range []struct {
		what, statement string
		descriptors     []byte
		want            codes.Code
	}{
		{"none", "ALTER PROTO BUNDLE UPDATE (shop.Item)", nil, codes.InvalidArgument},
		{"garbage", "ALTER PROTO BUNDLE UPDATE (shop.Item)", []byte("\xff\xff\xff"), codes.InvalidArgument},
		{"too many", "ALTER PROTO BUNDLE UPDATE (shop.Item)", make([]byte, 6<<20), codes.InvalidArgument},
		{"an import is missing", "ALTER PROTO BUNDLE UPDATE (shop.Item)", files(func(f *descriptorpb.FileDescriptorProto) { f.Dependency = []string{"other.proto"} }), codes.InvalidArgument},
		{"a field of an unknown type", "ALTER PROTO BUNDLE UPDATE (shop.Item)", files(func(f *descriptorpb.FileDescriptorProto) {
			f.MessageType[0].Field[11].TypeName = proto.String(".shop.Nope")
		}), codes.InvalidArgument},
		{"the same number twice", "ALTER PROTO BUNDLE UPDATE (shop.Item)", files(func(f *descriptorpb.FileDescriptorProto) { f.MessageType[0].Field[1].Number = proto.Int32(1) }), codes.InvalidArgument},
		{"no such type", "ALTER PROTO BUNDLE INSERT (shop.Nope)", shopDescriptors(t), codes.NotFound},
		{"no such nested type", "ALTER PROTO BUNDLE INSERT (shop.Item.Nope)", shopDescriptors(t), codes.NotFound},
		{"a field", "ALTER PROTO BUNDLE INSERT (shop.Item.id)", shopDescriptors(t), codes.InvalidArgument},
		{"there already", "ALTER PROTO BUNDLE INSERT (shop.Item)", shopDescriptors(t), codes.AlreadyExists},
		{"not there", "ALTER PROTO BUNDLE UPDATE (shop.Unlisted)", shopDescriptors(t), codes.NotFound},
		{"nothing", "ALTER PROTO BUNDLE", shopDescriptors(t), codes.InvalidArgument},
		{"in use", "ALTER PROTO BUNDLE DELETE (shop.Color)", shopDescriptors(t), codes.FailedPrecondition},
		{"in use", "CREATE PROTO BUNDLE (shop.Item)", shopDescriptors(t), codes.FailedPrecondition},
		{"becomes a message", "ALTER PROTO BUNDLE UPDATE (shop.Color)", files(func(f *descriptorpb.FileDescriptorProto) {
			f.EnumType = nil
			f.MessageType = []*descriptorpb.DescriptorProto{{Name: proto.String("Color")}, f.MessageType[1]}
		}), codes.InvalidArgument},
	} {
		if err := l.tryProtos(c.descriptors, c.statement); status.Code(err) != c.want {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
	if got := fmt.Sprint(l.query("SELECT CAST('id: 1' AS shop.Item).id, CAST(5 AS shop.Color)")); got != "[[1 5]]" {
		t.Errorf("the bundle has changed: %s", got)
	}
}

// ALTER PROTO BUNDLE changes the types that it names, in columns and expressions as well, and no others.
func TestAlterProtoBundle(t *testing.T) {
	l := protoShop(t, "ALTER TABLE goods ADD COLUMN id INT64 AS (item.id) STORED")
	l.apply(cloudspanner.Insert("goods", []string{"k", "item", "color"}, []any{
		1, typed(sppb.TypeCode_PROTO, "shop.Item", base64Text("\x08\x07\x98\x06\x2a")), typed(sppb.TypeCode_ENUM, "shop.Color", structpb.NewStringValue("2"))}))
	next := shopFiles(t)
	f := next.GetFile()[0]
	f.MessageType[0].Field = append(f.MessageType[0].Field, &descriptorpb.FieldDescriptorProto{
		Name: proto.String("extra"), Number: proto.Int32(99), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_INT64.Enum(),
	})
	f.EnumType[0].Value = append(f.EnumType[0].Value, &descriptorpb.EnumValueDescriptorProto{Name: proto.String("PINK"), Number: proto.Int32(9)})
	code := func(sql string) codes.Code {
		_, err := l.tryQuery(sql)
		return cloudspanner.ErrCode(err)
	}
	if got := code("SELECT item.extra FROM goods"); got != codes.InvalidArgument {
		t.Errorf("a field that is not there yet: %v", got)
	}
	l.protos(serialized(t, next), "ALTER PROTO BUNDLE INSERT (shop.Unlisted) UPDATE (shop.Item)")
	if got := fmt.Sprint(l.query("SELECT item.extra, id, CAST(color AS STRING) FROM goods")); got != "[[42 7 GREEN]]" {
		t.Errorf("after UPDATE (shop.Item): %s", got)
	}
	if got := code("SELECT CAST('PINK' AS shop.Color)"); got != codes.OutOfRange {
		t.Errorf("the enum has changed with the message: %v", got)
	}
	l.protos(serialized(t, next), "ALTER PROTO BUNDLE UPDATE (shop.Color) DELETE (shop.Unlisted)")
	if got := fmt.Sprint(l.query("SELECT CAST('PINK' AS shop.Color)")); got != "[[9]]" {
		t.Errorf("after UPDATE (shop.Color): %s", got)
	}
	if got := code("SELECT CAST('x: 1' AS shop.Unlisted)"); got != codes.InvalidArgument {
		t.Errorf("a deleted type: %v", got)
	}
	l.protos(serialized(t, next), "ALTER TABLE goods DROP COLUMN id")
	// A definition without the field that a generated column uses would break it.
	l.protos(nil, "ALTER TABLE goods ADD COLUMN extra INT64 AS (item.extra) STORED")
	if err := l.tryProtos(shopDescriptors(t), "ALTER PROTO BUNDLE UPDATE (shop.Item)"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a field that a column needs is gone: %v", err)
	}
}

// Values travel as bytes and numbers; what cannot be one is refused, and nothing panics.
func TestProtoValues(t *testing.T) {
	l := protoShop(t)
	cols := []string{"k", "item", "color"}
	item := func(v *structpb.Value) any { return typed(sppb.TypeCode_PROTO, "shop.Item", v) }
	color := func(v *structpb.Value) any { return typed(sppb.TypeCode_ENUM, "shop.Color", v) }
	null := structpb.NewNullValue()
	for i, c := range []struct {
		item, color any
		want        codes.Code
	}{
		{item(base64Text("\x08\x07")), color(structpb.NewStringValue("5")), codes.OK},
		{item(base64Text("\xff")), color(structpb.NewStringValue("77")), codes.OK}, // neither is looked into
		{item(null), color(null), codes.OK},
		{[]byte("\x08\x01"), int64(1), codes.OK},
		{item(structpb.NewStringValue("no base64")), color(null), codes.FailedPrecondition},
		{item(structpb.NewNumberValue(1)), color(null), codes.FailedPrecondition},
		{item(null), color(structpb.NewBoolValue(true)), codes.FailedPrecondition},
		{item(null), color(structpb.NewStringValue("RED")), codes.FailedPrecondition},
		{item(null), color(structpb.NewStringValue("4294967296")), codes.FailedPrecondition},
		{item(structpb.NewListValue(&structpb.ListValue{})), color(null), codes.FailedPrecondition},
	} {
		_, err := l.client.Apply(l.ctx, []*cloudspanner.Mutation{cloudspanner.Insert("goods", cols, []any{i, c.item, c.color})})
		if cloudspanner.ErrCode(err) != c.want {
			t.Errorf("value %d: %v, want %v", i, err, c.want)
		}
	}
	for _, c := range []struct {
		sql  string
		p    any
		want string
		code codes.Code
	}{
		{"SELECT k FROM goods WHERE color = @p", color(structpb.NewStringValue("5")), "[[0]]", codes.OK},
		{"SELECT k FROM goods WHERE color = @p", typed(sppb.TypeCode_ENUM, "shop.Nope", structpb.NewStringValue("5")), "", codes.InvalidArgument},
		{"SELECT k FROM goods WHERE color = @p", typed(sppb.TypeCode_PROTO, "shop.Color", base64Text("")), "", codes.InvalidArgument},
		{"SELECT k FROM goods WHERE color = @p", typed(sppb.TypeCode_ENUM, "", structpb.NewStringValue("5")), "", codes.InvalidArgument},
		{"SELECT @p.name, @p.has_name", item(base64Text("\x08\x07")), "[[? false]]", codes.OK},
		{"SELECT @p.id", item(base64Text("\x08")), "", codes.OutOfRange},
		{"SELECT item.id FROM goods WHERE k = @p", int64(1), "", codes.OutOfRange},
		{"SELECT CAST(@p AS shop.Color)", int64(3), "", codes.OutOfRange},
		{"SELECT CAST(@p AS shop.Item).size.h", "size { h: 4 }", "[[4]]", codes.OK},
		{"SELECT CAST(@p AS shop.Item)", "size { w: 4 }", "", codes.OutOfRange},
		{"SELECT CAST(@p AS shop.Item)", strings.Repeat("parts{", 1e6), "", codes.OutOfRange},
		{"SELECT REPLACE_FIELDS(CAST('size { h: 1 }' AS shop.Item), @p AS size.h).size.h", int64(6), "[[6]]", codes.OK},
		{"SELECT REPLACE_FIELDS(CAST('size { h: 1 }' AS shop.Item), @p AS size.h)", cloudspanner.NullInt64{}, "", codes.OutOfRange},
		{"SELECT NEW shop.Item {id: @p parts {name: 'a'} tags: ['x']}.parts[OFFSET(0)].name", int64(6), "[[a]]", codes.OK},
	} {
		got, err := l.tryQuery(c.sql, "p", c.p)
		if cloudspanner.ErrCode(err) != c.code || err == nil && fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, %v, want %s, %v", c.sql, got, err, c.want, c.code)
		}
	}
}

// Change records carry messages as base64 and enums as decimals, with the types' names, in either partition mode.
func TestProtoChangeRecords(t *testing.T) {
	l := protoShop(t, "CREATE TABLE by_color (c shop.Color NOT NULL, v shop.Item) PRIMARY KEY (c)", "CREATE CHANGE STREAM s FOR ALL", "CREATE CHANGE STREAM m FOR ALL OPTIONS (partition_mode = 'MUTABLE_KEY_RANGE')")
	item, color := typed(sppb.TypeCode_PROTO, "shop.Item", base64Text("\x08\x07")), typed(sppb.TypeCode_ENUM, "shop.Color", structpb.NewStringValue("5"))
	list := func(code sppb.TypeCode, name string, v ...any) cloudspanner.GenericColumnValue {
		values, err := structpb.NewList(v)
		if err != nil {
			t.Fatal(err)
		}
		return cloudspanner.GenericColumnValue{
			Type:  &sppb.Type{Code: sppb.TypeCode_ARRAY, ArrayElementType: &sppb.Type{Code: code, ProtoTypeFqn: name}},
			Value: structpb.NewListValue(values),
		}
	}
	at := l.apply(
		cloudspanner.Insert("goods", []string{"k", "item", "color", "items", "colors"}, []any{1, item, color, list(sppb.TypeCode_PROTO, "shop.Item", "CAc=", nil), list(sppb.TypeCode_ENUM, "shop.Color", "1", nil)}),
		cloudspanner.Insert("by_color", []string{"c"}, []any{color}))
	records := l.records("s", at, at)
	wantText(t, l.mods("s", at, at), lines(
		`INSERT goods {"k":"1"} {"color":"5","colors":["1",null],"item":"CAc=","items":["CAc=",null]} {}`, `INSERT by_color {"c":"5"} {"v":null} {}`))
	var types []string
	for _, c := range records[0].ColumnTypes {
		types = append(types, c.Type.String())
	}
	wantText(t, lines(types...), lines(`{"code":"INT64"}`, `{"code":"PROTO","proto_type_fqn":"shop.Item"}`, `{"code":"ENUM","proto_type_fqn":"shop.Color"}`,
		`{"array_element_type":{"code":"PROTO","proto_type_fqn":"shop.Item"},"code":"ARRAY"}`, `{"array_element_type":{"code":"ENUM","proto_type_fqn":"shop.Color"},"code":"ARRAY"}`))
	token := l.tokens("m", at)[0]
	for _, r := range l.mustRead(call{stream: "m", from: at, end: at, token: token}) {
		if r.kind != "data" || r.mutable.GetTable() != "goods" {
			continue
		}
		types = types[:0]
		for _, c := range r.mutable.GetColumnMetadata() {
			types = append(types, c.GetType().GetCode().String()+" "+c.GetType().GetProtoTypeFqn()+c.GetType().GetArrayElementType().GetProtoTypeFqn())
		}
		for _, v := range r.mutable.GetMods()[0].GetNewValues() {
			types = append(types, fmt.Sprint(v.GetValue().AsInterface()))
		}
		wantText(t, lines(types...), lines("INT64 ", "PROTO shop.Item", "ENUM shop.Color", "ARRAY shop.Item", "ARRAY shop.Color", "CAc=", "5", "[CAc= <nil>]", "[1 <nil>]"))
		return
	}
	t.Error("no record of goods with mutable key ranges")
}
