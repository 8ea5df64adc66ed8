package state

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spanledger/spanledger/change"
)

// SnapshotState is how far a table's snapshot has come.
type SnapshotState string

// The states of a snapshot.
const (
	// SnapshotWaiting: asked for, and not begun.
	SnapshotWaiting SnapshotState = "waiting"
	// SnapshotRunning: being taken.
	SnapshotRunning SnapshotState = "running"
	// SnapshotDone: every row is durable in every sink.
	SnapshotDone SnapshotState = "done"
	// SnapshotFailed: it cannot be taken; Error says why.
	SnapshotFailed SnapshotState = "failed"
)

// TableSnapshot is the taking of a table's rows beside the stream, asked for by an operator or by a start: the request and
// how far it has come. It belongs to an incarnation.
type TableSnapshot struct {
	// Number tells the snapshots of an incarnation apart, from 1; 0 in a request.
	Number int64
	Table  string
	// From and To bound the keys, in the canonical form of their reader; "" is no bound.
	From, To string
	State    SnapshotState
	// Error is why a failed one failed.
	Error string
	// Cursor is the key of the last row that was handed to the sinks, "" before the first; Read says that there are no more.
	Cursor string
	Read   bool
	// Chunks are those handed to the sinks that may not be durable in all of them, in the order they were read.
	Chunks []SnapshotChunk
	// Total is the number of rows the table had at the start, 0 if that is not known; Rows those handed to the sinks and
	// Dropped those left out because they had changed meanwhile. Anew counts the chunks that had to be read a second time at
	// a new timestamp.
	Total, Rows, Dropped, Anew int64
	// Requested and Changed are when the row was made and last changed, by the store's clock.
	Requested, Changed time.Time
}

// SnapshotChunk is a chunk of a snapshot as it was handed to the sinks: read again at At, without Dropped, it is the same.
type SnapshotChunk struct {
	At change.Timestamp `json:"at"`
	// After is the key before the first row, "" for the snapshot's From; Through the last row's.
	After   string `json:"after,omitempty"`
	Through string `json:"through"`
	// Dropped are the keys of rows that were left out.
	Dropped []string `json:"dropped,omitempty"`
	Rows    int64    `json:"rows"`
}

// Unfinished reports whether there is something to do.
func (s *TableSnapshot) Unfinished() bool {
	return s.State == SnapshotWaiting || s.State == SnapshotRunning
}

// Percent is how much of the table was handed on or left out; false where that cannot be told. The number of rows is that of
// the start, so it is an estimate.
func (s *TableSnapshot) Percent() (float64, bool) {
	switch {
	case s.State == SnapshotDone:
		return 100, true
	case s.Total == 0 || s.State != SnapshotRunning:
		return 0, false
	}
	return min(100*float64(s.Rows+s.Dropped)/float64(s.Total), 99.9), true
}

// clone copies a snapshot with all it refers to.
func (s TableSnapshot) clone() TableSnapshot {
	s.Chunks = slices.Clone(s.Chunks)
	for i := range s.Chunks {
		s.Chunks[i].Dropped = slices.Clone(s.Chunks[i].Dropped)
	}
	return s
}

// snapshotPrefix begins the tokens of snapshots. No change stream's token has a slash: they are base64url.
const snapshotPrefix = "snapshot/"

// SnapshotToken is the token under which a snapshot's progress is kept: like a partition's, but outside the graph.
func SnapshotToken(table string, number int64) string {
	return fmt.Sprintf("%s%s/%d", snapshotPrefix, table, number)
}

// IsSnapshotToken reports whether a token is a snapshot's.
func IsSnapshotToken(token string) bool { return strings.HasPrefix(token, snapshotPrefix) }

// Token is the token of its progress.
func (s *TableSnapshot) Token() string { return SnapshotToken(s.Table, s.Number) }

// maxSnapshotText bounds a snapshot's chunks with their keys, below the 10 MiB of a Spanner cell.
const maxSnapshotText = 8 << 20

