package admin

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/pipeline"
)

// Status is the document at /status.json. Fields may be added to it; none changes its meaning. Times are RFC 3339 in UTC,
// absent while they are not known; counters start at 0 with the process.
type Status struct {
	// Now is this machine's time when the document was made.
	Now       time.Time        `json:"now"`
	Ready     bool             `json:"ready"`
	Pipelines []PipelineStatus `json:"pipelines"`
}

// PipelineStatus is one pipeline in Status.
type PipelineStatus struct {
	Name string `json:"name"`
	// Phase is starting, running, draining or ended.
	Phase string `json:"phase"`
	Ready bool   `json:"ready"`
	// NotReady says why, where Ready is false; Error is what ended or is ending the pipeline.
	NotReady string `json:"not_ready,omitempty"`
	Error    string `json:"error,omitempty"`

	ChangesRead int64 `json:"changes_read"`
	// ChangesFiltered are those of ChangesRead that the filter took out.
	ChangesFiltered int64 `json:"changes_filtered"`
	ReadBytes       int64 `json:"read_bytes"`
	Frames          int64 `json:"frames"`
	Heartbeats      int64 `json:"heartbeats"`

	// Partitions are those being read; started and finished count them since the process began.
	Partitions         int   `json:"partitions"`
	PartitionsStarted  int64 `json:"partitions_started"`
	PartitionsFinished int64 `json:"partitions_finished"`
	// OldestProgress is when the partition that has been silent longest last gave a sign of life.
	OldestProgress *time.Time `json:"oldest_progress,omitempty"`

	// Watermark is the commit timestamp through which every sink has everything, LagSeconds its age.
	Watermark  *time.Time `json:"watermark,omitempty"`
	LagSeconds *float64   `json:"lag_seconds,omitempty"`

	Checkpoints        int64 `json:"checkpoints"`
	CheckpointFailures int64 `json:"checkpoint_failures"`
	// LastCheckpoint is when the stored checkpoints were last up to date.
	LastCheckpoint *time.Time `json:"last_checkpoint,omitempty"`

	BudgetUsedBytes  int `json:"budget_used_bytes"`
	BudgetLimitBytes int `json:"budget_limit_bytes"`
	// BudgetWaiting is the number of partitions whose reading waits for the budget.
	BudgetWaiting int `json:"budget_waiting"`

	Sinks []SinkStatus `json:"sinks"`
	// Snapshots are the tables being taken and waiting, and some that ended since the process began.
	Snapshots []SnapshotStatus `json:"snapshots,omitempty"`
}

// SnapshotStatus is a table's snapshot in PipelineStatus.
type SnapshotStatus struct {
	Number int64  `json:"number"`
	Table  string `json:"table"`
	// From and To bound the keys, JSON arrays; absent for no bound.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// State is waiting, running, done or failed; Error is why it failed.
	State string `json:"state"`
	Error string `json:"error,omitempty"`
	// Rows were handed to the sinks; RowsDropped were left out because they changed meanwhile; RowsTotal is what the table
	// had at the start, absent where it was not counted.
	Rows        int64 `json:"rows"`
	RowsDropped int64 `json:"rows_dropped"`
	RowsTotal   int64 `json:"rows_total,omitempty"`
	// Percent is how much of the rows that is, absent where it is not known.
	Percent *float64 `json:"percent,omitempty"`
}

// SinkStatus is one sink in PipelineStatus.
type SinkStatus struct {
	Name string `json:"name"`
	// Delivered counts the changes the sink has made durable, Batches the batches they came in, Retries the failed tries.
	Delivered int64 `json:"delivered"`
	Batches   int64 `json:"batches"`
	Retries   int64 `json:"retries"`
	// Segments are the archive objects written.
	Segments     int64      `json:"segments"`
	SegmentBytes int64      `json:"segment_bytes"`
	LastSegment  *time.Time `json:"last_segment,omitempty"`
	Watermark    *time.Time `json:"watermark,omitempty"`
	LagSeconds   *float64   `json:"lag_seconds,omitempty"`
	// Failure is the error being retried now.
	Failure *Failure `json:"failure,omitempty"`
}

// Failure is a sink's error that is being retried.
type Failure struct {
	Error string    `json:"error"`
	Since time.Time `json:"since"`
	Tries int       `json:"tries"`
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	body, err := json.MarshalIndent(s.document(time.Now()), "", "  ")
	if err != nil {
		text(w, http.StatusInternalServerError, "cannot write the status: "+err.Error()+"\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(body, '\n')) //nolint:errcheck // the client is gone; there is nobody to tell
}

func (s *Server) document(now time.Time) Status {
	doc := Status{Now: now.UTC(), Ready: true}
	for _, p := range s.opts.Pipelines {
		st := p.Engine.Status()
		out := describe(p.Name, st, now)
		out.NotReady = notReady(st, now, s.opts.StaleAfter)
		out.Ready = out.NotReady == ""
		doc.Ready = doc.Ready && out.Ready
		doc.Pipelines = append(doc.Pipelines, out)
	}
	return doc
}

func describe(name string, s pipeline.Status, now time.Time) PipelineStatus {
	out := PipelineStatus{
		Name: name, Phase: s.Phase.String(),
		ChangesRead: s.Read, ChangesFiltered: s.Filtered, ReadBytes: s.ReadBytes, Frames: s.Frames, Heartbeats: s.Heartbeats,
		Partitions: s.Partitions, PartitionsStarted: s.Started, PartitionsFinished: s.Finished, OldestProgress: known(s.Heard),
		Checkpoints: s.Checkpoints, CheckpointFailures: s.CheckpointFailures, LastCheckpoint: known(s.Checkpointed),
		BudgetUsedBytes: s.BudgetUsed, BudgetLimitBytes: s.BudgetBytes, BudgetWaiting: s.BudgetWaiting,
		Sinks: []SinkStatus{},
	}
	out.Watermark, out.LagSeconds = lag(s.Watermark, now)
	if s.Err != nil {
		out.Error = s.Err.Error()
	}
	for _, t := range s.Snapshots {
		out.Snapshots = append(out.Snapshots, SnapshotStatus{
			Number: t.Number, Table: t.Table, From: t.From, To: t.To, State: string(t.State), Error: t.Error,
			Rows: t.Rows, RowsDropped: t.Dropped, RowsTotal: t.Total, Percent: percent(t.Percent()),
		})
	}
	for _, k := range s.Sinks {
		sink := SinkStatus{
			Name: k.Name, Delivered: k.Delivered, Batches: k.Batches, Retries: k.Retries,
			Segments: k.Segments, SegmentBytes: k.SegmentBytes, LastSegment: known(k.LastSegment),
		}
		sink.Watermark, sink.LagSeconds = lag(k.Watermark, now)
		if k.Failure != nil {
			sink.Failure = &Failure{Error: k.Failure.Err.Error(), Since: k.Failure.Since.UTC(), Tries: k.Failure.Tries}
		}
		out.Sinks = append(out.Sinks, sink)
	}
	return out
}

func percent(p float64, known bool) *float64 {
	if !known {
		return nil
	}
	return &p
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// lag is a watermark's time and age; Spanner's clock may be ahead of this machine's.
func lag(w change.Timestamp, now time.Time) (*time.Time, *float64) {
	if w <= 0 {
		return nil, nil
	}
	t := w.Time().UTC()
	age := max(now.Sub(t).Seconds(), 0)
	return &t, &age
}
