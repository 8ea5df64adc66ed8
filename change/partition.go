package change

// Partition is a change-stream partition: a range of keys over a range of time, named by an opaque token.
type Partition struct {
	Token string
	// Parents are the tokens whose keys this partition took over at Start; empty for those an initial query found.
	Parents []string
	// Start is when the partition begins; a change committed exactly at Start belongs to it.
	Start Timestamp
}

// Frame is what the reader hands over at a time, from one partition: changes in position order, and the promise Through.
//
// The frame owns its memory. Frames of a partition follow one another: every change of a frame has a commit timestamp above
// the Through of the frame before it and at or below its own, so a commit timestamp is never torn (I5).
//
// A checkpoint at the Through of a frame with Sources, or of the last one, would forget what happened at that very instant:
// where reading goes on after a restart, neither the move nor the end would be seen again. It must stay below.
type Frame struct {
	Token string
	// Changes are in position order; possibly none (a heartbeat).
	Changes []Change
	// Through promises that every change of the partition with a commit timestamp at or below it has been handed over.
	Through Timestamp
	// Children are the partitions discovered so far that no earlier frame announced. With mutable key ranges they come in the
	// middle of a partition, without parents, no later than with the frame whose Through reaches their start.
	Children []Partition
	// Sources are the partitions that handed keys over to this one exactly at Through, with mutable key ranges. Nothing that
	// follows may be delivered before each of them is through Through as well (I3).
	Sources []string
	// MovedOut says that keys were handed over to other partitions since the frame before: they wait for this one.
	MovedOut bool
	// Ended says that the partition has ended: no frame follows, and its children take over after Through.
	Ended bool
	// Bytes is the memory the frame holds. Reserved of them are already taken from the receiver's budget, which the receiver
	// gives back.
	Bytes, Reserved int
}

// Chain is a lane of an append-only destination: one table's changes of one partition in one incarnation.
type Chain struct {
	Pipeline    string
	Incarnation int64
	Token       string
	Table       string
}

// Segment describes one immutable archive object: a run of one chain.
type Segment struct {
	Chain Chain
	// Name is the object's name below the archive's prefix.
	Name        string
	Generation  int64
	First, Last Position
	// Count is the number of changes and Bytes the object's size.
	Count int64
	Bytes int64
	// SHA256 is the digest of the object's bytes, in lower-case hex, and Fingerprint that of its schema.
	SHA256, Fingerprint string
	// Previous is the digest of the chain's segment before this one, "" for the first.
	Previous string
}
