package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spanledger/spanledger/ingest"
)

// IngestOptions are the options of `spanledger ingest`.
type IngestOptions struct {
	// Database is the full name of the database that has the events table.
	Database string
	// MaxTransactions bounds the transactions under way; 0 is 1 on an emulator and no bound otherwise.
	MaxTransactions int
	// Example names an example that comes with the program, to load instead of files; "" for none.
	Example string
	Load    ingest.LoadOptions
	Logger  *slog.Logger
}

// IngestSummary is what `spanledger ingest` did.
type IngestSummary struct {
	Read         int64           `json:"read"`
	Ingested     int64           `json:"ingested"`
	AlreadyThere int64           `json:"already_there"`
	Rejected     int64           `json:"rejected"`
	Rejects      []ingest.Reject `json:"rejects,omitempty"`
	RejectFile   string          `json:"reject_file,omitempty"`
	LastCommit   *time.Time      `json:"last_commit,omitempty"`
	Seconds      float64         `json:"seconds"`
}

// String is the summary for people.
func (s *IngestSummary) String() string {
	text := fmt.Sprintf("%d records read: %d events stored, %d there already, %d rejected, in %.1f s",
		s.Read, s.Ingested, s.AlreadyThere, s.Rejected, s.Seconds)
	for _, r := range s.Rejects {
		text += "\n  " + rejectLine(r)
	}
	if s.RejectFile != "" {
		text += "\nthe rejected records are in " + s.RejectFile
	}
	return text
}

// Ingest loads files into the events table. The summary is nil if nothing was tried. ErrRejected says that all but some
// records went in.
func Ingest(ctx context.Context, files []string, o IngestOptions) (*IngestSummary, error) {
	if _, err := parseDatabase(o.Database); err != nil {
		return nil, err
	}
	if o.Example != "" {
		var example io.Closer
		var err error
		if files, example, err = openExample(o.Example, &o.Load); err != nil {
			return nil, err
		}
		defer example.Close()
	}
	e := EndpointsFromEnv()
	if o.MaxTransactions == 0 && e.Spanner != "" {
		o.MaxTransactions = 1
	}
	client, err := e.spannerClient(ctx, o.Database)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	sum, err := ingest.Load(ctx, ingest.New(client, ingest.Options{MaxTransactions: o.MaxTransactions}), files, o.Load)
	s := &IngestSummary{
		Read: sum.Read, Ingested: sum.Ingested, AlreadyThere: sum.AlreadyThere, Rejected: sum.Rejected, Rejects: sum.Examples,
		Seconds: sum.Elapsed.Seconds(),
	}
	if sum.Rejected > 0 { // without rejects there is none, or an older one
		s.RejectFile = o.Load.Reject
	}
	if !sum.LastCommit.IsZero() {
		s.LastCommit = &sum.LastCommit
	}
	if err == nil && sum.Rejected > 0 {
		err = fmt.Errorf("%w: %d", ErrRejected, sum.Rejected)
	}
	return s, err
}

// rejectLine is a rejected record in one line.
func rejectLine(r ingest.Reject) string {
	line := fmt.Sprintf("%s:%d: record %d: %s", r.File, r.Line, r.Record, r.Reason)
	if r.Output > 0 {
		line = fmt.Sprintf("%s:%d: record %d, event %d: %s", r.File, r.Line, r.Record, r.Output, r.Reason)
	}
	return line
}
