package ops_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/spanledger/spanledger/app"
	"github.com/spanledger/spanledger/ingest"
	"github.com/spanledger/spanledger/ops/admin"
	"github.com/spanledger/spanledger/ops/metrics"
	"github.com/spanledger/spanledger/pipeline"
)

// TestNoPanelIsEmpty runs `dev` with events that keep coming and has a real Prometheus answer every query of the dashboard.
func TestNoPanelIsEmpty(t *testing.T) {
	t.Parallel()
	find(t, "prometheus")
	out := &output{}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := app.Dev(ctx, app.DevOptions{Out: out, Logger: slog.New(slog.DiscardHandler)})
		ended <- err
	}()
	p := &prom{}
	var address, db string
	p.eventually(t, 60*time.Second, "dev says where it is", func() error {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("dev ended: %v\n%s", err, out)
		default:
		}
		address, db = out.find(`admin +http://(\S+)`), out.find(`SPANNER_EMULATOR_HOST=(\S+)`)
		if address == "" {
			return errors.New("no admin address")
		}
		return nil
	})
	p = startPrometheus(t, address)
	stopEvents := keepAppending(t, db, "projects/spanledger-dev/instances/dev/databases/ledger")

	d := readDashboard(t)
	p.eventually(t, 60*time.Second, "every panel shows something", func() error {
		var empty []error
		for _, panel := range d.Panels {
			for _, q := range panel.Targets {
				if err := p.shows(q.Expr, q.Range); err != nil {
					empty = append(empty, fmt.Errorf("%s: %w", panel.Title, err))
				}
			}
		}
		return errors.Join(empty...)
	})
	if *preview != "" {
		p.render(t, d, *preview)
	}
	for _, v := range d.Templating.List {
		if of, label, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(v.Definition, "label_values("), ")"), "}, "); ok || v.Name == "job" {
			if !ok {
				of, label, _ = strings.Cut(strings.TrimSuffix(strings.TrimPrefix(v.Definition, "label_values("), ")"), ", ")
			} else {
				of += "}"
			}
			found, err := p.query(substitute(of), false)
			if err != nil || len(found) == 0 || found[0].Metric[label] == "" {
				t.Errorf("the variable %s has no values: %v", v.Name, err)
			}
		}
	}
	if firing := p.firing(t); len(firing) > 0 {
		t.Errorf("all is well, and %v fire", slices.Collect(maps.Keys(firing)))
	}
	stopEvents()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("dev: %v\n%s", err, out)
	}
}

// substitute puts values in the place of Grafana's variables, as it would.
func substitute(expr string) string {
	return strings.NewReplacer("$__rate_interval", "4s", "$__range", "1m", "$job", "spanledger", "$instance", ".*", "$pipeline", ".*", "$sink", ".*").Replace(expr)
}

// shows is an error if a panel with this query would be empty.
func (p *prom) shows(expr string, isRange bool) error {
	found, err := p.query(substitute(expr), isRange)
	if err != nil {
		return err
	}
	for _, s := range found {
		if slices.ContainsFunc(s.Values, func(v string) bool { return v != "NaN" }) {
			return nil
		}
	}
	return fmt.Errorf("nothing to show for %s", expr)
}

// TestEveryAlertFires breaks a running pipeline in one way after another and waits for Prometheus to say so.
func TestEveryAlertFires(t *testing.T) {
	t.Parallel()
	find(t, "prometheus")
	w := startWorld(t)
	p := startPrometheus(t, w.admin.Addr())
	stopEvents := keepAppending(t, w.cloud.Spanner, resources.Database)
	p.eventually(t, 30*time.Second, "the pipeline delivers and no alert fires", func() error {
		if err := p.shows(`sum(rate(spanledger_changes_delivered_total{sink="pubsub"}[4s])) > 0`, false); err != nil {
			return err
		}
		if firing := p.firing(t); len(firing) > 0 {
			return fmt.Errorf("%v fire", slices.Collect(maps.Keys(firing)))
		}
		return nil
	})
	if code, body := p.get(t, "http://"+w.admin.Addr()+"/readyz"); code != http.StatusOK {
		t.Errorf("a pipeline that works is not ready: %d %s", code, body)
	}
	seen := map[string]bool{}
	fires := func(names ...string) {
		t.Helper()
		p.eventually(t, 60*time.Second, strings.Join(names, ", ")+" fire", func() error {
			firing := p.firing(t)
			for _, n := range names {
				if seen[n] = seen[n] || firing[n]; !seen[n] {
					return fmt.Errorf("%s does not, %v do", n, slices.Collect(maps.Keys(firing)))
				}
			}
			return nil
		})
	}

	// Pub/Sub is down: its sink fails and falls behind, the small budget fills, and a short retention comes near.
	w.metrics.SetRetention(10 * time.Second)
	w.cloud.Messages.SetFault(func(_ context.Context, method string, _ proto.Message, effect bool) error {
		if method == "Publish" && !effect {
			return status.Error(codes.Unavailable, "injected")
		}
		return nil
	})
	fires("SpanledgerSinkFailing", "SpanledgerSinkErrors", "SpanledgerSinkLate", "SpanledgerSinkVeryLate", "SpanledgerRetentionNear", "SpanledgerBudgetFull")
	w.cloud.Messages.SetFault(nil)
	p.eventually(t, 60*time.Second, "the sink recovers", func() error {
		if firing := p.firing(t); firing["SpanledgerSinkFailing"] || firing["SpanledgerSinkVeryLate"] {
			return fmt.Errorf("%v still fire", slices.Collect(maps.Keys(firing)))
		}
		return nil
	})

	// Spanner is away: nothing can be read or stored.
	stopEvents()
	w.spanner.cut()
	fires("SpanledgerReaderRetrying", "SpanledgerPartitionStalled", "SpanledgerCheckpointsStale")
	w.spanner.mend()

	// The pipeline ends while its process lives; then that ends too.
	w.stop()
	if code, body := p.get(t, "http://"+w.admin.Addr()+"/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "pipeline orders: not ready: ended") {
		t.Errorf("a pipeline that has ended: %d %s", code, body)
	}
	fires("SpanledgerPipelineStopped")
	w.closeAdmin()
	fires("SpanledgerDown", "SpanledgerNoData")

	_, alerts := readRules(t)
	for _, a := range alerts {
		if !seen[a.Alert] {
			t.Errorf("%s was never seen firing", a.Alert)
		}
	}
}

