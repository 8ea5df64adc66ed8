package check

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/spanledger/spanledger/change"
)

// Truth is what a change stream says happened in [Start, End]. It is read-only once made, and safe for concurrent use.
type Truth struct {
	Database, Stream string
	Start, End       change.Timestamp
	// Changes are in position order.
	Changes []Change
	// Partitions are by start, then token.
	Partitions []Partition
	// Official says that the stream was served by Google's emulator, whose known deviations are then tolerated and counted.
	Official bool
	// Mutable says that the stream has mutable key ranges.
	Mutable bool

	// keys holds, for each change, the number of its row; rowNumbers are all of them.
	keys       []int32
	rowNumbers map[rowKey]int32
	// tables are those that ReadRows has read, by name.
	tables map[string]*table
	// graph is by time: whom keys came from, and went to.
	graph []handover
}

// NewTruth makes a Truth of changes and partitions in any order, which it keeps. It refuses what cannot be true: two changes
// at one position, a change of an unknown partition or outside [start, end], a partition with two sets of parents, a
// transaction that does not have as many records as each of its changes says (a count of 0 is not checked), keys taken over from
// an unknown partition.
func NewTruth(changes []Change, partitions []Partition, start, end change.Timestamp) (*Truth, error) {
	t := &Truth{Start: start, End: end, Changes: changes, Partitions: partitions}
	slices.SortFunc(t.Partitions, func(a, b Partition) int {
		if a.Start != b.Start {
			return int(min(max(a.Start-b.Start, -1), 1))
		}
		if a.Token < b.Token {
			return -1
		}
		return 1
	})
	known := make(map[string]bool, len(t.Partitions))
	for _, p := range t.Partitions {
		if known[p.Token] {
			return nil, fmt.Errorf("check: partition %s is listed twice", short(p.Token))
		}
		known[p.Token] = true
	}
	if err := t.makeGraph(known); err != nil {
		return nil, err
	}
	slices.SortFunc(t.Changes, func(a, b Change) int { return a.Position.Compare(b.Position) })
	var errs []error
	note := func(format string, args ...any) bool {
		errs = append(errs, fmt.Errorf("check: "+format, args...))
		return len(errs) < maxExamples
	}
	t.keys, t.rowNumbers = make([]int32, len(t.Changes)), map[rowKey]int32{}
	for i := range t.Changes {
		c := &t.Changes[i]
		if i > 0 && t.Changes[i-1].Position == c.Position {
			if !note("the stream holds the change %s twice (partitions %s and %s)", c.ID(), short(t.Changes[i-1].Partition), short(c.Partition)) {
				break
			}
		}
		if !known[c.Partition] && !note("change %s is in the unknown partition %s", c.ID(), short(c.Partition)) {
			break
		}
		if (c.Position.Commit < start || c.Position.Commit > end) && !note("change %s lies outside %s..%s", c.ID(), start, end) {
			break
		}
		k := rowKey{c.Table, c.Key}
		row, known := t.rowNumbers[k]
		if !known {
			row = int32(len(t.rowNumbers))
			t.rowNumbers[k] = row
		}
		t.keys[i] = row
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return t, t.checkTransactions()
}

type rowKey struct{ table, key string }

// checkTransactions compares the number of records and partitions of each transaction with what its records claim: the
// only way to notice, from the stream alone, that a whole partition was overlooked.
func (t *Truth) checkTransactions() error {
	var errs []error
	for i := 0; i < len(t.Changes) && len(errs) < maxExamples; {
		first := &t.Changes[i]
		records, tokens := int64(0), map[string]bool{}
		j := i
		for ; j < len(t.Changes) && sameTransaction(first, &t.Changes[j]); j++ {
			c := &t.Changes[j]
			if j == i || t.Changes[j-1].Position.Sequence != c.Position.Sequence {
				records++
			}
			tokens[c.Partition] = true
			if c.Records != first.Records || c.Partitions != first.Partitions {
				errs = append(errs, fmt.Errorf("check: transaction %s at %s counts itself in two ways", first.Position.Transaction, first.Position.Commit))
			}
		}
		if first.Records != 0 && first.Records != records || first.Partitions != 0 && first.Partitions != int64(len(tokens)) {
			errs = append(errs, fmt.Errorf("check: transaction %s at %s says it has %d records in %d partitions: the stream gave %d in %d",
				first.Position.Transaction, first.Position.Commit, first.Records, first.Partitions, records, len(tokens)))
		}
		i = j
	}
	return errors.Join(errs...)
}

func sameTransaction(a, b *Change) bool {
	return a.Position.Commit == b.Position.Commit && a.Position.Transaction == b.Position.Transaction && a.Position.Snapshot == b.Position.Snapshot
}

// Find is the index in Changes of the change at a position, or -1.
func (t *Truth) Find(p change.Position) int {
	i, ok := slices.BinarySearchFunc(t.Changes, p, func(c Change, p change.Position) int { return c.Position.Compare(p) })
	if !ok {
		return -1
	}
	return i
}

// columnsOf are the key's columns of the change at a position, in key order, and all of its columns by name; of a snapshot's row
// those of its table, if that is known.
func (t *Truth) columnsOf(p change.Position) (keys []*Column, columns map[string]*Column) {
	if p.Snapshot {
		if x := t.tables[p.Transaction]; x != nil {
			return x.keys, x.columns
		}
		return nil, nil
	}
	i := t.Find(p)
	if i < 0 {
		return nil, nil
	}
	c := &t.Changes[i]
	columns = map[string]*Column{}
	for _, column := range c.KeyColumns {
		columns[column.Name] = column
	}
	for _, row := range []Row{c.After, c.Before} {
		for _, v := range row {
			columns[v.Column.Name] = v.Column
		}
	}
	return c.KeyColumns, columns
}

// makeGraph lists the handovers. A source that is not known has ended at the start, or was overlooked.
func (t *Truth) makeGraph(known map[string]bool) error {
	for _, p := range t.Partitions {
		for _, parent := range p.Parents {
			t.graph = append(t.graph, handover{p.Start - 1, parent, p.Token})
		}
		for _, m := range p.Moves {
			if m.At > t.Start && !known[m.Source] {
				return fmt.Errorf("check: partition %s took keys at %s over from the unknown partition %s", short(p.Token), m.At, short(m.Source))
			}
			t.graph = append(t.graph, handover{m.At, m.Source, p.Token})
		}
	}
	slices.SortFunc(t.graph, func(a, b handover) int { return cmp.Compare(a.at, b.at) })
	return nil
}

// Leads reports whether the partition of change to is that of from, or one that keys came to from there between the two, by
// children or by moves: whether a reader that follows the graph is through from before it comes to to.
func (t *Truth) Leads(from, to *Change) bool {
	if from.Partition == to.Partition {
		return true
	}
	reached := map[string]bool{from.Partition: true}
	i, _ := slices.BinarySearchFunc(t.graph, from.Position.Commit, func(h handover, at change.Timestamp) int { return cmp.Compare(h.at, at) })
	for i < len(t.graph) && t.graph[i].at < to.Position.Commit {
		at := t.graph[i].at
		var gained []string // at once: no key goes two steps at one instant
		for ; i < len(t.graph) && t.graph[i].at == at; i++ {
			if reached[t.graph[i].from] {
				gained = append(gained, t.graph[i].to)
			}
		}
		for _, token := range gained {
			reached[token] = true
		}
	}
	return reached[to.Partition]
}

// Hops counts the places where a row's next change lies in a partition that its key did not come to from the partition of the
// one before: breaks of the partition graph by the server. Spanner has none.
func (t *Truth) Hops() (hops int64) {
	last := make([]int32, len(t.rowNumbers))
	for i := range last {
		last[i] = -1
	}
	for i := range t.Changes {
		row := t.keys[i]
		if p := last[row]; p >= 0 && !t.Leads(&t.Changes[p], &t.Changes[i]) {
			hops++
		}
		last[row] = int32(i)
	}
	return hops
}
