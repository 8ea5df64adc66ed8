package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	gcs "cloud.google.com/go/storage"
	"go.uber.org/goleak"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

// start starts a Server with one bucket; stop ends it and all connections to it.
func start(t *testing.T, dir string) (b *gcs.BucketHandle, stop func()) {
	t.Helper()
	s, err := Start(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true} // a connection that lost the race for a request would stay idle behind the test
	client, err := gcs.NewClient(t.Context(), s.ClientOptions(&http.Client{Transport: transport})...)
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		if err := errors.Join(client.Close(), s.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		transport.CloseIdleConnections()
	})
	t.Cleanup(stop)
	for range 2 { // the second time it is there
		if err := s.CreateBucket(t.Context(), "bucket"); err != nil {
			t.Fatal(err)
		}
	}
	return client.Bucket("bucket"), stop
}

func backends(t *testing.T, f func(t *testing.T, dir string)) {
	t.Run("memory", func(t *testing.T) { f(t, "") })
	t.Run("directory", func(t *testing.T) { f(t, t.TempDir()) })
}

// create writes an object that must not exist yet, in chunks of 256 KiB if it is larger.
func create(b *gcs.BucketHandle, name string, data []byte, metadata map[string]string) error {
	w := b.Object(name).If(gcs.Conditions{DoesNotExist: true}).NewWriter(context.Background())
	w.ChunkSize, w.Metadata, w.ContentType = 256<<10, metadata, "application/avro"
	_, err := w.Write(data)
	return errors.Join(err, w.Close())
}

func isPrecondition(err error) bool {
	e, ok := errors.AsType[*googleapi.Error](err)
	return ok && e.Code == http.StatusPreconditionFailed
}

func read(t *testing.T, b *gcs.BucketHandle, name string) []byte {
	t.Helper()
	r, err := b.Object(name).NewReader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestCreateOnce(t *testing.T) {
	backends(t, func(t *testing.T, dir string) {
		b, _ := start(t, dir)
		for _, size := range []int{0, 10, 700 << 10} { // the last by a resumable upload
			name := fmt.Sprintf("folder/size=%d", size)
			data := bytes.Repeat([]byte("x"), size)
			if err := create(b, name, data, nil); err != nil {
				t.Fatal(err)
			}
			before, err := b.Object(name).Attrs(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := create(b, name, []byte("other"), nil); !isPrecondition(err) {
				t.Errorf("%s: the second creation: %v", name, err)
			}
			if err := create(b, name, bytes.Repeat([]byte("y"), 700<<10), nil); !isPrecondition(err) {
				t.Errorf("%s: the second creation, resumable: %v", name, err)
			}
			after, err := b.Object(name).Attrs(t.Context())
			if err != nil || after.Generation != before.Generation || after.Generation == 0 || after.CRC32C != crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) {
				t.Errorf("%s: %+v, %v", name, after, err)
			}
			if !bytes.Equal(read(t, b, name), data) {
				t.Errorf("%s: its content changed", name)
			}
		}
	})
}

// Of many creations at once exactly one succeeds.
func TestCreateRace(t *testing.T) {
	backends(t, func(t *testing.T, dir string) {
		b, _ := start(t, dir)
		var wins atomic.Int64
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				err := create(b, "one", fmt.Appendf(nil, "writer %d", i), map[string]string{"writer": fmt.Sprint(i)})
				switch {
				case err == nil:
					wins.Add(1)
				case !isPrecondition(err):
					t.Error(err)
				}
			})
		}
		group.Wait()
		attrs, err := b.Object("one").Attrs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := string(read(t, b, "one")); wins.Load() != 1 || got != "writer "+attrs.Metadata["writer"] {
			t.Errorf("%d writers created %q with %v", wins.Load(), got, attrs.Metadata)
		}
	})
}

