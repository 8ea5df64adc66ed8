package filter

import (
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/spanledger/spanledger/change"
)

// rowMap is a row as a CEL map from column to value. Values are decoded when they are asked for, so an expression that
// looks at one column costs one column.
type rowMap struct {
	table *change.Table
	row   []change.Value
	isKey bool // row is indexed like table.Keys, not like table.Columns
}

var _ traits.Mapper = (*rowMap)(nil)

// column is the index in the table's columns of row's element i.
func (m *rowMap) column(i int) int {
	if m.isKey {
		return m.table.Keys()[i]
	}
	return i
}

// Find implements traits.Mapper.
func (m *rowMap) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), false
	}
	for i, v := range m.row {
		if v == nil {
			continue
		}
		if c := &m.table.Columns[m.column(i)]; c.Name == string(name) {
			return decode(v, c), true
		}
	}
	return nil, false
}

// Get implements traits.Indexer.
func (m *rowMap) Get(key ref.Val) ref.Val {
	v, ok := m.Find(key)
	switch {
	case ok:
		return v
	case v != nil:
		return v
	}
	return types.NewErr("no such key: %v", key)
}

// Contains implements traits.Container.
func (m *rowMap) Contains(key ref.Val) ref.Val {
	v, ok := m.Find(key)
	if !ok && v != nil {
		return v
	}
	return types.Bool(ok)
}

// Size implements traits.Sizer.
func (m *rowMap) Size() ref.Val {
	n := 0
	for _, v := range m.row {
		if v != nil {
			n++
		}
	}
	return types.Int(n)
}

// whole is the row as an ordinary map, for what is rarely asked: to go through it, or to compare or convert it.
func (m *rowMap) whole() traits.Mapper {
	all := make(map[ref.Val]ref.Val, len(m.row))
	for i, v := range m.row {
		if v != nil {
			c := &m.table.Columns[m.column(i)]
			all[types.String(c.Name)] = decode(v, c)
		}
	}
	return types.NewRefValMap(types.DefaultTypeAdapter, all)
}

// Iterator implements traits.Iterable.
func (m *rowMap) Iterator() traits.Iterator { return m.whole().Iterator() }

// Equal implements ref.Val.
func (m *rowMap) Equal(other ref.Val) ref.Val { return m.whole().Equal(other) }

// ConvertToNative implements ref.Val.
func (m *rowMap) ConvertToNative(t reflect.Type) (any, error) { return m.whole().ConvertToNative(t) }

// ConvertToType implements ref.Val.
func (m *rowMap) ConvertToType(t ref.Type) ref.Val { return m.whole().ConvertToType(t) }

// Type implements ref.Val.
func (m *rowMap) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (m *rowMap) Value() any { return m.whole().Value() }
