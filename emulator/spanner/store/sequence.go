package store

import (
	"math/bits"
	"sync/atomic"

	"google.golang.org/grpc/codes"
)

// View is one version of a view's definition; immutable.
type View struct {
	Schema string
	Name   string
	// Query is the text of the query behind it.
	Query string
	// Definer is SQL SECURITY DEFINER; otherwise it is INVOKER.
	Definer bool
}

// QualifiedName is "schema.view", or "view" in the default schema.
func (v *View) QualifiedName() string { return qualified(v.Schema, v.Name) }

func qualified(schema, name string) string {
	if schema == "" {
		return name
	}
	return schema + "." + name
}

// Sequence is one version of a bit-reversed positive sequence. All versions share one counter.
type Sequence struct {
	Schema string
	Name   string
	// Options are the options as written in DDL, without quotes, in order.
	Options []Option
	// SkipMin and SkipMax bound the values that are skipped; both 0 skip none.
	SkipMin, SkipMax int64
	// Counter is the last number used. It only rises, also in transactions that are rolled back.
	Counter *atomic.Int64
}

// QualifiedName is "schema.sequence", or "sequence" in the default schema.
func (q *Sequence) QualifiedName() string { return qualified(q.Schema, q.Name) }

// maxSkips bounds the search for a value outside of the range that is skipped, which may leave next to nothing.
const maxSkips = 1 << 20

// Fork returns a copy with a counter of its own, which goes on from this one's.
func (q *Sequence) Fork() *Sequence {
	out := *q
	out.Counter = &atomic.Int64{}
	out.Counter.Store(q.Counter.Load())
	return &out
}

// Next gives the sequence's next value. The error is FAILED_PRECONDITION where the range that is skipped leaves none.
func (q *Sequence) Next() (int64, error) {
	for range maxSkips {
		// The bits of the counter in reverse, below the sign: positive, and spread over the whole range.
		n := int64(bits.Reverse64(uint64(q.Counter.Add(1))) >> 1)
		if q.SkipMin == 0 && q.SkipMax == 0 || n < q.SkipMin || n > q.SkipMax {
			return n, nil
		}
	}
	return 0, Errorf(codes.FailedPrecondition, "The sequence %s is exhausted: its skip range from %d to %d leaves no value", q.QualifiedName(), q.SkipMin, q.SkipMax)
}
