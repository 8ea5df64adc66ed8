package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spanledger/spanledger/change"
)

// maxExamples bounds the examples kept of each kind of finding; the counts are always exact.
const maxExamples = 10

// Report is the outcome for a whole pipeline.
type Report struct {
	// Ingested is the number of events in the events table, Changes that of changes in the stream.
	Ingested int64 `json:"ingested"`
	Changes  int64 `json:"changes"`
	// Graph is what the change stream's partitions did.
	Graph Graph `json:"graph"`
	// Events is the comparison of the stream with the events table; nil if it was not made.
	Events *Events          `json:"events,omitempty"`
	Sinks  map[string]*Sink `json:"sinks"`
	// Deviations are the known faults of Google's emulator that were found in the data and tolerated.
	Deviations []Deviation `json:"deviations,omitempty"`
}

// Graph counts the partitions of a change stream, and the times that keys went from one to another: to a child, or by a move
// between partitions that live.
type Graph struct {
	// Mutable says that key ranges are mutable: keys move, and nothing has children.
	Mutable    bool  `json:"mutable"`
	Partitions int64 `json:"partitions"`
	Children   int64 `json:"children"`
	Moves      int64 `json:"moves"`
}

// Deviation is a named and tolerated deviation of Google's emulator from Spanner.
type Deviation struct {
	Name    string `json:"name"`
	Count   int64  `json:"count"`
	Meaning string `json:"meaning"`
}

// The names of deviations.
const (
	CommitTimestampPlaceholder = "commit_timestamp_placeholder"
	TimestampFractionCut       = "timestamp_fraction_cut"
	PartitionHops              = "partition_hops"
)

var meanings = map[string]string{
	CommitTimestampPlaceholder: "a commit-timestamp column shows 9999-12-31T23:59:59Z in the stream: the emulator writes the record before it knows the timestamp",
	TimestampFractionCut:       "a TIMESTAMP value has lost its fraction of a second in the stream",
	PartitionHops:              "a row's next change came from a partition that does not descend from that of the change before",
}

// Kind names a kind of finding.
type Kind string

// The kinds of finding.
const (
	Missing        Kind = "missing"
	Duplicate      Kind = "duplicate"
	OrderViolation Kind = "order_violation"
	GraphBreak     Kind = "graph_break"
	Unexpected     Kind = "unexpected"
	Mismatched     Kind = "mismatched"
	Fault          Kind = "fault"
	// MissingRow and DuplicateRow are of snapshots.
	MissingRow   Kind = "missing_row"
	DuplicateRow Kind = "duplicate_row"
)

// Example is one finding, for people.
type Example struct {
	Kind Kind `json:"kind"`
	// ID is the change's position, Object the archive object or message; either may be empty.
	ID     string `json:"id,omitempty"`
	Object string `json:"object,omitempty"`
	Table  string `json:"table,omitempty"`
	Key    string `json:"key,omitempty"`
	Detail string `json:"detail"`
}

// String is one line.
func (e Example) String() string {
	s := string(e.Kind) + ":"
	for _, part := range []string{e.Object, e.Table, e.Key, e.ID} {
		if part != "" {
			s += " " + short(part)
		}
	}
	return s + ": " + e.Detail
}

// Sink is the outcome for one sink; the package comment says what each number counts.
type Sink struct {
	Delivered       int64            `json:"delivered"`
	Watermark       change.Timestamp `json:"watermark"`
	Missing         int64            `json:"missing"`
	Duplicates      int64            `json:"duplicates"`
	OrderViolations int64            `json:"order_violations"`
	GraphBreaks     int64            `json:"graph_breaks"`
	Unexpected      int64            `json:"unexpected"`
	Mismatched      int64            `json:"mismatched"`
	Faults          int64            `json:"faults"`
	// Undecided counts first deliveries whose order within their key cannot be known from the outside; see PubSub.
	Undecided int64 `json:"order_undecided,omitempty"`
	// Redelivered counts messages the broker handed out again: the same message, not a second copy by the sink.
	Redelivered int64 `json:"redelivered,omitempty"`
	// Snapshot counts the rows of snapshots, which are not among the others; nil if there are none.
	Snapshot *Snapshot `json:"snapshot,omitempty"`
	Examples []Example `json:"examples,omitempty"`

	// Strict sinks hold each change once: a duplicate is an error.
	Strict bool `json:"strict"`
}

