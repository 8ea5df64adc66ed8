package pipeline

import "github.com/spanledger/spanledger/change"

// tracker says how far one sink is durable in one partition. Frames are tracked in the order they were read and resolved in
// any order; the checkpoint is the Through of the last frame before the first that is not wholly resolved. It is pure and
// not safe for concurrent use.
type tracker struct {
	through change.Timestamp
	open    []*mark
}

// mark is one frame in a tracker, with the frames without changes behind it: how many of its changes the sink has still to
// make durable.
type mark struct {
	through change.Timestamp
	left    int
}

// track adds a frame that promises through and has n changes for the sink. Frames must come in order; the caller has
// checked that through never goes back.
func (t *tracker) track(through change.Timestamp, n int) *mark {
	if last := len(t.open) - 1; last >= 0 && n == 0 {
		// A frame without changes is durable when the one before it is. It takes no place of its own: heartbeats pass a full
		// budget, and would pile up for as long as a sink is down (I10).
		t.open[last].through = through
		return t.open[last]
	}
	m := &mark{through: through, left: n}
	t.open = append(t.open, m)
	t.advance()
	return m
}

// resolve says that n changes of the frame are durable in the sink.
func (t *tracker) resolve(m *mark, n int) {
	if n < 0 || n > m.left {
		panic("pipeline: a frame had more changes resolved than it holds")
	}
	m.left -= n
	t.advance()
}

// advance is the one place where a checkpoint moves (I2): never past a frame with a change that is not durable, and never
// back (I5).
func (t *tracker) advance() {
	i := 0
	for ; i < len(t.open) && t.open[i].left == 0; i++ {
		t.through = max(t.through, t.open[i].through)
		t.open[i] = nil
	}
	t.open = t.open[i:]
}

// idle reports whether everything tracked is resolved.
func (t *tracker) idle() bool { return len(t.open) == 0 }
