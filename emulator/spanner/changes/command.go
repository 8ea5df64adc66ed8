package changes

import "github.com/spanledger/spanledger/emulator/spanner/store"

// Point is a place in the key space: everything at or above it lies right of a cut.
type Point struct {
	// Table is the qualified name of the table whose key follows.
	Table string
	// Key is the (prefix of the) primary key; empty means the beginning of the table's hierarchy.
	Key store.Key
}

// Redraw is what a command did.
type Redraw struct {
	// At is the timestamp of the redraw in microseconds since 1970: the end of the ended partitions and the start of the
	// new ones.
	At int64
	// Tokens are the partitions that began.
	Tokens []string
}

// Shift moves one range of keys between two partitions of a stream with mutable key ranges.
type Shift struct {
	// From owns the range so far, To takes it; an empty To makes a new partition (one for each such Shift).
	From, To string
	// Low and High bound the range, [Low, High); nil means the respective end of From's ranges.
	Low, High *Point
}
