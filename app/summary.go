package app

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spanledger/spanledger/check"
	"github.com/spanledger/spanledger/ingest"
	"github.com/spanledger/spanledger/pipeline"
)

// DevSummary is what `spanledger dev` found: what went in, and what an independent reader found in each sink.
type DevSummary struct {
	// Ingested counts the events committed, AlreadyThere those that were stored before with the same content, Rejected the
	// records that could not be stored.
	Ingested     int64 `json:"ingested"`
	AlreadyThere int64 `json:"already_there"`
	Rejected     int64 `json:"rejected"`
	// Rejects are the first of the rejected records.
	Rejects []ingest.Reject `json:"rejects,omitempty"`
	// ChangesRead counts the changes the engine read.
	ChangesRead int64 `json:"changes_read"`
	// Sinks is what the check found, by sink; nil if it was not reached.
	Sinks map[string]*check.Sink `json:"sinks"`
	// Unchecked counts what each sink of DevOptions.Sinks took, by name: only its author can read it back.
	Unchecked map[string]Delivered `json:"unchecked_sinks,omitempty"`
	// Snapshots are those taken of the events table meanwhile; what each sink has of their rows is with the sink.
	Snapshots []SnapshotResult `json:"snapshots,omitempty"`
	// Events compares the events table with the change stream.
	Events *check.Events `json:"events,omitempty"`
	// Graph is what the change stream's partitions did meanwhile; nil if the check was not reached.
	Graph *check.Graph `json:"graph,omitempty"`
	// Deviations are the known faults of Google's emulator found in the data.
	Deviations []check.Deviation `json:"deviations,omitempty"`
	// Archive is where the archive is: a directory, or a place in memory.
	Archive string `json:"archive,omitempty"`
	// OlderArchives are the archives of earlier runs found in the data directory and left as they were.
	OlderArchives []string `json:"older_archives,omitempty"`
	Official      bool     `json:"official"`
	Interrupted   bool     `json:"interrupted"`
	Seconds       float64  `json:"seconds"`

	lastCommit time.Time
	report     *check.Report
}

// Delivered is the engine's own count of a sink: changes made durable, and tries that failed.
type Delivered struct {
	Delivered int64 `json:"delivered"`
	Retries   int64 `json:"retries"`
}

// ErrRejected says that some records could not be stored.
var ErrRejected = errors.New("some records were rejected")

// ErrInterrupted says that the run was stopped before its work was done.
var ErrInterrupted = errors.New("interrupted before everything had arrived")

// count takes over what the engine says of itself when it has ended.
func (d *dev) count(s pipeline.Status) {
	d.summary.ChangesRead = s.Read
	for _, k := range s.Sinks {
		if slices.ContainsFunc(d.Sinks, func(c SinkConfig) bool { return c.Name == k.Name }) {
			if d.summary.Unchecked == nil {
				d.summary.Unchecked = make(map[string]Delivered)
			}
			d.summary.Unchecked[k.Name] = Delivered{Delivered: k.Delivered, Retries: k.Retries}
		}
	}
}

// Err is nil if everything went in and every sink holds what it must.
func (s *DevSummary) Err() error {
	var errs []error
	if s.report != nil {
		errs = append(errs, s.report.Err())
	}
	if s.Rejected > 0 {
		err := fmt.Errorf("%w: %d of %d", ErrRejected, s.Rejected, s.Rejected+s.Ingested+s.AlreadyThere)
		for _, r := range s.Rejects {
			err = fmt.Errorf("%w\n  %s", err, rejectLine(r))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// String is the summary for people.
func (s *DevSummary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d events in, %d rejected, %d changes read, in %.1f s\n", s.Ingested+s.AlreadyThere, s.Rejected, s.ChangesRead, s.Seconds)
	if len(s.Sinks) > 0 {
		w := tabwriter.NewWriter(&b, 2, 0, 2, ' ', tabwriter.AlignRight)
		head := "sink\tdelivered\tmissing\tduplicates\tout of order\t"
		if len(s.Snapshots) > 0 {
			head += "snapshot rows\tmissing\tduplicates\t"
		}
		fmt.Fprintln(w, head)
		for _, name := range sortedKeys(s.Sinks) {
			k := s.Sinks[name]
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t", name, k.Delivered, k.Missing, k.Duplicates, k.OrderViolations)
			if r := k.Snapshot; len(s.Snapshots) > 0 && r != nil {
				fmt.Fprintf(w, "%d\t%d\t%d\t", r.Rows, r.Missing, r.Duplicates)
			}
			fmt.Fprintln(w)
		}
		_ = w.Flush() // into a strings.Builder, which takes everything
	}
	if n := len(s.Snapshots); n > 0 {
		var rows, dropped int64
		for _, x := range s.Snapshots {
			rows, dropped = rows+x.Rows, dropped+x.Dropped
		}
		fmt.Fprintf(&b, "%d snapshots of %s beside the stream: %d rows, %d left out because newer changes were on their way\n", n, s.Snapshots[0].Table, rows, dropped)
	}
	for _, name := range sortedKeys(s.Unchecked) {
		fmt.Fprintf(&b, "%s took %d changes; what it holds is for its author to check\n", name, s.Unchecked[name].Delivered)
	}
	for _, d := range s.Deviations {
		fmt.Fprintf(&b, "Google's emulator deviates from Spanner: %s (%d times): %s\n", d.Name, d.Count, d.Meaning)
	}
	if s.Archive != "" {
		fmt.Fprintf(&b, "the archive is in %s\n", s.Archive)
	}
	return b.String()
}
