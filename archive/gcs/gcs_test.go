package gcs

import (
	"bytes"
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
	"google.golang.org/api/googleapi"

	"github.com/spanledger/spanledger/archive"
	emulator "github.com/spanledger/spanledger/emulator/storage"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

// script answers requests in the server's place where it wants to.
type script struct {
	base *http.Transport

	mu       sync.Mutex
	requests []*http.Request
	do       func(n int, r *http.Request, send func() (*http.Response, error)) (*http.Response, error)
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.requests = append(s.requests, r)
	n, do := len(s.requests), s.do
	s.mu.Unlock()
	send := func() (*http.Response, error) { return s.base.RoundTrip(r) }
	if do == nil {
		return send()
	}
	return do(n, r, send)
}

func code(r *http.Request, code int) (*http.Response, error) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return &http.Response{StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

func start(t *testing.T) (*Bucket, *script) {
	t.Helper()
	server, err := emulator.Start(t.Context(), emulator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	s := &script{base: &http.Transport{DisableKeepAlives: true}}
	client, err := storage.NewClient(t.Context(), server.ClientOptions(&http.Client{Transport: s})...)
	if err != nil {
		t.Fatal(err)
	}
	client.SetRetry(storage.WithBackoff(gax.Backoff{Initial: time.Millisecond, Max: time.Millisecond, Multiplier: 1}), storage.WithMaxAttempts(attempts))
	t.Cleanup(func() {
		if err := errors.Join(client.Close(), server.Close()); err != nil {
			t.Error(err)
		}
		s.base.CloseIdleConnections()
	})
	b := New(client, "bucket", "p/")
	b.chunk = 256 << 10
	return b, s
}

func TestBucket(t *testing.T) {
	b, _ := start(t)
	for i, size := range []int{0, 100, 700 << 10} {
		want := archive.Object{Name: "a/b", ContentType: "x/y", Metadata: map[string]string{"k": "v"}}
		want.Name += strings.Repeat("c", i+1)
		data := bytes.Repeat([]byte("d"), size)
		made, err := b.Create(t.Context(), want, data)
		if err != nil {
			t.Fatal(err)
		}
		if made.Name != want.Name || made.Generation == 0 || made.Size != int64(size) {
			t.Errorf("created %+v", made)
		}
		if _, err := b.Create(t.Context(), want, []byte("other")); !errors.Is(err, archive.ErrExists) {
			t.Errorf("created twice: %v", err)
		}
		got, err := b.Stat(t.Context(), want.Name)
		if err != nil || got.Generation != made.Generation || got.Size != int64(size) || got.Metadata["k"] != "v" || got.ContentType != "x/y" {
			t.Errorf("Stat = %+v, %v", got, err)
		}
		r, err := b.Open(t.Context(), want.Name)
		if err != nil {
			t.Fatal(err)
		}
		back, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(back, data) {
			t.Errorf("read back %d bytes, %v", len(back), err)
		}
	}
	n := 0
	for o, err := range b.List(t.Context(), "a/") {
		if err != nil || !strings.HasPrefix(o.Name, "a/b") || o.Metadata["k"] != "v" {
			t.Errorf("listed %+v, %v", o, err)
		}
		n++
		if n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("listed %d objects", n)
	}
	if _, err := b.Stat(t.Context(), "none"); !errors.Is(err, archive.ErrNotFound) {
		t.Errorf("Stat of nothing: %v", err)
	}
	if _, err := b.Open(t.Context(), "none"); !errors.Is(err, archive.ErrNotFound) {
		t.Errorf("Open of nothing: %v", err)
	}
}

// An object in pieces whose pieces fail before they arrive is sent whole in the end.
func TestPieces(t *testing.T) {
	b, s := start(t)
	s.do = func(n int, r *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
		if n%2 == 0 {
			return code(r, http.StatusServiceUnavailable)
		}
		return send()
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 60<<10)
	if _, err := b.Create(t.Context(), archive.Object{Name: "o"}, data); err != nil {
		t.Fatal(err)
	}
}

// isLast tells the last piece of an upload, which alone knows the size.
func isLast(r *http.Request) bool {
	of := r.Header.Get("Content-Range")
	return of != "" && !strings.HasSuffix(of, "/*")
}

// The session of an upload can be gone although its object is there, or with it: a 404 then says nothing of the bucket.
func TestSessionLost(t *testing.T) {
	data := bytes.Repeat([]byte("x"), 300<<10)
	for _, status := range []int{http.StatusNotFound, http.StatusGone} {
		b, s := start(t)
		s.do = func(_ int, r *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
			resp, err := send()
			if err != nil || !isLast(r) {
				return resp, err
			}
			if err := resp.Body.Close(); err != nil {
				return nil, err
			}
			return code(r, status)
		}
		if _, err := b.Create(t.Context(), archive.Object{Name: "o"}, data); !errors.Is(err, archive.ErrExists) {
			t.Errorf("%d after the object was made: %v", status, err)
		}
		s.do = func(_ int, r *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
			if isLast(r) {
				return code(r, status)
			}
			return send()
		}
		_, err := b.Create(t.Context(), archive.Object{Name: "never"}, data)
		if e, ok := errors.AsType[*googleapi.Error](err); err == nil || ok || errors.Is(err, archive.ErrExists) || !strings.Contains(err.Error(), "session") {
			t.Errorf("%d before the object was made: %v, %v", status, err, e)
		}
	}
}

func TestBucketGone(t *testing.T) {
	b, s := start(t)
	s.do = func(_ int, r *http.Request, _ func() (*http.Response, error)) (*http.Response, error) {
		return code(r, http.StatusNotFound)
	}
	for _, size := range []int{10, 300 << 10} {
		if _, err := b.Create(t.Context(), archive.Object{Name: "o"}, make([]byte, size)); !errors.Is(err, storage.ErrBucketNotExist) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// Whoever may not replace an object, or meets one under retention, can be told 403 where it exists.
func TestForbidden(t *testing.T) {
	b, s := start(t)
	if _, err := b.Create(t.Context(), archive.Object{Name: "o"}, nil); err != nil {
		t.Fatal(err)
	}
	s.do = func(_ int, r *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
		if r.Method == http.MethodPost {
			return code(r, http.StatusForbidden)
		}
		return send()
	}
	if _, err := b.Create(t.Context(), archive.Object{Name: "o"}, nil); !errors.Is(err, archive.ErrExists) {
		t.Errorf("where there is one: %v", err)
	}
	if _, err := b.Create(t.Context(), archive.Object{Name: "other"}, nil); err == nil || errors.Is(err, archive.ErrExists) {
		t.Errorf("where there is none: %v", err)
	}
}

// What the service says it stored is compared with what was sent.
func TestStoredOtherwise(t *testing.T) {
	b, s := start(t)
	for _, says := range []string{`{"name":"p/o","generation":"1","size":"4","crc32c":"AAAAAA=="}`, `{"name":"p/o","generation":"1","size":"5","crc32c":"AAAAAA=="}`} {
		s.do = func(_ int, r *http.Request, _ func() (*http.Response, error)) (*http.Response, error) {
			resp, err := code(r, http.StatusOK)
			resp.Body = io.NopCloser(strings.NewReader(says))
			return resp, err
		}
		if _, err := b.Create(t.Context(), archive.Object{Name: "o"}, []byte("hello")); err == nil || !strings.Contains(err.Error(), "was stored as") {
			t.Errorf("%s: %v", says, err)
		}
	}
	s.do = func(_ int, r *http.Request, _ func() (*http.Response, error)) (*http.Response, error) {
		resp, err := code(r, http.StatusOK)
		resp.Body = io.NopCloser(strings.NewReader(`{"name":"p/o","generation":"1","size":"5","crc32c":"mnG7TA=="}`))
		return resp, err
	}
	if _, err := b.Create(t.Context(), archive.Object{Name: "o"}, []byte("hello")); err != nil {
		t.Error(err)
	}
}

// Every error ends the upload in a bounded number of requests, and a caller that gives up is obeyed at once.
func TestGivesUp(t *testing.T) {
	b, s := start(t)
	s.do = func(_ int, r *http.Request, _ func() (*http.Response, error)) (*http.Response, error) {
		return code(r, http.StatusServiceUnavailable)
	}
	if _, err := b.Create(t.Context(), archive.Object{Name: "o"}, nil); err == nil || len(s.requests) != attempts {
		t.Errorf("%v after %d requests", err, len(s.requests))
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.do = func(_ int, r *http.Request, _ func() (*http.Response, error)) (*http.Response, error) {
		cancel()
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if _, err := b.Create(ctx, archive.Object{Name: "o"}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
