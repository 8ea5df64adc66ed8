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
	// proven is the commit timestamp through which everything has come; through what the last frame promised, never more than
	// last, Options.End.
	proven, through, last change.Timestamp
	// ended is the partition's end as it was announced, 0 before: its children's start, or with mutable key ranges the last
	// instant of its own, which the end then includes.
	ended    change.Timestamp
	includes bool
	// children begin at ended; began began in mid-life and are in no frame yet, moves likewise.
	children, began []change.Partition
	moves           []move
}

// move is the handing over of keys at a timestamp, as the partition tells it.
type move struct {
	at change.Timestamp
	// sources are where keys came from; out says that some left.
	sources []string
	out     bool
}

// run is the changes of one commit timestamp.
type run struct {
	commit change.Timestamp
	end    int // in framer.held
	bytes  int
}

func newFramer(token string, through change.Timestamp, limit int) *framer {
	return &framer{token: token, limit: limit, proven: through, through: through, last: change.MaxTimestamp}
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
	f.children = appendNew(f.children, tokens)
	return nil
}

func appendNew(list, more []change.Partition) []change.Partition {
	for _, p := range more {
		if !slices.ContainsFunc(list, func(q change.Partition) bool { return q.Token == p.Token }) {
			list = append(list, p)
		}
	}
	return list
}

// control opens a record of mutable key ranges that is no change: a start, a move or an end.
func (f *framer) control(at change.Timestamp, what string) error {
	switch {
	case f.ended != 0:
		return fmt.Errorf("%s at %v came after the partition's end", what, at)
	case at <= f.proven:
		return fmt.Errorf("%s at %v came after everything through %v was said to have come", what, at, f.proven)
	}
	// I5: as a row's, its timestamp is not complete with it: rows at the same one may follow, and further records.
	f.prove(at - 1)
	return nil
}

// start takes an announcement of partitions that begin in this one's mid-life. The next frame has them, whatever it
// promises, so no promise can pass them (I3).
func (f *framer) start(at change.Timestamp, tokens []change.Partition) error {
	if err := f.control(at, "the start of partitions"); err != nil {
		return err
	}
	f.began = appendNew(f.began, tokens)
	return nil
}

// moved takes a move of keys from sources, or out to others, or both.
func (f *framer) moved(at change.Timestamp, sources []string, out bool) error {
	if err := f.control(at, "a move of keys"); err != nil {
		return err
	}
	last := len(f.moves) - 1
	if last < 0 || f.moves[last].at != at {
		f.moves = append(f.moves, move{at: at})
		last++
	}
	m := &f.moves[last]
	m.sources, m.out = append(m.sources, sources...), m.out || out
	return nil
}

// endAt takes the announcement that the partition, with mutable key ranges, ends with the timestamp at.
func (f *framer) endAt(at change.Timestamp) error {
	if err := f.control(at, "the end"); err != nil {
		return err
	}
	f.ended, f.includes = at, true
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

func partitionBytes(p change.Partition) int { return 256 + len(p.Token) }

// cut answers a frame of what is proven, up to the first move-in, nil if nothing is new. A commit timestamp is never torn
// (I5).
func (f *framer) cut() *change.Frame {
	through := min(f.proven, f.last)
	if through <= f.through {
		return nil
	}
	frame := &change.Frame{Token: f.token, Through: through, Children: f.began}
	f.began = nil
	for len(f.moves) > 0 && f.moves[0].at <= frame.Through {
		m := f.moves[0]
		f.moves = f.moves[1:]
		frame.MovedOut = frame.MovedOut || m.out
		if len(m.sources) > 0 {
			// I3: a move-in closes the frame: what follows is held until the sources are through it.
			frame.Through, frame.Sources = m.at, m.sources
		}
	}
	f.through = frame.Through
	for _, c := range frame.Children {
		frame.Bytes += partitionBytes(c)
	}
	n, end, rows := 0, 0, 0
	for n < len(f.runs) && f.runs[n].commit <= frame.Through {
		start := end
		end = f.runs[n].end
		sortChanges(f.held[start:end])
		rows += f.runs[n].bytes
		n++
	}
	frame.Bytes += rows
	f.heldBytes -= rows
	if n > 0 {
		frame.Changes = f.held[:end:end]
		var rest []change.Change
		if end < len(f.held) {
			rest = slices.Clone(f.held[end:])
		}
		f.held = rest
		frame.Reserved = rows
		f.runs = append(f.runs[:0], f.runs[n:]...)
		for i := range f.runs {
			f.runs[i].end -= end
		}
	}
	return frame
}

// finish hands the rest of an ended partition to yield, after its query ended well: its last frame has Ended set, unless the
// end lies behind last.
func (f *framer) finish(yield func(*change.Frame) error) error {
	if f.includes {
		f.proven = f.ended
	}
	for f.through < f.last || f.proven <= f.last {
		frame := f.cut()
		if frame == nil {
			frame = &change.Frame{Token: f.token, Through: f.through}
		}
		if f.through == f.proven {
			frame.Ended, frame.Children = true, append(frame.Children, f.children...)
			for _, c := range f.children {
				frame.Bytes += partitionBytes(c)
			}
			return yield(frame)
		}
		if err := yield(frame); err != nil {
			return err
		}
	}
	return nil
}

// How a query ends without its partition: see ended.
var (
	errNoChildren = errors.New("the query ended although the partition has not: no children were announced")
	errEarly      = errors.New("the query ended before its end_timestamp had come")
	errWindow     = errors.New("the query ended at its end_timestamp, and nothing proves what has come")
	errReached    = errors.New("everything through the end of reading has come")
)

// drop forgets what was not handed over, before the query is asked again from through + 1 µs.
func (f *framer) drop() {
	*f = framer{token: f.token, limit: f.limit, proven: f.through, through: f.through, last: f.last}
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
