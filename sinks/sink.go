package sinks

import (
	"context"
	"time"

	"github.com/spanledger/spanledger/change"
)

// LaneBy says inside which unit a sink receives changes strictly one batch after another.
type LaneBy uint8

// The kinds of lane.
const (
	// LaneByKey spreads keys over Spec.Lanes lanes by hash: order holds per key. For Writers.
	LaneByKey LaneBy = iota + 1
	// LaneByTable has one lane a table. For Writers.
	LaneByTable
	// LaneByChain has one lane a partition and table. For Appenders.
	LaneByChain
)

// Spec is what a sink tells the engine about itself once it is configured: how it wants its batches. The engine keeps to
// every bound, with two exceptions: a single change larger than MaxBytes comes alone, and so does, in a chain, a single
// commit timestamp larger than MaxChanges or MaxBytes.
type Spec struct {
	// LaneBy is the kind of lane; Lanes their number with LaneByKey (at least 1).
	LaneBy LaneBy
	Lanes  int
	// MaxChanges and MaxBytes bound a batch by number and by change.Change.Size; both must be positive.
	MaxChanges int
	MaxBytes   int
	// MaxDelay is how long a batch may stay open for more changes; 0 sends whatever is there when the lane is free.
	MaxDelay time.Duration
	// WriteTimeout bounds one call of Write, Append or End; past it the call's context ends and the engine tries again.
	// 0 means one minute.
	WriteTimeout time.Duration
}

// Batch is a run of one lane's changes. It and everything in it belong to the engine: a sink reads it until the call
// returns and copies what it keeps.
type Batch struct {
	// Chain is the lane's chain with LaneByChain, else nil.
	Chain *change.Chain
	// Changes are in position order per key; in a chain, in position order throughout and never torn within a commit
	// timestamp. There is at least one.
	Changes []change.Change
}

// Sink is the part every destination has. Calls of Write, Append and End come from several goroutines at once, one per
// lane; Open comes before all others and Close after all others, once. Close may also follow an Open that failed, and must
// be harmless then.
type Sink interface {
	// Spec is called once, before Open, and must not touch the network.
	Spec() Spec
	// Open connects, and checks that the destination is there and may be written. An error stops the pipeline at start.
	Open(ctx context.Context) error
	// Close releases what Open took.
	Close(ctx context.Context) error
}

// Writer is a sink of the first delivery protocol: at least once.
type Writer interface {
	Sink
	// Write returns nil when the whole batch is durable. A *RejectError names changes the destination will never take; the
	// others of the batch are then durable. Any other error means none is known to be durable, and the engine writes the
	// same batch again, later if the error says so (Retry), or not at all (Stop).
	Write(ctx context.Context, batch *Batch) error
}

// Appender is a sink of the second delivery protocol, chain append: exactly once. Its destination refuses a second write
// at the same place of a chain, and can say how far the first one came.
type Appender interface {
	Sink
	// Append writes the batch behind end, the chain's end so far, and returns the new end. If there is something at that
	// place already (an earlier attempt whose answer was lost, or another worker's), Append writes nothing and returns the
	// end of what is there; the engine drops the changes up to its Through and appends the rest. It must work whether the
	// earlier attempt's batch was shorter or longer than this one. Append may also write a prefix of the batch, cut between
	// two commit timestamps; the engine then calls it again with the rest.
	Append(ctx context.Context, batch *Batch, end End) (End, error)
	// End asks the destination for a chain's end: for a writer that lost it. The zero End means the chain is empty.
	End(ctx context.Context, chain change.Chain) (End, error)
}

// End is where a chain ends. The engine stores it with the checkpoint and hands it back after a restart.
type End struct {
	// Through is the position of the chain's last change; the zero Position if it has none.
	Through change.Position
	// State is the sink's own note of the place, opaque to the engine and at most MaxState bytes.
	State []byte
	// Segments are the immutable objects that this call found or made behind the end it was given, in order, to be recorded
	// with the checkpoint. The engine takes them from each returned End; they are not part of the stored state.
	Segments []change.Segment
}

// MaxState bounds End.State, in bytes: it is stored in a column of the metadata database.
const MaxState = 4096
