package bigquerysink

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/spanledger/spanledger/change"
)

// benchChange is one update of a row of eight columns, with its old values.
func benchChange() change.Change {
	table := change.NewTable("orders", 1, []change.Column{
		{Name: "id", Type: typ(change.CodeInt64), Key: true},
		{Name: "customer", Type: typ(change.CodeString)},
		{Name: "amount", Type: typ(change.CodeInt64)},
		{Name: "total", Type: typ(change.CodeNumeric)},
		{Name: "created", Type: typ(change.CodeTimestamp)},
		{Name: "paid", Type: typ(change.CodeBool)},
		{Name: "ratio", Type: typ(change.CodeFloat64)},
		{Name: "note", Type: typ(change.CodeString)},
	})
	row := change.Row{nil}
	for _, v := range []string{`"a customer's name"`, `"12345678"`, `"99.5"`, `"2026-01-02T03:04:05.123456Z"`, `true`, `0.25`, `"some words about \"it\""`} {
		row = append(row, []byte(v))
	}
	return change.Change{
		Position: change.Position{Commit: 1_767_323_045_123_456, Transaction: "1234567890123", Sequence: "00000001"},
		Table:    table, Op: change.Update, Capture: change.NewRowAndOldValues, Records: 1, Partitions: 1,
		Key: []change.Value{[]byte(`"1234567890"`)}, After: row, Before: row,
	}
}

func BenchmarkRow(b *testing.B) {
	c := benchChange()
	l := planned(b, c.Table)
	var e encoder
	row, err := e.appendRow(nil, l, &c, "0123456789abcdef0123456789abcdef")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("hand", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(row)))
		buf := make([]byte, 0, 2*len(row))
		for b.Loop() {
			if _, err := e.appendRow(buf, l, &c, "0123456789abcdef0123456789abcdef"); err != nil {
				b.Fatal(err)
			}
		}
	})
	// The same row by way of a dynamic message. Parsing the values is not counted, only setting and marshaling them.
	m := dynamicpb.NewMessage(messageType(b, l))
	if err := proto.Unmarshal(row, m); err != nil {
		b.Fatal(err)
	}
	type set struct {
		field protoreflect.FieldDescriptor
		value protoreflect.Value
	}
	var sets []set
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		sets = append(sets, set{f, v})
		return true
	})
	b.Run("dynamicpb", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(row)))
		for b.Loop() {
			m := dynamicpb.NewMessage(m.Descriptor())
			for _, s := range sets {
				m.Set(s.field, s.value)
			}
			if _, err := proto.Marshal(m); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestRowAllocates nothing once its buffers have grown.
func TestRowAllocates(t *testing.T) {
	c := benchChange()
	l := planned(t, c.Table)
	var e encoder
	buf := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := e.appendRow(buf, l, &c, "chain"); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations a row", n)
	}
}
