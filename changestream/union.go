package changestream

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/spanledger/spanledger/change"
)

// unions holds every table's schema union and interns the shapes of records. A shape is one list of columns as records name
// it; with the default capture type there is one for each set of columns written together, so a new shape is not yet a
// new schema: only a column never seen, a changed type or a changed key makes a new version of the table.
//
// Lookups of known shapes take no lock and allocate nothing.
type unions struct {
	seed   maphash.Seed
	shapes atomic.Pointer[map[uint64]*shape]
	log    *slog.Logger
	// onVersion is Options.OnTable; nil for none.
	onVersion func(*change.Table)

	mu     sync.Mutex
	tables map[string][]*change.Table // versions, oldest first
}

// shape is one interned list of columns.
type shape struct {
	table   *change.Table
	raw     []byte
	columns []shapeColumn
	keys    int
	// width is the length a row needs for the shape's columns.
	width int
	// byName is set for wide shapes only; few columns are found faster by looking at each.
	byName map[string]int
}

type shapeColumn struct {
	name string
	// index is the column's place in the table's Columns; key its place in Change.Key, -1 for a column outside the key.
	index, key int
}

// maxShapes bounds the interned shapes: past it all are forgotten and learned again.
const maxShapes = 4096

func newUnions(tables []*change.Table, log *slog.Logger) *unions {
	u := &unions{seed: maphash.MakeSeed(), tables: map[string][]*change.Table{}, log: log}
	u.shapes.Store(&map[uint64]*shape{})
	for _, t := range tables {
		u.tables[t.Name] = append(u.tables[t.Name], t)
	}
	for _, versions := range u.tables {
		slices.SortStableFunc(versions, func(a, b *change.Table) int { return cmp.Compare(a.Version, b.Version) })
	}
	return u
}

func (u *unions) hash(table, raw []byte) uint64 {
	return maphash.Bytes(u.seed, table)*31 ^ maphash.Bytes(u.seed, raw)
}

// lookup finds the shape that a record's table name and raw column list stand for.
func (u *unions) lookup(table, raw []byte) (*shape, uint64) {
	h := u.hash(table, raw)
	s := (*u.shapes.Load())[h]
	if s != nil && s.table.Name == string(table) && bytes.Equal(s.raw, raw) {
		return s, h
	}
	return nil, h
}

// learn interns a shape not seen before, making a new version of its table if it must.
func (u *unions) learn(h uint64, table string, raw []byte, columns []change.Column) *shape {
	u.mu.Lock()
	defer u.mu.Unlock()
	old := *u.shapes.Load()
	if s := old[h]; s != nil && s.table.Name == table && bytes.Equal(s.raw, raw) {
		return s
	}
	t, isNew := u.resolve(table, columns)
	if isNew && u.onVersion != nil {
		u.onVersion(t)
	}
	s := &shape{table: t, raw: bytes.Clone(raw)}
	for _, c := range columns {
		sc := shapeColumn{name: c.Name, index: t.Index(c.Name), key: -1}
		if c.Key {
			sc.key = slices.Index(t.Keys(), sc.index)
			s.keys++
		} else {
			s.width = max(s.width, sc.index+1)
		}
		s.columns = append(s.columns, sc)
	}
	if len(columns) > 8 {
		s.byName = make(map[string]int, len(columns))
		for i, c := range columns {
			s.byName[c.Name] = i
		}
	}
	var next map[uint64]*shape
	if len(old) >= maxShapes {
		next = map[uint64]*shape{}
	} else {
		next = maps.Clone(old)
	}
	if isNew {
		// Shapes of the older versions are resolved again, to the newest version that has their types.
		maps.DeleteFunc(next, func(_ uint64, s *shape) bool { return s.table.Name == table })
	}
	next[h] = s
	u.shapes.Store(&next)
	return s
}

// resolve answers the newest version of table that has all columns with these types and this key. If there is none it makes
// one: columns keep their places, those not in columns stay.
func (u *unions) resolve(table string, columns []change.Column) (t *change.Table, isNew bool) {
	versions := u.tables[table]
	for _, t := range slices.Backward(versions) {
		if fits(t, columns) {
			return t, false
		}
	}
	if len(versions) == 0 {
		t = change.NewTable(table, 1, slices.Clone(columns))
	} else {
		last := versions[len(versions)-1]
		next := slices.Clone(last.Columns)
		for i := range next {
			next[i].Key = false // every record names all key columns
		}
		for _, c := range columns {
			if i := last.Index(c.Name); i >= 0 {
				next[i] = c
			} else {
				next = append(next, c)
			}
		}
		t = change.NewTable(table, last.Version+1, next)
		u.log.Info("the schema of a table has changed", "table", table, "version", t.Version, "columns", len(next))
	}
	u.tables[table] = append(versions, t)
	return t, true
}

// seedTable adds a table as the database's schema has it.
func (u *unions) seedTable(table string, columns []change.Column) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.resolve(table, columns)
}

// table answers the newest version of a table that has all these columns, made if there is none.
func (u *unions) table(name string, columns []change.Column) *change.Table {
	u.mu.Lock()
	defer u.mu.Unlock()
	t, isNew := u.resolve(name, columns)
	if isNew {
		u.forgetShapes(name)
	}
	return t
}

// forgetShapes makes shapes of a table's older versions be resolved again, to the newest version that has their types.
func (u *unions) forgetShapes(table string) {
	next := maps.Clone(*u.shapes.Load())
	maps.DeleteFunc(next, func(_ uint64, s *shape) bool { return s.table.Name == table })
	u.shapes.Store(&next)
}

func fits(t *change.Table, columns []change.Column) bool {
	keys := 0
	for _, c := range columns {
		i := t.Index(c.Name)
		if i < 0 || t.Columns[i].Key != c.Key || !sameType(t.Columns[i].Type, c.Type) {
			return false
		}
		if c.Key {
			keys++
		}
	}
	return keys == len(t.Keys())
}

// sameType is Equal, except that records may leave the name of a proto or enum type out.
func sameType(a, b *change.Type) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.ProtoName != "" && b.ProtoName != "" && a.ProtoName != b.ProtoName {
		return false
	}
	return a.Code == b.Code && a.Annotation == b.Annotation && a.Name == b.Name && sameType(a.Elem, b.Elem)
}

// newest lists the newest version of every table, by name.
func (u *unions) newest() []*change.Table {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := make([]*change.Table, 0, len(u.tables))
	for _, versions := range u.tables {
		out = append(out, versions[len(versions)-1])
	}
	slices.SortFunc(out, func(a, b *change.Table) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// find answers the place in s.columns of the column called name, or -1. hint is where it is looked for first.
func (s *shape) find(name []byte, hint int) int {
	if hint < len(s.columns) && s.columns[hint].name == string(name) {
		return hint
	}
	if s.byName != nil {
		if i, ok := s.byName[string(name)]; ok {
			return i
		}
		return -1
	}
	for i := range s.columns {
		if s.columns[i].name == string(name) {
			return i
		}
	}
	return -1
}
