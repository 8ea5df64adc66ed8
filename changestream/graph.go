package changestream

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"strings"

	"github.com/spanledger/spanledger/change"
)

// Graph is the partition graph of one change stream: which partitions are known, which may deliver, and how far all of
// them together are through. It is a pure state machine: no I/O, no clock, no goroutine. The same calls give the same
// answers, so a restart rebuilds it from what was stored.
//
// It serves both partition modes. With immutable key ranges a partition waits for its parents before it begins: Startable.
// With mutable ones partitions have no parents and begin at once, and wait in mid-life wherever keys come to them from
// others: Hold and Released.
//
// Load everything the store knows (Add, AddFinished, Promise) before the first call of Startable or Watermark: both judge
// by the partitions known so far. A Graph is not safe for concurrent use.
type Graph struct {
	nodes map[string]*node
	// dependents are, by the token of a parent that is not finished, the partitions waiting for it.
	dependents map[string][]*node
	// low orders the unfinished partitions by what each promises; its top is the low watermark.
	low lowHeap
	// blocked orders the partitions with unknown parents by start: only the low watermark can let them go.
	blocked startHeap
	holds   holds
	// ready may deliver and was not returned by Startable yet.
	ready []*node
	// reached is the highest low watermark ever answered.
	reached change.Timestamp
}

type node struct {
	change.Partition
	promised change.Timestamp
	finished bool
	// pending counts the parents that are not finished, unknown those of them the graph has never heard of.
	pending, unknown int
	// queued says that the partition was put in ready; it never is twice.
	queued bool
	// lowIndex is the node's place in Graph.low.
	lowIndex int
	// hold is the move that holds the partition, nil if none does.
	hold *hold
}

// NewGraph makes an empty graph.
func NewGraph() *Graph {
	return &Graph{nodes: map[string]*node{}, dependents: map[string][]*node{}, holds: newHolds()}
}

// Add makes p known: loaded from the store, or announced by a parent and stored. Adding a known token again changes
// nothing, so a merge's child may be announced by each of its parents.
func (g *Graph) Add(p change.Partition) {
	if g.nodes[p.Token] != nil {
		return
	}
	n := &node{Partition: p, promised: p.Start - 1}
	g.nodes[p.Token] = n
	heap.Push(&g.low, n)
	for i, parent := range p.Parents {
		// A list of no parents is sometimes sent as [""] or [NULL]; a partition never waits for itself.
		if parent == "" || parent == p.Token || slices.Contains(p.Parents[:i], parent) {
			continue
		}
		known := g.nodes[parent]
		if known != nil && known.finished {
			continue
		}
		n.pending++
		if known == nil {
			n.unknown++
		}
		g.dependents[parent] = append(g.dependents[parent], n)
	}
	if n.unknown > 0 {
		heap.Push(&g.blocked, n)
	}
	for _, d := range g.dependents[p.Token] {
		d.unknown--
	}
	g.holds.known(n)
	g.consider(n)
}

// AddFinished makes token known as finished: the store says so. Its own parents and start do not matter any more.
func (g *Graph) AddFinished(token string) {
	n := g.nodes[token]
	if n == nil {
		n = &node{Partition: change.Partition{Token: token}, finished: true}
		g.nodes[token] = n
		for _, d := range g.dependents[token] {
			d.unknown--
		}
		g.holds.known(n)
		g.release(n)
		return
	}
	g.finish(n)
}

// Promise says that every change of the partition with a commit timestamp at or below through is durable in all sinks, and
// that the partitions announced by then are stored and added. A lower promise than an earlier one is ignored (I5), and so is
// a promise of a finished or unknown partition. A held partition may promise the time of its hold, and nothing above it.
func (g *Graph) Promise(token string, through change.Timestamp) {
	n := g.nodes[token]
	if n == nil || n.finished || through <= n.promised {
		return // I5: a promise never goes back
	}
	n.promised = through
	heap.Fix(&g.low, n.lowIndex)
	g.holds.reached(n)
}

// Finish says that the partition has ended and everything of it is durable. Its children must have been stored and added
// before (I3), or the low watermark would run past their starts. Finishing twice changes nothing; an unknown token is an
// error.
func (g *Graph) Finish(token string) error {
	n := g.nodes[token]
	if n == nil {
		return fmt.Errorf("changestream: partition %s cannot finish: the graph does not know it; add a partition before finishing it", abbreviate(token))
	}
	g.finish(n)
	return nil
}

func (g *Graph) finish(n *node) {
	if n.finished {
		return
	}
	n.finished = true
	heap.Remove(&g.low, n.lowIndex)
	g.release(n)
}

// release lets go of the partitions that waited for n, which has finished.
func (g *Graph) release(n *node) {
	for _, d := range g.dependents[n.Token] {
		d.pending--
		g.consider(d)
	}
	delete(g.dependents, n.Token)
	g.holds.reached(n)
}