var resources = app.Resources{
	Database:      "projects/spanledger-test/instances/test/databases/ledger",
	StateDatabase: "projects/spanledger-test/instances/test/databases/state",
	Stream:        "changes", Project: "spanledger-test", Topic: "changes", Bucket: "archive",
}

// world is what dev runs, with places to break it.
type world struct {
	cloud      *app.Cloud
	spanner    *line // between the pipeline and Spanner
	metrics    *metrics.Pipeline
	admin      *admin.Server
	stop       func()
	closeAdmin func()
}

func startWorld(t *testing.T) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	cloud, err := app.StartCloud(t.Context(), app.CloudOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cloud.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := cloud.Setup(t.Context(), resources); err != nil {
		t.Fatal(err)
	}
	w := &world{cloud: cloud, spanner: newLine(t, cloud.Spanner)}
	through := cloud.Endpoints
	through.Spanner = w.spanner.addr
	options := func(v map[string]any) json.RawMessage {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	numbers := metrics.New()
	w.metrics = numbers.Pipeline("orders")
	line, err := app.NewPipeline(t.Context(), through, app.PipelineConfig{
		Name: "orders", Database: resources.Database, Stream: resources.Stream, StateDatabase: resources.StateDatabase,
		Heartbeat: 200 * time.Millisecond, CheckpointEvery: 250 * time.Millisecond, BudgetBytes: 64 << 10, DrainTimeout: 5 * time.Second,
		Sinks: []app.SinkConfig{
			{Name: "archive", Type: "gcs", Options: options(map[string]any{
				"bucket": resources.Bucket, "prefix": "orders", "endpoint": cloud.Storage, "max_delay": "500ms",
				"database": resources.Database, "stream": resources.Stream, "identity": "1",
			})},
			{Name: "pubsub", Type: "pubsub", Options: options(map[string]any{"project": resources.Project, "topic": resources.Topic, "emulator_host": cloud.PubSub})},
		},
		Metrics: w.metrics,
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	w.admin, err = admin.Start(admin.Options{Metrics: numbers.Handler(), Pipelines: []admin.Pipeline{{Name: "orders", Engine: line}}, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- line.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the pipeline: %v", err)
		}
	})
	w.closeAdmin = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := w.admin.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		w.spanner.mend()
		w.stop()
		w.closeAdmin()
		if err := line.Close(); err != nil {
			t.Error(err)
		}
	})
	if s := line.Status(); s.Phase > pipeline.Running {
		t.Fatalf("the pipeline is %v: %v", s.Phase, s.Err)
	}
	return w
}

// keepAppending commits a few events again and again until the answered function is called or the test ends.
func keepAppending(t *testing.T, addr, db string) func() {
	t.Helper()
	client, err := spanner.NewClientWithConfig(t.Context(), db, spanner.ClientConfig{DisableNativeMetrics: true},
		option.WithEndpoint(addr), option.WithoutAuthentication(), option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	store := ingest.New(client, ingest.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			var events []ingest.Event
			for k := range 5 {
				events = append(events, ingest.Event{ID: fmt.Sprintf("%d-%d", i, k), Type: "tick", Data: json.RawMessage(`{"text":"` + strings.Repeat("x", 500) + `"}`)})
			}
			if _, err := store.Append(ctx, fmt.Sprintf("clock-%d", i%10), ingest.Any, events...); err != nil && ctx.Err() == nil {
				t.Errorf("append: %v", err)
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	stop := sync.OnceFunc(func() { cancel(); <-done; client.Close() })
	t.Cleanup(stop)
	return stop
}

// line is a TCP connection to a server that can be cut.
type line struct {
	addr string

	mu    sync.Mutex
	isCut bool
	conns map[net.Conn]bool
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{addr: listener.Addr().String(), conns: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil || !l.add(near, far) {
				near.Close()
				if far != nil {
					far.Close()
				}
				continue
			}
			all.Go(func() { io.Copy(near, far); near.Close(); far.Close() })
			all.Go(func() { io.Copy(far, near); near.Close(); far.Close() })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		l.cut()
		all.Wait()
	})
	return l
}

func (l *line) add(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		l.conns[c] = true
	}
	return !l.isCut
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = true
	for c := range l.conns {
		c.Close()
	}
	clear(l.conns)
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = false
}

// output is what a program says, read while it is written.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// find is the first group of the pattern, "" if it is not there.
func (o *output) find(pattern string) string {
	if m := regexp.MustCompile(pattern).FindStringSubmatch(o.String()); m != nil {
		return m[1]
	}
	return ""
}