func (s *Sink) note(e Example) {
	n := int64(0)
	switch e.Kind {
	case Missing:
		s.Missing++
		n = s.Missing
	case Duplicate:
		s.Duplicates++
		n = s.Duplicates
	case OrderViolation:
		s.OrderViolations++
		n = s.OrderViolations
	case GraphBreak:
		s.GraphBreaks++
		n = s.GraphBreaks
	case Unexpected:
		s.Unexpected++
		n = s.Unexpected
	case Mismatched:
		s.Mismatched++
		n = s.Mismatched
	case Fault:
		s.Faults++
		n = s.Faults
	case MissingRow:
		s.Snapshot.Missing++
		n = s.Snapshot.Missing
	case DuplicateRow:
		s.Snapshot.Duplicates++
		n = s.Snapshot.Duplicates
	}
	if n <= maxExamples {
		s.Examples = append(s.Examples, e)
	}
}

func (s *Sink) fault(object, format string, args ...any) {
	s.note(Example{Kind: Fault, Object: object, Detail: fmt.Sprintf(format, args...)})
}

// Err is nil if the sink holds what it must. Graph breaks, duplicates of an at-least-once sink, redeliveries, undecided orders and
// rows of snapshots that nobody could verify are no errors.
func (s *Sink) Err() error {
	bad := s.Missing + s.OrderViolations + s.Unexpected + s.Mismatched + s.Faults
	duplicates := ""
	if s.Strict {
		bad += s.Duplicates
		duplicates = fmt.Sprintf(" %d duplicates,", s.Duplicates)
	}
	rows := ""
	if x := s.Snapshot; x != nil {
		bad += x.Missing
		rows = fmt.Sprintf("; of snapshots %d rows, %d missing", x.Rows, x.Missing)
		if s.Strict {
			bad += x.Duplicates
			rows += fmt.Sprintf(", %d duplicates", x.Duplicates)
		}
	}
	if bad == 0 {
		return nil
	}
	err := fmt.Errorf("%d delivered, %d missing,%s %d order violations, %d unexpected, %d mismatched, %d faults%s", s.Delivered, s.Missing,
		duplicates, s.OrderViolations, s.Unexpected, s.Mismatched, s.Faults, rows)
	for _, e := range s.Examples {
		if e.Kind == GraphBreak || (e.Kind == Duplicate || e.Kind == DuplicateRow) && !s.Strict {
			continue
		}
		err = fmt.Errorf("%w\n  %s", err, e)
	}
	return err
}

// Err is nil if the events table agrees with the stream and every sink holds what it must.
func (r *Report) Err() error {
	var errs []error
	if r.Events != nil {
		if err := r.Events.Err(); err != nil {
			errs = append(errs, fmt.Errorf("events table: %w", err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Sinks)) {
		if err := r.Sinks[name].Err(); err != nil {
			errs = append(errs, fmt.Errorf("sink %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// NewReport begins a report of the truth; events may be nil. On Google's emulator the report names the deviations found.
func NewReport(t *Truth, events *Events) *Report {
	r := &Report{Changes: int64(len(t.Changes)), Events: events, Sinks: map[string]*Sink{}, Graph: Graph{Mutable: t.Mutable, Partitions: int64(len(t.Partitions))}}
	for _, p := range t.Partitions {
		r.Graph.Children += int64(len(p.Parents))
		r.Graph.Moves += int64(len(p.Moves))
	}
	counts := map[string]int64{}
	if events != nil {
		r.Ingested = events.Rows
		maps.Copy(counts, events.deviations)
	}
	if t.Official {
		counts[PartitionHops] = t.Hops()
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if counts[name] > 0 {
			r.Deviations = append(r.Deviations, Deviation{Name: name, Count: counts[name], Meaning: meanings[name]})
		}
	}
	return r
}

// JSON is the report as indented JSON.
func (r *Report) JSON() ([]byte, error) { return json.MarshalIndent(r, "", "  ") }
