package changestream

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spanledger/spanledger/change"
)

// framer holds a partition's changes until their commit timestamps are proven complete, and cuts frames. It is pure: no
// I/O, no clock.
type framer struct {
	token string
	limit int // Options.MaxTimestampBytes

	// held are the changes not yet handed over, in commit order; heldBytes what they take.
	held      []change.Change
	heldBytes int
	// runs divide held by commit timestamp.
	runs []run
	// proven is the commit timestamp through which everything has come; through what the last frame promised.
	proven, through change.Timestamp
	children        []change.Partition
	// ended is the children's start, 0 before any was announced.
	ended change.Timestamp
}

// run is the changes of one commit timestamp.
type run struct {
	commit change.Timestamp
	end    int // in framer.held
	bytes  int
}

func newFramer(token string, through change.Timestamp, limit int) *framer {
	return &framer{token: token, limit: limit, proven: through, through: through}
}

// begin opens a record committed at commit; the caller then appends its changes to held and calls end.
func (f *framer) begin(commit change.Timestamp) error {
	last := len(f.runs) - 1
	switch {
	case f.ended != 0:
		return fmt.Errorf("a change committed at %v came after the partition's children", commit)
	case commit <= f.proven:
		return fmt.Errorf("a change committed at %v came after everything through %v was said to have come", commit, f.proven)
	case last >= 0 && commit < f.runs[last].commit:
		return fmt.Errorf("a change committed at %v came after one committed at %v", commit, f.runs[last].commit)
	}
	if last < 0 || f.runs[last].commit != commit {
		f.runs = append(f.runs, run{commit: commit, end: len(f.held)})
		// I5: a row at T proves only T - 1 µs: more rows at T may follow.
		f.prove(commit - 1)
	}
	return nil
}

// end counts what was appended to held since begin, which takes bytes.
func (f *framer) end(bytes int) error {
	r := &f.runs[len(f.runs)-1]
	r.end = len(f.held)
	r.bytes += bytes
	f.heldBytes += bytes
	if r.bytes > f.limit {
		return &TooLargeError{Token: f.token, Commit: r.commit, Bytes: r.bytes, Limit: f.limit} // I10
	}
	return nil
}

func (f *framer) prove(t change.Timestamp) { f.proven = max(f.proven, t) }

// heartbeat takes Spanner's word that everything through t has come.
func (f *framer) heartbeat(t change.Timestamp) {
	if f.ended == 0 { // I5: behind the children it would prove the partition's end, where no query may begin
		f.prove(t)
	}
}

// child takes an announcement of partitions that begin at start, which is where this partition ends.
func (f *framer) child(start change.Timestamp, tokens []change.Partition) error {
	if last := len(f.runs) - 1; last >= 0 && f.runs[last].commit >= start {
		return fmt.Errorf("a change committed at %v belongs to a partition that ended at %v", f.runs[last].commit, start)
	}
	if start <= f.through {
		return fmt.Errorf("the partition ended at %v, after everything through %v was said to have come from it", start, f.through)
	}
	if f.ended != 0 && start != f.ended {
		return fmt.Errorf("children that start at %v and at %v", f.ended, start)
	}
	f.ended = start
	f.proven = start - 1 // I5: no promise reaches the partition's end
	for _, p := range tokens {
		if !slices.ContainsFunc(f.children, func(q change.Partition) bool { return q.Token == p.Token }) {
			f.children = append(f.children, p)
		}
	}
	return nil
}

// ready is how many bytes of held are proven and could be cut now.
func (f *framer) ready() int {
	n := 0
	for _, r := range f.runs {
		if r.commit > f.proven {
			break
		}
		n += r.bytes
	}
	return n
}

// cut answers a frame of what is proven, nil if nothing is new. A commit timestamp is never torn (I5).
func (f *framer) cut() *change.Frame {
	if f.proven <= f.through {
		return nil
	}
	frame := &change.Frame{Token: f.token, Through: f.proven}
	f.through = f.proven
	n, end := 0, 0
	for n < len(f.runs) && f.runs[n].commit <= f.proven {
		start := end
		end = f.runs[n].end
		sortChanges(f.held[start:end])
		frame.Bytes += f.runs[n].bytes
		n++
	}
	if n > 0 {
		frame.Changes = f.held[:end:end]
		var rest []change.Change
		if end < len(f.held) {
			rest = slices.Clone(f.held[end:])
		}
		f.held = rest
		f.heldBytes -= frame.Bytes
		frame.Reserved = frame.Bytes
		f.runs = append(f.runs[:0], f.runs[n:]...)
		for i := range f.runs {
			f.runs[i].end -= end
		}
	}
	return frame
}

// finish answers the partition's last frame, after its query ended well.
func (f *framer) finish() (*change.Frame, error) {
	if f.ended == 0 {
		return nil, errNoChildren
	}
	frame := f.cut()
	if frame == nil {
		frame = &change.Frame{Token: f.token, Through: f.through}
	}
	frame.Children, frame.Ended = f.children, true
	for _, c := range f.children {
		frame.Bytes += 256 + len(c.Token)
	}
	return frame, nil
}

// errNoChildren: a partition's query ended without children; such an end proves nothing, so the query is asked again.
var errNoChildren = errors.New("the query ended although the partition has not: no children were announced")

// drop forgets what was not handed over, before the query is asked again from through + 1 µs.
func (f *framer) drop() {
	*f = framer{token: f.token, limit: f.limit, proven: f.through, through: f.through}
}

// sortChanges puts the changes of one commit timestamp into position order: they arrive in another order when several
// transactions share it.
func sortChanges(changes []change.Change) {
	for i := 1; i < len(changes); i++ {
		if changes[i].Position.Compare(changes[i-1].Position) < 0 {
			slices.SortFunc(changes, func(a, b change.Change) int { return a.Position.Compare(b.Position) })
			return
		}
	}
}
