package changestream

import (
	"container/heap"
	"fmt"
	"slices"

	"github.com/spanledger/spanledger/change"
)

// hold is a partition that may deliver nothing above at before its sources are through at.
type hold struct {
	node *node
	at   change.Timestamp
	// sources are those it waited for from the beginning; pending counts those that are not through at, unknown those of
	// them the graph has never heard of.
	sources          []string
	pending, unknown int
	// passed says that the low watermark has reached at, so unknown sources count as through.
	passed bool
	// index is the hold's place in holds.blocked, -1 outside.
	index int
}

// holds are a graph's holds.
//
// No hold waits for another of its own timestamp: a held partition promises everything at or below the time of its hold, and
// that is all its destinations wait for. So what holds wait for goes back strictly in time, and exchanges and circles of
// moves at one timestamp cannot deadlock (I3).
type holds struct {
	// waiting are the holds by the token of a source that is not through.
	waiting map[string][]*hold
	// blocked orders the holds with unknown sources by time: only the low watermark can let them go.
	blocked holdHeap
	// free were released and not returned by Released yet.
	free []*hold
}

func newHolds() holds { return holds{waiting: map[string][]*hold{}} }

// Hold says that keys came to the partition from sources at the timestamp at: it delivers nothing above at until Released
// names it. Sources may be unknown: they finished long ago, or a slow branch has not announced them yet. It is an error if
// the graph does not know the partition as unfinished, if that is held already, or is through at.
func (g *Graph) Hold(token string, at change.Timestamp, sources []string) error {
	n := g.nodes[token]
	fault := ""
	switch {
	case n == nil:
		fault = "the graph does not know it"
	case n.finished:
		fault = "it has finished"
	case n.hold != nil:
		fault = fmt.Sprintf("it is held at %v already", n.hold.at)
	case n.promised > at:
		fault = fmt.Sprintf("it is through %v already", n.promised)
	}
	if fault != "" {
		return fmt.Errorf("changestream: partition %s cannot be held at %v: %s; this is a fault of the program", abbreviate(token), at, fault)
	}
	h := &hold{node: n, at: at, index: -1}
	n.hold = h
	for i, s := range sources {
		if s == "" || s == token || slices.Contains(sources[:i], s) {
			continue
		}
		source := g.nodes[s]
		if source.through(at) {
			continue
		}
		h.sources = append(h.sources, s)
		h.pending++
		if source == nil {
			h.unknown++
		}
		g.holds.waiting[s] = append(g.holds.waiting[s], h)
	}
	if h.unknown > 0 {
		heap.Push(&g.holds.blocked, h)
	}
	g.holds.consider(h)
	return nil
}

// through reports whether everything of a known partition at or below t is durable.
func (n *node) through(t change.Timestamp) bool { return n != nil && (n.finished || n.promised >= t) }

// known says that n has just been added: a hold may have named it before.
func (l *holds) known(n *node) {
	for _, h := range l.waiting[n.Token] {
		h.unknown--
		if h.unknown == 0 && h.index >= 0 {
			heap.Remove(&l.blocked, h.index)
		}
	}
	l.reached(n)
}

// reached lets go of the holds that waited for n to come where it is now.
func (l *holds) reached(n *node) {
	if n.finished && n.hold != nil {
		l.drop(n.hold) // it has nothing above the hold
		n.hold = nil
	}
	waiting, ok := l.waiting[n.Token]
	if !ok {
		return
	}
	left := waiting[:0]
	for _, h := range waiting {
		// I3: a source is through a move once everything it has at or below that timestamp is durable.
		if !n.through(h.at) {
			left = append(left, h)
			continue
		}
		h.pending--
		l.consider(h)
	}
	clear(waiting[len(left):])
	if len(left) == 0 {
		delete(l.waiting, n.Token)
	} else {
		l.waiting[n.Token] = left
	}
}

// consider frees a hold that nothing keeps any more.
func (l *holds) consider(h *hold) {
	// I3: a source never heard of may still be announced by a slow branch until the low watermark has reached the move.
	if h.pending == h.unknown && (h.unknown == 0 || h.passed) {
		l.free = append(l.free, h)
	}
}

// drop forgets a hold, wherever it stands.
func (l *holds) drop(h *hold) {
	for _, s := range h.sources {
		left := slices.DeleteFunc(l.waiting[s], func(other *hold) bool { return other == h })
		if len(left) == 0 {
			delete(l.waiting, s)
		} else {
			l.waiting[s] = left
		}
	}
	if h.index >= 0 {
		heap.Remove(&l.blocked, h.index)
	}
	l.free = slices.DeleteFunc(l.free, func(other *hold) bool { return other == h })
}

// Released answers the tokens of the held partitions that may go on and were not returned before, in order of the holds'
// time, then token.
func (g *Graph) Released() []string {
	low := g.lowest()
	for len(g.holds.blocked) > 0 && g.holds.blocked[0].at <= low {
		h := heap.Pop(&g.holds.blocked).(*hold)
		h.passed = true
		g.holds.consider(h)
	}
	if len(g.holds.free) == 0 {
		return nil
	}
	free := slices.Clone(g.holds.free)
	slices.SortFunc(free, func(a, b *hold) int {
		return byStart(change.Partition{Start: a.at, Token: a.node.Token}, change.Partition{Start: b.at, Token: b.node.Token})
	})
	out := make([]string, len(free))
	for i, h := range free {
		out[i] = h.node.Token
		h.node.hold = nil
		g.holds.drop(h)
	}
	return out
}

// holdHeap is a heap of holds by time that keeps each one's place in it.
type holdHeap []*hold

func (h holdHeap) Len() int           { return len(h) }
func (h holdHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h holdHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *holdHeap) Push(x any) {
	e := x.(*hold)
	e.index = len(*h)
	*h = append(*h, e)
}
func (h *holdHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = -1
	return e
}