// A wrong checksum is refused, and what is left half-way makes no object.
func TestNothingHalf(t *testing.T) {
	backends(t, func(t *testing.T, dir string) {
		b, _ := start(t, dir)
		w := b.Object("wrong").NewWriter(t.Context())
		w.CRC32C, w.SendCRC32C = 1, true
		_, err := w.Write([]byte("hello"))
		if err = errors.Join(err, w.Close()); err == nil {
			t.Error("a wrong checksum was accepted")
		}
		ctx, cancel := context.WithCancel(t.Context())
		w = b.Object("half").NewWriter(ctx)
		w.ChunkSize = 256 << 10
		if _, err := w.Write(bytes.Repeat([]byte("x"), 600<<10)); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := w.Close(); err == nil {
			t.Error("a cancelled upload succeeded")
		}
		for _, name := range []string{"wrong", "half", "never"} {
			if _, err := b.Object(name).Attrs(t.Context()); !errors.Is(err, gcs.ErrObjectNotExist) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func list(t *testing.T, b *gcs.BucketHandle, prefix string) (names []string) {
	t.Helper()
	it := b.Objects(t.Context(), &gcs.Query{Prefix: prefix})
	it.PageInfo().MaxSize = 3
	for {
		a, err := it.Next()
		if errors.Is(err, iterator.Done) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if a.Metadata["n"] != fmt.Sprint(a.Size) || a.Generation == 0 {
			t.Errorf("listed %s has %d bytes, generation %d and metadata %v", a.Name, a.Size, a.Generation, a.Metadata)
		}
		names = append(names, a.Name)
	}
}

// Listings are by prefix, in the names' byte order, over pages, with metadata; and all is the same after a restart.
func TestListAndRestart(t *testing.T) {
	backends(t, func(t *testing.T, dir string) {
		b, stop := start(t, dir)
		names := []string{
			"a/archive.json", "a/segments/t/date=2026-01-02/hour=03/x-1.avro", "a/segments/t/date=2026-01-02/hour=03/x.1-1.avro",
			"a/segments/t/date=2026-01-02/hour=10/x-1.avro", "a/segments/t/date=2026-01-10/hour=03/x~zz-1.avro",
			"a/segments/t2/date=2026-01-02/hour=03/x-1.avro", "a/segments/shop.T%20x/y.avro", "a/segments/t/date=2026-01-02/hour=03/x_1-1.avro", "b/c",
		}
		sizes := map[string]int{}
		for i, name := range names {
			sizes[name] = i * 100_000
			if err := create(b, name, make([]byte, sizes[name]), map[string]string{"n": fmt.Sprint(sizes[name]), "Key-Ä": "välue %\n"}); err != nil {
				t.Fatal(err)
			}
		}
		attrs := map[string]gcs.ObjectAttrs{}
		look := func(when string) {
			for _, prefix := range []string{"", "a/", "a/segments/t/", "a/segments/t", "a/segments/shop.T%20x/", "nothing"} {
				var want []string
				for _, name := range slices.Sorted(slices.Values(names)) {
					if strings.HasPrefix(name, prefix) {
						want = append(want, name)
					}
				}
				if got := list(t, b, prefix); !slices.Equal(got, want) {
					t.Errorf("%s: listing of %q is %q, want %q", when, prefix, got, want)
				}
			}
			for _, name := range names {
				a, err := b.Object(name).Attrs(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				first, ok := attrs[name]
				if !ok {
					attrs[name] = *a
					continue
				}
				if a.Generation != first.Generation || a.CRC32C != first.CRC32C || a.Size != first.Size || a.ContentType != "application/avro" ||
					!maps.Equal(a.Metadata, first.Metadata) || a.Metadata["Key-Ä"] != "välue %\n" {
					t.Errorf("%s: %s is %+v, was %+v", when, name, a, first)
				}
				if len(read(t, b, name)) != sizes[name] {
					t.Errorf("%s: %s has another size", when, name)
				}
			}
		}
		look("first")
		if dir == "" {
			return
		}
		stop()
		b, _ = start(t, dir)
		look("after a restart")
		if err := create(b, names[0], nil, nil); !isPrecondition(err) {
			t.Errorf("creation of what is there from before the restart: %v", err)
		}
	})
}

func TestMistakes(t *testing.T) {
	s, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := Start(t.Context(), Options{Addr: s.Addr()}); err == nil || !strings.Contains(err.Error(), "storage emulator") {
		t.Errorf("on an address in use: %v", err)
	}
	if _, err := Start(t.Context(), Options{Dir: "/dev/null/x"}); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("in a directory that cannot be: %v", err)
	}
}

// Close frees the address, cuts connections and leaves no goroutine, which TestMain proves.
func TestClose(t *testing.T) {
	s, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /storage/v1/b HTTP/1.1\r\n")); err != nil { // never finished
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(conn); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
	again, err := Start(t.Context(), Options{Addr: s.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
