package change

// Op is what happened to the row.
type Op uint8

// The operations. UnknownOp is one this version has no name for.
const (
	UnknownOp Op = 0
	Insert    Op = 1
	Update    Op = 2
	Delete    Op = 3
)

// String is the operation's name as Spanner writes it: INSERT, UPDATE, DELETE; UNKNOWN otherwise.
func (o Op) String() string {
	switch o {
	case Insert:
		return "INSERT"
	case Update:
		return "UPDATE"
	case Delete:
		return "DELETE"
	}
	return "UNKNOWN"
}

// Capture is the change stream's value capture type in force when the change was written: which columns After and Before
// hold.
type Capture uint8

// The capture types.
const (
	UnknownCapture     Capture = 0
	OldAndNewValues    Capture = 1
	NewValues          Capture = 2
	NewRow             Capture = 3
	NewRowAndOldValues Capture = 4
)

// String is the capture type's name as Spanner writes it, UNKNOWN otherwise.
func (c Capture) String() string {
	switch c {
	case OldAndNewValues:
		return "OLD_AND_NEW_VALUES"
	case NewValues:
		return "NEW_VALUES"
	case NewRow:
		return "NEW_ROW"
	case NewRowAndOldValues:
		return "NEW_ROW_AND_OLD_VALUES"
	}
	return "UNKNOWN"
}

// Value is one column's value as raw JSON text, in the form change streams use: INT64 as a string of digits, BYTES in
// base64, NULL as null. A nil Value means "not captured", which is never the same as null.
type Value []byte

// IsNull reports whether v was captured and is NULL.
func (v Value) IsNull() bool { return len(v) == 4 && v[0] == 'n' }

// Row is a row's captured values, indexed like the Table's Columns. It may be shorter than Columns; what is missing or nil
// was not captured. Key columns are not in it: they are in Change.Key.
type Row []Value

// At is the value of column i, nil if it was not captured.
func (r Row) At(i int) Value {
	if i < len(r) {
		return r[i]
	}
	return nil
}

// Change is one row's change in one transaction.
//
// Its values lie in memory owned by the Frame or batch that carries it: they are valid until the sink's Write returns, and
// a sink copies what it keeps. Everything reachable from a Change is read-only.
type Change struct {
	Position Position
	Table    *Table
	Op       Op
	Capture  Capture
	// System marks transactions of Spanner itself, such as TTL deletes.
	System bool
	// Tag is the transaction tag, or "".
	Tag string
	// Key holds the primary key's values in the order of Table.Keys; all are captured.
	Key []Value
	// After holds the captured values after the change, Before those before it. Which columns they have depends on Op and
	// Capture; either may be empty.
	After, Before Row
	// Partition is the token of the change-stream partition the change was read from.
	Partition string
	// Records and Partitions count, over the whole transaction in this stream, its records and the partitions that hold them.
	Records, Partitions int32
}

// ID names the change for ever: the text of its Position, unique in a database and equal at every re-read and repeat.
func (c *Change) ID() string { return c.Position.String() }

// AppendKey appends the key in a canonical form, a JSON array of its values, which is equal for equal keys of one table
// and different for different ones.
func (c *Change) AppendKey(dst []byte) []byte {
	dst = append(dst, '[')
	for i, v := range c.Key {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, v...)
	}
	return append(dst, ']')
}

// changeOverhead is what a Change costs beside its values: the struct and its share of row headers, rounded up.
const changeOverhead = 256

// Size estimates the memory the change holds, in bytes, for budgets.
func (c *Change) Size() int {
	n := changeOverhead + len(c.Position.Transaction) + len(c.Position.Sequence) + len(c.Tag)
	for _, row := range [...][]Value{c.Key, c.After, c.Before} {
		n += 24 * len(row)
		for _, v := range row {
			n += len(v)
		}
	}
	return n
}
