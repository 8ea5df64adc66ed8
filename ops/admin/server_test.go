package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/pipeline"
)

func TestMain(m *testing.M) {
	// Google's client libraries start this one when they are imported, and it never ends.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

// engine shows the Status it is set to.
type engine struct {
	atomic.Pointer[pipeline.Status]
}

func (e *engine) Status() pipeline.Status { return *e.Load() }

func running() pipeline.Status {
	return pipeline.Status{Phase: pipeline.Running, Checkpointed: time.Now(), Sinks: []pipeline.SinkStatus{{Name: "archive"}}}
}

// serve starts a server of the pipelines a and b.
func serve(t *testing.T, o Options) (a, b *engine, get func(path string) (int, string)) {
	t.Helper()
	a, b = &engine{}, &engine{}
	s := running()
	a.Store(&s)
	b.Store(&s)
	o.Pipelines = []Pipeline{{"a", a}, {"b", b}}
	o.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "numbers") })
	srv, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := srv.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	if host, _, err := net.SplitHostPort(srv.Addr()); err != nil || host != "127.0.0.1" {
		t.Fatalf("listens on %s, want loopback", srv.Addr())
	}
	return a, b, func(path string) (int, string) {
		t.Helper()
		resp, err := client.Get("http://" + srv.Addr() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
}

// TestReady: one pipeline that does not make progress, for whatever reason, makes the process not ready, and the answer
// names it and the reason; health does not change.
func TestReady(t *testing.T) {
	_, b, get := serve(t, Options{})
	failing := &pipeline.Failure{Err: errors.New("bucket is gone"), Since: time.Unix(0, 0), Tries: 3}
	for _, c := range []struct {
		name string
		set  func(*pipeline.Status)
		code int
		want string
	}{
		{"running", func(*pipeline.Status) {}, 200, "pipeline b: ready\n"},
		{"a failing sink is shown, and no reason to restart", func(s *pipeline.Status) { s.Sinks[0].Failure = failing }, 200, "sink archive is being retried since 1970-01-01T00:00:00Z: bucket is gone"},
		{"before the state is open", func(s *pipeline.Status) { s.Phase = pipeline.Starting }, 503, "pipeline b: not ready: starting"},
		{"no checkpoint yet", func(s *pipeline.Status) { s.Checkpointed = time.Time{} }, 503, "no checkpoint yet"},
		{"checkpoints stand still", func(s *pipeline.Status) { s.Checkpointed = time.Now().Add(-2 * time.Minute) }, 503, "checkpoints stand still: the last was 2m"},
		{"draining", func(s *pipeline.Status) { s.Phase = pipeline.Draining }, 503, "draining"},
		{"dead", func(s *pipeline.Status) { s.Phase, s.Err = pipeline.Ended, errors.New("stream dropped") }, 503, "not ready: ended after an error: stream dropped"},
	} {
		s := running()
		c.set(&s)
		b.Store(&s)
		code, body := get("/readyz")
		if code != c.code || !strings.Contains(body, c.want) || !strings.Contains(body, "pipeline a: ready") {
			t.Errorf("%s: %d %q, want %d and %q", c.name, code, body, c.code, c.want)
		}
		var doc Status
		_, body = get("/status.json")
		if err := json.Unmarshal([]byte(body), &doc); err != nil || doc.Ready != (c.code == 200) || doc.Pipelines[1].Ready != doc.Ready || !doc.Pipelines[0].Ready {
			t.Errorf("%s: status.json says %s (%v)", c.name, body, err)
		}
		if code, _ := get("/healthz"); code != 200 {
			t.Errorf("%s: /healthz answers %d", c.name, code)
		}
	}
}

func TestStatusDocument(t *testing.T) {
	a, _, get := serve(t, Options{})
	now := time.Now()
	a.Store(&pipeline.Status{
		Phase: pipeline.Running, Read: 7, Partitions: 2, Watermark: change.TimestampOf(now.Add(-time.Minute)), Checkpointed: now,
		Sinks: []pipeline.SinkStatus{{Name: "archive", Delivered: 5, Segments: 1, Failure: &pipeline.Failure{Err: errors.New("<b>no"), Since: now, Tries: 2}}},
	})
	code, body := get("/status.json")
	var doc Status
	if err := json.Unmarshal([]byte(body), &doc); err != nil || code != 200 {
		t.Fatalf("%d %v", code, err)
	}
	p := doc.Pipelines[0]
	if p.Name != "a" || p.Phase != "running" || p.ChangesRead != 7 || p.LagSeconds == nil || *p.LagSeconds < 59 || *p.LagSeconds > 70 || p.OldestProgress != nil {
		t.Errorf("pipeline a is %+v", p)
	}
	if k := p.Sinks[0]; k.Delivered != 5 || k.Segments != 1 || k.Failure == nil || k.Failure.Error != "<b>no" || k.Failure.Tries != 2 || k.Watermark != nil {
		t.Errorf("its sink is %+v", k)
	}
	if strings.Contains(body, "0001-01-01") {
		t.Error("times that are not known are shown")
	}
}

func TestPages(t *testing.T) {
	_, _, get := serve(t, Options{})
	for path, want := range map[string]int{"/": 200, "/metrics": 200, "/healthz": 200, "/nothing": 404, "/debug/pprof/": 404, "/debug/pprof/heap": 404} {
		if code, body := get(path); code != want {
			t.Errorf("%s answers %d %s, want %d", path, code, body, want)
		}
	}
	_, _, get = serve(t, Options{Profiler: true})
	if code, _ := get("/debug/pprof/goroutine?debug=1"); code != 200 {
		t.Errorf("the profiler answers %d", code)
	}
}

func TestAddressTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Start(Options{Addr: l.Addr().String(), Metrics: http.NotFoundHandler(), Pipelines: []Pipeline{{"a", &engine{}}}})
	if err == nil || !strings.Contains(err.Error(), "--admin") {
		t.Errorf("%v, want an error that says what to do", err)
	}
}

// TestCloseCutsOff: a client that does not go away delays the end until the deadline, no longer.
func TestCloseCutsOff(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	srv, err := Start(Options{
		Metrics: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
			close(release)
		}),
		Pipelines: []Pipeline{{"a", &engine{}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", srv.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := srv.Close(ctx); err == nil {
		t.Error("Close says nothing of the request it cut off")
	}
	<-release
}