// consider queues n once nothing holds it.
func (g *Graph) consider(n *node) {
	if n.queued {
		return
	}
	// I3: a child delivers nothing before all its parents are finished; one never heard of may still be announced by a
	// slow branch until the low watermark over all unfinished partitions has reached the child's start.
	if n.pending > 0 {
		return
	}
	n.queued = true
	g.ready = append(g.ready, n)
}

// Startable answers the partitions that may deliver now and were not returned before, in order of start, then token.
func (g *Graph) Startable() []change.Partition {
	low := g.lowest()
	for len(g.blocked) > 0 && g.blocked[0].Start-1 <= low {
		n := heap.Pop(&g.blocked).(*node)
		g.pass(n)
		g.consider(n)
	}
	if len(g.ready) == 0 {
		return nil
	}
	out := make([]change.Partition, 0, len(g.ready))
	for _, n := range g.ready {
		if !n.finished { // it may have finished, by the store's word, while it was queued
			out = append(out, n.Partition)
		}
	}
	g.ready = g.ready[:0]
	slices.SortFunc(out, byStart)
	return out
}

// pass counts the unknown parents of n as finished: nothing waits for them any more, nor is kept for them.
func (g *Graph) pass(n *node) {
	for _, parent := range n.Parents {
		if g.nodes[parent] != nil {
			continue
		}
		if left := slices.DeleteFunc(g.dependents[parent], func(d *node) bool { return d == n }); len(left) > 0 {
			g.dependents[parent] = left
		} else {
			delete(g.dependents, parent)
		}
	}
	n.pending -= n.unknown
	n.unknown = 0
}

// Watermark is the low watermark: every change of the stream with a commit timestamp at or below it is durable in all
// sinks. A partition without a promise counts as its start less 1 µs. It never goes back (I5). While no partition is
// unfinished, which a live change stream never shows, it answers change.MaxTimestamp.
func (g *Graph) Watermark() change.Timestamp {
	low := g.lowest()
	if low == change.MaxTimestamp {
		return low
	}
	// I5: what was promised once stays promised, even if a partition is announced that begins before it.
	g.reached = max(g.reached, low)
	return g.reached
}

func (g *Graph) lowest() change.Timestamp {
	if len(g.low) == 0 {
		return change.MaxTimestamp
	}
	return g.low[0].promised
}

// Forget drops a finished partition that the store has purged; a child that names it later sees an unknown parent. It
// keeps the graph from growing for ever. Unfinished and unknown tokens are left as they are and answer false.
func (g *Graph) Forget(token string) bool {
	n := g.nodes[token]
	if n == nil || !n.finished {
		return false
	}
	delete(g.nodes, token)
	return true
}

// Status is an unfinished partition as the graph sees it.
type Status struct {
	change.Partition
	// Through is the last promise, Start less 1 µs if there was none.
	Through change.Timestamp
	// Startable says that nothing holds the partition: Startable has returned it or will.
	Startable bool
	// Waiting counts the parents that are not finished, those unknown included; of a held partition the sources that are not
	// through HeldAt.
	Waiting int
	// HeldAt is the time of the move that holds the partition, 0 if none does.
	HeldAt change.Timestamp
}

// Unfinished lists the unfinished partitions in order of start, then token. It walks all of them: meant for status pages,
// not for the hot path.
func (g *Graph) Unfinished() []Status {
	out := make([]Status, 0, len(g.low))
	for _, n := range g.low {
		s := Status{Partition: n.Partition, Through: n.promised, Startable: n.queued, Waiting: n.pending}
		if n.hold != nil {
			s.HeldAt, s.Waiting = n.hold.at, n.hold.pending
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Status) int { return byStart(a.Partition, b.Partition) })
	return out
}

func byStart(a, b change.Partition) int {
	if c := cmp.Compare(a.Start, b.Start); c != 0 {
		return c
	}
	return strings.Compare(a.Token, b.Token)
}

// abbreviate shortens a token for messages: tokens are long, and their first characters tell them apart.
func abbreviate(token string) string {
	if len(token) <= 24 {
		return token
	}
	return token[:20] + "…"
}

// lowHeap is a heap of unfinished nodes by promise that keeps each node's place in it.
type lowHeap []*node

func (h lowHeap) Len() int           { return len(h) }
func (h lowHeap) Less(i, j int) bool { return h[i].promised < h[j].promised }
func (h lowHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].lowIndex, h[j].lowIndex = i, j
}
func (h *lowHeap) Push(x any) {
	n := x.(*node)
	n.lowIndex = len(*h)
	*h = append(*h, n)
}
func (h *lowHeap) Pop() any {
	old := *h
	n := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return n
}

// startHeap is a heap of nodes by start.
type startHeap []*node

func (h startHeap) Len() int           { return len(h) }
func (h startHeap) Less(i, j int) bool { return h[i].Start < h[j].Start }
func (h startHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *startHeap) Push(x any)        { *h = append(*h, x.(*node)) }
func (h *startHeap) Pop() any {
	old := *h
	n := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return n
}
