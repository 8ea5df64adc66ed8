// Package storage runs a Cloud Storage in this process: fake-gcs-server as a library, on a loopback port, in memory or in a
// directory that later runs and other processes can read.
//
// What the archive relies on is probed in the tests: creation under DoesNotExist, custom metadata, listing by prefix in name
// order, resumable uploads, and all of that after a restart on the same directory. Known to differ from Cloud Storage:
// generation conditions on reads and deletes are ignored, and so is a wrong checksum of a resumable upload.
package storage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"

	gcs "cloud.google.com/go/storage"
	"github.com/fsouza/fake-gcs-server/fakestorage"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
)

// Options say where a Server listens and keeps its objects.
type Options struct {
	// Addr is the address to listen on; "" is a free port of 127.0.0.1.
	Addr string
	// Dir keeps the objects, as files in one folder a bucket; it is made if it is missing. "" keeps them in memory. One
	// Server at a time may use a directory.
	Dir string
}

// Server is a running Cloud Storage. Its methods are safe for concurrent use.
type Server struct {
	addr string
	http *http.Server
	done chan error

	closing sync.Once
	err     error
}

// Start starts a Server; it serves until Close. An address in use or a directory that cannot be written is an error.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Dir != "" {
		if err := os.MkdirAll(o.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("storage emulator: directory for objects: %w", err)
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("storage emulator: %w", err)
	}
	addr := l.Addr().String()
	fake, err := fakestorage.NewServerWithOptions(fakestorage.Options{
		StorageRoot: o.Dir,
		NoListener:  true, // ours can be told its address and closes without a trace
		ExternalURL: "http://" + addr,
		PublicHost:  addr,
	})
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("storage emulator: %w", err)
	}
	s := &Server{addr: addr, http: &http.Server{Handler: fake.HTTPHandler()}, done: make(chan error, 1)}
	go func() { s.done <- s.http.Serve(l) }()
	return s, nil
}

// Addr is the address it listens on, host:port, as STORAGE_EMULATOR_HOST wants it.
func (s *Server) Addr() string { return s.addr }

// Endpoint is the JSON API's address, as option.WithEndpoint wants it.
func (s *Server) Endpoint() string { return "http://" + s.addr + "/storage/v1/" }

// ClientOptions make storage.NewClient talk to the Server. httpClient carries the requests; its owner closes its idle
// connections.
func (s *Server) ClientOptions(httpClient *http.Client) []option.ClientOption {
	return []option.ClientOption{option.WithEndpoint(s.Endpoint()), option.WithHTTPClient(httpClient), gcs.WithJSONReads()}
}

// CreateBucket creates a bucket; one that exists already is no error.
func (s *Server) CreateBucket(ctx context.Context, name string) (err error) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client, err := gcs.NewClient(ctx, s.ClientOptions(&http.Client{Transport: transport})...)
	if err != nil {
		return fmt.Errorf("storage emulator: bucket %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	if err := client.Bucket(name).Create(ctx, "local", nil); err != nil {
		if e, ok := errors.AsType[*googleapi.Error](err); ok && e.Code == http.StatusConflict {
			return nil
		}
		return fmt.Errorf("storage emulator: bucket %s: %w", name, err)
	}
	return nil
}

// Close stops serving, cuts what is under way, and waits for the serving goroutine. Later calls return the first's result.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.err = s.http.Close()
		if err := <-s.done; !errors.Is(err, http.ErrServerClosed) {
			s.err = errors.Join(s.err, err)
		}
	})
	return s.err
}
