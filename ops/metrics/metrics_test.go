package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/api/googleapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/pipeline"
	"github.com/spanledger/spanledger/sinks"
)

var idle = pipeline.Status{BudgetBytes: 1000, Sinks: []pipeline.SinkStatus{{Name: "archive"}, {Name: "pubsub"}}}

func watch(m *Metrics, s pipeline.Status) *Pipeline {
	p := m.Pipeline("orders")
	p.Watch(statusFunc(func() pipeline.Status { return s }))
	return p
}

type statusFunc func() pipeline.Status

func (f statusFunc) Status() pipeline.Status { return f() }

// TestExposition holds everything that can be exposed against Prometheus's rules for names and texts.
func TestExposition(t *testing.T) {
	m := New()
	now := time.Now()
	busy := pipeline.Status{
		Phase: pipeline.Running, Partitions: 3, Started: 5, Finished: 2, Heard: now, Read: 10, ReadBytes: 1000, Frames: 4, Heartbeats: 7,
		Watermark: change.TimestampOf(now), Checkpoints: 3, CheckpointFailures: 1, Checkpointed: now, BudgetUsed: 5, BudgetBytes: 10,
		Sinks: []pipeline.SinkStatus{{Name: "archive", Delivered: 10, Batches: 2, Segments: 2, SegmentBytes: 100, LastSegment: now, Watermark: 1}},
	}
	p := watch(m, busy)
	p.SetRetention(time.Hour)
	problems, err := testutil.GatherAndLint(m.Gatherer())
	if err != nil || len(problems) > 0 {
		t.Fatalf("%v %v", err, problems)
	}
	gathered := map[string]bool{}
	for _, f := range gather(t, m) {
		gathered[f.GetName()] = true
	}
	for _, d := range descriptions() {
		if !gathered[d] {
			t.Errorf("%s is described, and not exposed by a pipeline that does everything", d)
		}
	}
	for _, name := range []string{"spanledger_build_info", "go_goroutines", "process_start_time_seconds"} {
		if !gathered[name] {
			t.Errorf("%s is not exposed", name)
		}
	}
}

// TestCountersStartAtZero: every counter and histogram of a pipeline that has done nothing is there, with 0, for all its
// labels; a first error must be an increase. Times not known yet are not there.
func TestCountersStartAtZero(t *testing.T) {
	m := New()
	p := watch(m, idle)
	before := series(t, m)
	for name, v := range before {
		if strings.Contains(name, "timestamp") {
			t.Errorf("%s is shown as %v before anything happened", name, v)
		}
		if strings.Contains(name, "_total") && v != 0 {
			t.Errorf("%s starts at %v", name, v)
		}
	}
	p.SinkFailed("pubsub", status.Error(codes.Unavailable, "down"))
	p.CheckpointFailed(errors.New("?"))
	p.ReaderRetried("token", 1, net.ErrClosed)
	p.Delivered("archive", changes(1, 1, 2), time.Second)
	after := series(t, m)
	for name := range after {
		if _, ok := before[name]; !ok {
			t.Errorf("%s was born after the start", name)
		}
	}
	for _, name := range []string{
		`spanledger_sink_errors_total{code="unavailable",pipeline="orders",sink="pubsub"}`,
		`spanledger_checkpoint_errors_total{code="other",pipeline="orders"}`,
		`spanledger_delivery_seconds_count{pipeline="orders",sink="archive"}`,
	} {
		if v, ok := before[name]; !ok || v != 0 || after[name] != 1 {
			t.Errorf("%s went from %v (there: %v) to %v, want from 0 to 1", name, v, ok, after[name])
		}
	}
}

func changes(commits ...change.Timestamp) []change.Change {
	table := change.NewTable("t", 1, []change.Column{{Name: "id", Type: &change.Type{Code: change.CodeInt64}, Key: true, Ordinal: 1}})
	var cs []change.Change
	for _, c := range commits {
		cs = append(cs, change.Change{Position: change.Position{Commit: c}, Table: table})
	}
	return cs
}

