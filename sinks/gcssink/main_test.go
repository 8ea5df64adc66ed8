package gcssink

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/storage"
	"github.com/googleapis/gax-go/v2"
	"go.uber.org/goleak"

	"github.com/spanledger/spanledger/archive"
	"github.com/spanledger/spanledger/archive/gcs"
	"github.com/spanledger/spanledger/change"
	emulator "github.com/spanledger/spanledger/emulator/storage"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

const testBucket = "ledger"

// world is a Cloud Storage in this process with one bucket, and a client that no fault reaches.
type world struct {
	server *emulator.Server
	clean  *gcs.Bucket
	client *storage.Client
}

const testPrefix = "an/archive/"

type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

func newWorld(t tester, dir string) *world {
	t.Helper()
	ctx := context.Background()
	server, err := emulator.Start(ctx, emulator.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.CreateBucket(ctx, testBucket); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	client, err := storage.NewClient(ctx, server.ClientOptions(&http.Client{Transport: transport})...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(client.Close(), server.Close()); err != nil {
			t.Fatal(err)
		}
		transport.CloseIdleConnections()
	})
	return &world{server, gcs.New(client, testBucket, testPrefix), client}
}

func (w *world) options() Options {
	o := Options{}
	o.Bucket, o.Prefix, o.Database, o.Stream, o.Endpoint = testBucket, testPrefix, "projects/p/instances/i/databases/d", "s", "http://"+w.server.Addr()
	return o
}

// sink makes a sink, not open yet; its requests go through faults, if there are some.
func (w *world) sink(t tester, o Options, f *faults) *Sink {
	t.Helper()
	s, err := New("archive", o)
	if err != nil {
		t.Fatal(err)
	}
	s.backoff = gax.Backoff{Initial: time.Millisecond, Max: 2 * time.Millisecond, Multiplier: 2}
	if f != nil {
		f.base = &http.Transport{DisableKeepAlives: true}
		s.transport = f
	}
	return s
}

func (w *world) opened(t tester, o Options, f *faults) *Sink {
	t.Helper()
	s := w.sink(t, o, f)
	if err := s.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
	return s
}

// object is what may never change of a stored object.
type object struct {
	generation, metageneration int64
	crc                        uint32
	size                       int64
	metadata                   string
}

// objects lists all there is.
func (w *world) objects(t tester) map[string]object {
	t.Helper()
	all := map[string]object{}
	it := w.client.Bucket(testBucket).Objects(context.Background(), nil)
	for {
		a, err := it.Next()
		if err != nil {
			if err.Error() != "no more items in iterator" {
				t.Fatal(err)
			}
			return all
		}
		var metadata strings.Builder
		for _, k := range []string{"spanledger-first", "spanledger-last", "spanledger-sha256"} {
			metadata.WriteString(a.Metadata[k] + " ")
		}
		all[a.Name] = object{a.Generation, a.Metageneration, a.CRC32C, a.Size, metadata.String()}
	}
}

func (w *world) data(t tester, name string) []byte {
	t.Helper()
	r, err := w.clean.Open(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return data
}

// readChain reads a chain back, proving names, links and digests on the way.
func readChain(t tester, b archive.Bucket, chain change.Chain) ([]change.Change, []archive.Segment) {
	t.Helper()
	ctx := context.Background()
	segments, err := archive.ListChain(ctx, b, chain)
	if err != nil {
		t.Fatal(err)
	}
	var all []change.Change
	for _, segment := range segments {
		r, err := archive.Read(ctx, b, segment)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			var c change.Change
			if err = r.Next(&c); err == nil {
				all = append(all, c)
			}
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all, segments
}

// fault is what happens to one request.
type fault int

const (
	pass      fault = iota
	refuse          // 503, nothing happens
	throttle        // 429
	reset           // the connection breaks before the request
	lose            // it happens, but its answer is lost
	loseTo503       // it happens, but the answer is a 503
	truncate        // half the body arrives
	cancel          // it happens; then the caller gives up
	faultKinds
)

// faults is a transport on which requests meet faults, in order; when none is left they pass.
type faults struct {
	base http.RoundTripper

	mu       sync.Mutex
	plan     []fault
	cancel   context.CancelFunc
	only     func(*http.Request) bool // nil: every request
	requests []string
	answer   func(*http.Request) *http.Response // nil, or what to answer in the server's place
}

func (f *faults) next(r *http.Request) fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path+"?"+r.URL.RawQuery)
	if len(f.plan) == 0 || f.only != nil && !f.only(r) {
		return pass
	}
	next := f.plan[0]
	f.plan = f.plan[1:]
	return next
}

func (f *faults) set(cancel context.CancelFunc, plan ...fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan, f.cancel = plan, cancel
}

func (f *faults) CloseIdleConnections() { f.base.(*http.Transport).CloseIdleConnections() }

// brokenBody ends after half of what was to come.
type brokenBody struct {
	io.ReadCloser
	left int64
}

func (b *brokenBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("connection reset by peer")
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func answer(r *http.Request, code int) *http.Response {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return &http.Response{
		Status: http.StatusText(code), StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"text/plain"}}, Body: io.NopCloser(strings.NewReader("injected")), Request: r,
	}
}

func (f *faults) RoundTrip(r *http.Request) (*http.Response, error) {
	kind := f.next(r)
	if f.answer != nil {
		if a := f.answer(r); a != nil {
			return a, nil
		}
	}
	errReset := errors.New("connection reset by peer")
	switch kind {
	case refuse:
		return answer(r, http.StatusServiceUnavailable), nil
	case throttle:
		return answer(r, http.StatusTooManyRequests), nil
	case reset:
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, errReset
	case truncate:
		if r.Body == nil {
			return nil, errReset
		}
		half := r.Clone(r.Context())
		half.Body = &brokenBody{r.Body, max(r.ContentLength, 1000) / 2}
		resp, err := f.base.RoundTrip(half)
		if err == nil {
			_ = resp.Body.Close()
		}
		return nil, errReset
	case lose, loseTo503, cancel:
		resp, err := f.base.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			return nil, err
		}
		if kind == loseTo503 {
			return answer(r, http.StatusServiceUnavailable), nil
		}
		if kind == cancel && f.cancel != nil {
			f.cancel()
		}
		return nil, errReset
	}
	return f.base.RoundTrip(r)
}
