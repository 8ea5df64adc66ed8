package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/spanledger/spanledger/ops/admin"
	"github.com/spanledger/spanledger/ops/metrics"
)

// adminOptions are where the admin server listens, "" for a free port of 127.0.0.1, and whether it serves the profiler.
type adminOptions struct {
	addr     string
	profiler bool
}

// startAdmin serves what is known of pipelines.
func startAdmin(o adminOptions, numbers *metrics.Metrics, log *slog.Logger, pipelines ...*Pipeline) (*admin.Server, error) {
	options := admin.Options{Addr: o.addr, Metrics: numbers.Handler(), Profiler: o.profiler, Logger: log}
	for _, p := range pipelines {
		options.Pipelines = append(options.Pipelines, admin.Pipeline{Name: p.Config.Name, Engine: p})
	}
	return admin.Start(options)
}

// stopAdmin gives requests two seconds to end. The numbers go with the process, so what goes wrong is only logged.
func stopAdmin(s *admin.Server, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		log.Warn("stopping the admin server", "error", err)
	}
}
