package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/spanledger/spanledger/pipeline"
)

// Options configure a Server.
type Options struct {
	// Addr is host:port to listen on; "" is a free port of 127.0.0.1. Whoever can reach it can read the pipelines' names,
	// errors and progress.
	Addr string
	// Metrics answers /metrics; required.
	Metrics http.Handler
	// Pipelines are those of the process, at least one; the order is kept.
	Pipelines []Pipeline
	// StaleAfter is how old the last checkpoint may be before a pipeline counts as not ready; default 1 minute.
	StaleAfter time.Duration
	// Profiler serves Go's profiler under /debug/pprof/. It shows the command line and slows the process while it is used.
	Profiler bool
	// Logger receives what goes wrong in the server; slog.Default() if nil.
	Logger *slog.Logger
}

// Pipeline is a pipeline to show.
type Pipeline struct {
	Name   string
	Engine interface{ Status() pipeline.Status }
}

// Server is a running admin server.
type Server struct {
	opts   Options
	http   *http.Server
	addr   string
	served chan error
}

// Start listens and serves until Close.
func Start(o Options) (*Server, error) {
	if o.Metrics == nil || len(o.Pipelines) == 0 {
		return nil, errors.New("admin: Metrics and at least one pipeline are required")
	}
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.StaleAfter == 0 {
		o.StaleAfter = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	listener, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("admin server: %w: choose another address with --admin HOST:PORT (dev) or admin: listen: (the configuration of run)", err)
	}
	s := &Server{opts: o, addr: listener.Addr().String(), served: make(chan error, 1)}
	s.http = &http.Server{
		Handler: s.handler(),
		// A client that sends or takes its bytes one by one holds a connection, not the server.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      90 * time.Second, // a CPU profile takes 30 s by default
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
	go func() { s.served <- s.http.Serve(listener) }()
	return s, nil
}

// Addr is where the server listens, host:port.
func (s *Server) Addr() string { return s.addr }

// Close stops listening and waits for the requests being served, until ctx ends; those still running are then cut off.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("admin server: requests were still running at the end: %w", err), s.http.Close())
	}
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("admin server: %w", served))
	}
	return err
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", index)
	mux.Handle("GET /metrics", s.opts.Metrics)
	mux.HandleFunc("GET /healthz", healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /status.json", s.status)
	if s.opts.Profiler {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Error texts of others are shown: no browser may take them for anything but text.
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

func index(w http.ResponseWriter, _ *http.Request) {
	text(w, http.StatusOK, "spanledger\n\n/metrics      numbers for Prometheus\n/healthz      does the process answer\n"+
		"/readyz       do all pipelines make progress\n/status.json  what each pipeline is doing\n")
}

// healthz says that the process answers, and nothing else: a restart cures a process that hangs, not a Spanner or a sink
// that is away, and restarting for those would stop the pipelines that still work.
func healthz(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") }

func text(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	io.WriteString(w, body) //nolint:errcheck // the client is gone; there is nobody to tell
}