// TestDelivered: a change is counted once in each histogram it belongs to, with its own age.
func TestDelivered(t *testing.T) {
	m := New()
	p := watch(m, idle)
	now := change.TimestampOf(time.Now())
	old, future := now-2_000_000_000, now+60_000_000
	p.Delivered("archive", changes(old, old, now, future), 20*time.Millisecond)
	got := series(t, m)
	labels := `{pipeline="orders",sink="archive"}`
	for name, want := range map[string]float64{
		"spanledger_commit_to_durable_seconds_count" + labels: 4,
		"spanledger_batch_changes_count" + labels:             1,
		"spanledger_batch_changes_sum" + labels:               4,
		"spanledger_delivery_seconds_sum" + labels:            0.02,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	for _, f := range gather(t, m) {
		if f.GetName() != "spanledger_commit_to_durable_seconds" {
			continue
		}
		for _, b := range f.Metric[0].Histogram.Bucket {
			want := uint64(2) // the new one, and the one Spanner's clock has in the future
			if b.GetUpperBound() >= 3600 {
				want = 4
			}
			if b.GetCumulativeCount() != want {
				t.Errorf("%d changes are at most %v s old, want %d", b.GetCumulativeCount(), b.GetUpperBound(), want)
			}
		}
		if sum := f.Metric[0].Histogram.GetSampleSum(); sum < 4000 || sum > 4010 {
			t.Errorf("the ages add up to %v s, want 2 × 2000", sum)
		}
	}
}

func TestClass(t *testing.T) {
	for want, err := range map[string]error{
		"unavailable":         fmt.Errorf("publish: %w", status.Error(codes.Unavailable, "")),
		"unauthenticated":     status.Error(codes.Unauthenticated, ""),
		"failed_precondition": sinks.Retry(&googleapi.Error{Code: 412}, 0),
		"permission_denied":   sinks.Stop(&googleapi.Error{Code: 403}),
		"unknown":             &googleapi.Error{Code: 418},
		"deadline_exceeded":   fmt.Errorf("write: %w", context.DeadlineExceeded),
		"canceled":            context.Canceled,
		"network":             &net.OpError{Op: "dial", Err: errors.New("refused")},
		"rejected":            &sinks.RejectError{Rejected: []sinks.Rejection{{Reason: status.Error(codes.Internal, "")}}},
		"other":               errors.New("?"),
	} {
		if got := classes[class(err)]; got != want {
			t.Errorf("%v is of class %s, want %s", err, got, want)
		}
	}
	if got := classes[class(status.Error(999, ""))]; got != "other" {
		t.Errorf("a code from the future is of class %s, want other", got)
	}
}

// TestPipelineOfTheSameName takes the place of the old one, whose late reports are no longer shown.
func TestPipelineOfTheSameName(t *testing.T) {
	m := New()
	old := watch(m, idle)
	watch(m, idle)
	old.SinkFailed("pubsub", errors.New("?"))
	if v := series(t, m)[`spanledger_sink_errors_total{code="other",pipeline="orders",sink="pubsub"}`]; v != 0 {
		t.Errorf("%v errors, want those of the new pipeline only", v)
	}
}

func TestHandlerServesBothFormats(t *testing.T) {
	m := New()
	watch(m, idle)
	for accept, want := range map[string]string{"": "text/plain", "application/openmetrics-text; version=1.0.0": "application/openmetrics-text"} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Accept", accept)
		m.Handler().ServeHTTP(w, r)
		if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), want) || !strings.Contains(w.Body.String(), "spanledger_changes_read") {
			t.Errorf("Accept %q: %d %s", accept, w.Code, w.Header().Get("Content-Type"))
		}
	}
}

func gather(t *testing.T, m *Metrics) []*dto.MetricFamily {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// series are the values of our own metrics, histograms by their count and sum.
func series(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for _, f := range gather(t, m) {
		if !strings.HasPrefix(f.GetName(), prefix) {
			continue
		}
		for _, x := range f.Metric {
			var labels []string
			for _, l := range x.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			slices.Sort(labels)
			suffix := "{" + strings.Join(labels, ",") + "}"
			switch {
			case x.Counter != nil:
				all[f.GetName()+suffix] = x.Counter.GetValue()
			case x.Gauge != nil:
				all[f.GetName()+suffix] = x.Gauge.GetValue()
			case x.Histogram != nil:
				all[f.GetName()+"_count"+suffix] = float64(x.Histogram.GetSampleCount())
				all[f.GetName()+"_sum"+suffix] = x.Histogram.GetSampleSum()
			}
		}
	}
	return all
}

// descriptions are the names the collector describes.
func descriptions() []string {
	ch := make(chan *prometheus.Desc, 100)
	(&collector{}).Describe(ch)
	close(ch)
	var names []string
	for d := range ch {
		_, rest, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		names = append(names, name)
	}
	return names
}