func (s *TableSnapshot) check() error {
	if err := checkKeyPart(s.Table, maxTable); err != nil {
		return fmt.Errorf("snapshot: table's name: %w", err)
	}
	for _, c := range s.Chunks {
		if err := checkTime(c.At); err != nil {
			return fmt.Errorf("snapshot of table %s: chunk: %w", s.Table, err)
		}
	}
	for _, text := range []string{s.From, s.To, s.Cursor, s.Error} {
		if !utf8.ValidString(text) {
			return fmt.Errorf("snapshot of table %s: %q is not UTF-8", s.Table, text)
		}
	}
	switch {
	case s.State != SnapshotWaiting && s.State != SnapshotRunning && s.State != SnapshotDone && s.State != SnapshotFailed:
		return fmt.Errorf("snapshot of table %s: unknown state %q", s.Table, s.State)
	case s.Number < 0:
		return fmt.Errorf("snapshot of table %s: number %d", s.Table, s.Number)
	case s.size() > maxSnapshotText:
		return fmt.Errorf("snapshot of table %s: the keys of its chunks take about %d bytes, more than %d: make the chunks smaller", s.Table, s.size(), maxSnapshotText)
	}
	return nil
}

// Room is how many bytes of keys the snapshot's row still has place for, each of them with 8 bytes more, and each chunk with 128:
// a row beyond that cannot be stored.
func (s *TableSnapshot) Room() int { return maxSnapshotText - s.size() }

// size is about the bytes of its keys.
func (s *TableSnapshot) size() int {
	n := len(s.Cursor) + len(s.From) + len(s.To) + len(s.Error)
	for _, c := range s.Chunks {
		n += 128 + len(c.After) + len(c.Through)
		for _, k := range c.Dropped {
			n += len(k) + 8
		}
	}
	return n
}

// checkRequest refuses what cannot be asked for.
func (s *TableSnapshot) checkRequest() error {
	if s.Number != 0 {
		return errors.New("state: the store numbers snapshots: ask with the number 0")
	}
	request := TableSnapshot{Table: s.Table, From: s.From, To: s.To, State: SnapshotWaiting}
	if err := request.check(); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

// listSnapshots copies the snapshots, by number.
func (r *rows) listSnapshots(unfinished bool) (list []TableSnapshot) {
	for _, n := range slices.Sorted(maps.Keys(r.snapshots)) {
		if s := r.snapshots[n]; !unfinished || s.Unfinished() {
			list = append(list, s.TableSnapshot.clone())
		}
	}
	return list
}

// request finds the unfinished snapshot of the same rows, or makes one with the next number.
func (r *rows) request(s TableSnapshot) (got TableSnapshot, isNew bool) {
	for _, have := range r.snapshots {
		if h := have.TableSnapshot; h.Unfinished() && h.Table == s.Table && h.From == s.From && h.To == s.To {
			return h.clone(), false
		}
	}
	s = TableSnapshot{Number: 1, Table: s.Table, From: s.From, To: s.To, State: SnapshotWaiting}
	for n := range r.snapshots {
		s.Number = max(s.Number, n+1)
	}
	r.snapshots[s.Number] = &snapshotRow{TableSnapshot: s, write: insert}
	return s, true
}

// takeSnapshot is what an update does to a snapshot's row.
func (r *rows) takeSnapshot(s *TableSnapshot) error {
	if s.Number == 0 {
		r.request(*s)
		return nil
	}
	have, ok := r.snapshots[s.Number]
	if !ok || have.Table != s.Table {
		return fmt.Errorf("there is no snapshot %d of table %s (the engine's fault)", s.Number, s.Table)
	}
	if !have.Unfinished() {
		return nil // I5: what has ended does not begin again
	}
	requested, last := have.Requested, have.Changed
	have.TableSnapshot = s.clone()
	have.Requested, have.Changed = requested, last
	have.write = changed(have.write)
	return nil
}
