package memsink

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// Appender is the exactly-once form: a chain is a list of places, each written once. Its End.State is the number of places
// before the end, in decimal.
type Appender struct{ watch }

var _ sinks.Appender = (*Appender)(nil)

// NewAppender makes an Appender.
func NewAppender(o Options) *Appender {
	o.fill(sinks.LaneByChain)
	return &Appender{watch{Destination: o.Destination, o: o, inFlight: make(map[string]int)}}
}

// Append writes the batch into the place at end, or, if that place is taken, writes nothing and returns the place's end:
// one place a call, so that a writer far behind needs several, as with an archive whose objects it meets one by one.
func (a *Appender) Append(ctx context.Context, batch *sinks.Batch, end sinks.End) (sinks.End, error) {
	lanes := a.enter(batch)
	defer a.leave(lanes)
	if batch.Chain == nil {
		return sinks.End{}, sinks.Stop(fmt.Errorf("memsink: a batch without a chain came to an Appender"))
	}
	n, err := placeOf(end)
	if err != nil {
		return sinks.End{}, err
	}
	if err := call(ctx, a.o.Before, batch); err != nil {
		return sinks.End{}, err
	}
	if err := ctx.Err(); err != nil {
		return sinks.End{}, err
	}
	got, err := a.append(batch, n)
	if err != nil {
		return sinks.End{}, err
	}
	if err := call(ctx, a.o.After, batch); err != nil {
		return sinks.End{}, err
	}
	return got, nil
}

// append does the work of Append in one step, which is what makes the destination refuse a second write at a place.
func (a *Appender) append(batch *sinks.Batch, n int) (sinks.End, error) {
	chain := *batch.Chain
	a.Destination.mu.Lock()
	defer a.Destination.mu.Unlock()
	places := a.chains[chain]
	if n > len(places) {
		return sinks.End{}, sinks.Stop(fmt.Errorf("memsink: chain %v has %d places but the stored end is behind place %d: "+
			"the destination lost data or is another one", chain, len(places), n))
	}
	if n < len(places) {
		return a.end(places, n, n+1), nil
	}
	p := place{changes: clone(batch.Changes[:a.cut(batch.Changes)])}
	if n > 0 {
		p.segment.Previous = places[n-1].segment.SHA256
	}
	a.describe(chain, &p)
	a.chains[chain] = append(places, p)
	a.deliver(p.changes, chain, n)
	return a.end(a.chains[chain], n, n+1), nil
}

// End answers where the chain ends.
func (a *Appender) End(ctx context.Context, chain change.Chain) (sinks.End, error) {
	lanes := []string{fmt.Sprint(chain)}
	a.mu.Lock()
	if !a.open {
		a.violate("End was called while the sink was not open")
	}
	a.busy(lanes)
	a.mu.Unlock()
	defer a.leave(lanes)
	if err := ctx.Err(); err != nil {
		return sinks.End{}, err
	}
	a.Destination.mu.Lock()
	defer a.Destination.mu.Unlock()
	places := a.chains[chain]
	if len(places) == 0 {
		return sinks.End{}, nil
	}
	return a.end(places, 0, len(places)), nil
}

// end describes the chain's end behind its first n places, with the segments from place from on.
func (a *Appender) end(places []place, from, n int) sinks.End {
	last := places[n-1].changes
	e := sinks.End{Through: last[len(last)-1].Position, State: strconv.AppendInt(nil, int64(n), 10)}
	if a.o.Segments {
		for _, p := range places[from:n] {
			e.Segments = append(e.Segments, p.segment)
		}
	}
	return e
}

// cut is how many changes go into one place: whole commit timestamps, at most MaxPlace but at least one of them.
func (a *Appender) cut(changes []change.Change) int {
	if a.o.MaxPlace <= 0 || len(changes) <= a.o.MaxPlace {
		return len(changes)
	}
	n := a.o.MaxPlace
	for n > 0 && changes[n].Position.Commit == changes[n-1].Position.Commit {
		n--
	}
	if n > 0 {
		return n
	}
	for n = a.o.MaxPlace; n < len(changes) && changes[n].Position.Commit == changes[n-1].Position.Commit; {
		n++
	}
	return n
}

// describe fills in the place's segment; its digest is over the changes' ids, this destination's "bytes".
func (a *Appender) describe(chain change.Chain, p *place) {
	h := sha256.New()
	s := &p.segment
	for i := range p.changes {
		s.Bytes += int64(p.changes[i].Size())
		fmt.Fprintln(h, p.changes[i].ID())
	}
	first := p.changes[0].Position
	s.Chain, s.First, s.Last = chain, first, p.changes[len(p.changes)-1].Position
	s.Name = fmt.Sprintf("segments/%s/%s-%.16x.mem", chain.Table, first, sha256.Sum256([]byte(fmt.Sprint(chain))))
	s.Generation, s.Count = 1, int64(len(p.changes))
	s.SHA256 = hex.EncodeToString(h.Sum(nil))
}

func placeOf(end sinks.End) (int, error) {
	if len(end.State) == 0 {
		return 0, nil
	}
	n, err := strconv.Atoi(string(end.State))
	if err != nil || n < 0 {
		return 0, sinks.Stop(fmt.Errorf("memsink: %q is not a chain state of this sink", end.State))
	}
	return n, nil
}
