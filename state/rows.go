package state

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/spanledger/spanledger/change"
)

// rows are a pipeline's rows, all of them or those that one transaction touches. Both forms of Store decide with it what an
// update does, so that the rules exist once: Memory keeps one, Spanner fills one inside each transaction and writes what
// changed in it.
type rows struct {
	head       head
	partitions map[string]*partitionRow
	progress   map[progressKey]*progressRow
	segments   map[segmentKey]*segmentRow
	tables     map[string]*tableRow
	snapshots  map[int64]*snapshotRow // by number
}

// head is a pipeline's own row. The highest epoch any worker ever had is apart from the claim in force: single partitions
// may be given away at epochs above the claim's.
type head struct {
	incarnation int64
	epoch       int64
	claimWorker string
	claimEpoch  int64
}

// next is the head of the next incarnation: nobody holds it, and no lease of before is current (I4).
func (h head) next() head {
	return head{incarnation: h.incarnation + 1, epoch: h.epoch + 1, claimEpoch: h.epoch + 1}
}

// write says what a transaction must do with a row.
type write uint8

const (
	unchanged write = iota
	insert
	update
)

// changed is what to do with a row that changes: one that was to be inserted still is.
func changed(w write) write {
	if w == insert {
		return insert
	}
	return update
}

type partitionRow struct {
	Partition
	write write
}

type progressKey struct{ token, sink string }

type progressRow struct {
	through change.Timestamp
	chains  []ChainEnd // ordered by table
	write   write
}

type segmentKey struct {
	sink  string
	chain change.Chain
	first change.Position
}

type segmentRow struct {
	SinkSegment
	write write
}

type tableRow struct {
	table *change.Table
	write write
}

type snapshotRow struct {
	TableSnapshot
	write write
}

func newRows() *rows {
	return &rows{
		partitions: map[string]*partitionRow{},
		progress:   map[progressKey]*progressRow{},
		segments:   map[segmentKey]*segmentRow{},
		tables:     map[string]*tableRow{},
		snapshots:  map[int64]*snapshotRow{},
	}
}

// claim makes worker the owner of all partitions, those of other workers and those not known yet included, by one row: a
// partition's own owner counts only where its epoch is above the claim's.
func (r *rows) claim(worker string) {
	r.head.epoch++
	r.head.claimWorker, r.head.claimEpoch = worker, r.head.epoch
}

// owner is who may store progress for a partition, known or not.
func (r *rows) owner(token string) (worker string, epoch int64) {
	if p, ok := r.partitions[token]; ok && p.Epoch > r.head.claimEpoch {
		return p.Owner, p.Epoch
	}
	return r.head.claimWorker, r.head.claimEpoch
}

// holds reports whether the lease is current for the partition.
func (r *rows) holds(l Lease, token string) bool {
	worker, epoch := r.owner(token)
	return l.Incarnation == r.head.incarnation && l.Worker == worker && l.Epoch == epoch
}

// apply does what an update that passed check says, or nothing: it is fenced, or it is an error.
func (r *rows) apply(l Lease, u *Update) (fenced bool, err error) {
	if !r.holds(l, u.Token) {
		return true, nil // I4: an owner of the past stores nothing, not even children.
	}
	part := r.partitions[u.Token]
	if u.Token != "" && part == nil {
		return false, fmt.Errorf("incarnation %d has no partition %s: the update that announces it must come first (the engine's fault)",
			l.Incarnation, u.Token)
	}
	if u.Finished {
		if part.State == Finished && part.End != u.End {
			return false, fmt.Errorf("partition %s finished at %s already and cannot finish at %s (the engine's fault)", u.Token, part.End, u.End)
		}
		if u.End < part.Start {
			return false, fmt.Errorf("partition %s cannot finish at %s, before its start %s (the engine's fault)", u.Token, u.End, part.Start)
		}
	}
	for i := range u.Snapshots {
		if err := r.takeSnapshot(&u.Snapshots[i]); err != nil {
			return false, err
		}
	}
	// I3: children are stored in the transaction that finishes their parent, or in one before it. Announced again, by
	// another parent or after a restart, they are left as they are: their progress must not be forgotten.
	for _, c := range u.Children {
		if _, ok := r.partitions[c.Token]; !ok {
			c.Parents = slices.Clone(c.Parents)
			r.partitions[c.Token] = &partitionRow{Partition{Partition: c, State: Open, Owner: l.Worker, Epoch: l.Epoch}, insert}
		}
	}
	for i := range u.Progress {
		r.advance(u.Token, &u.Progress[i])
	}
	if u.Finished && part.State != Finished {
		part.State, part.End, part.Owner, part.Epoch = Finished, u.End, l.Worker, l.Epoch
		part.write = changed(part.write)
	}
	for _, s := range u.Segments {
		k := segmentKey{s.Sink, s.Chain, s.First}
		if _, ok := r.segments[k]; !ok {
			r.segments[k] = &segmentRow{s, insert}
		}
	}
	for _, t := range u.Tables {
		if old, ok := r.tables[t.Name]; !ok {
			r.tables[t.Name] = &tableRow{t, insert}
		} else if t.Version > old.table.Version { // I5: a union only grows.
			old.table, old.write = t, changed(old.write)
		}
	}
	return false, nil
}

// advance moves one sink's checkpoint in a partition forward.
func (r *rows) advance(token string, p *Progress) {
	k := progressKey{token, p.Sink}
	row, ok := r.progress[k]
	if !ok {
		if p.Through == 0 && len(p.Chains) == 0 {
			return
		}
		row = &progressRow{write: insert}
		r.progress[k] = row
	}
	if p.Through > row.through { // I5: a checkpoint never goes back.
		row.through, row.write = p.Through, changed(row.write)
	}
	for _, c := range p.Chains {
		i, found := slices.BinarySearchFunc(row.chains, c.Table, func(e ChainEnd, table string) int { return cmp.Compare(e.Table, table) })
		switch {
		case !found:
			row.chains = slices.Insert(row.chains, i, c)
		case row.chains[i].Through.After(c.Through): // I5: nor does a chain's end.
			continue
		case row.chains[i].Through == c.Through && bytes.Equal(row.chains[i].State, c.State):
			continue
		}
		row.chains[i] = ChainEnd{c.Table, c.Through, append([]byte(nil), c.State...)}
		row.write = changed(row.write)
	}
}
