package metrics

import (
	"cmp"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/spanledger/spanledger/pipeline"
)

// Metrics are the numbers of one process. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	mu        sync.Mutex
	pipelines []*Pipeline // by name
}

// New makes a Metrics with a registry of its own that also has the process's and Go's own numbers.
func New() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfo(),
		&collector{m},
	)
	return m
}

// Pipeline adds a pipeline of this process. It has no numbers until Watch gives it an engine. A pipeline of the same name
// takes the place of the one before, with counters from 0, as after a restart of the process.
func (m *Metrics) Pipeline(name string) *Pipeline {
	p := &Pipeline{name: name, readerRetries: newErrorCounts(), checkpointErrors: newErrorCounts(), sinks: map[string]*sink{}}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pipelines = slices.DeleteFunc(slices.Clone(m.pipelines), func(q *Pipeline) bool { return q.name == name })
	m.pipelines = append(m.pipelines, p)
	slices.SortFunc(m.pipelines, func(a, b *Pipeline) int { return cmp.Compare(a.name, b.name) })
	return p
}

func (m *Metrics) all() []*Pipeline {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.pipelines)
}

// Gatherer gives the numbers as they are at each call.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Handler serves the numbers to a scraper. At most four scrapes run at once, each for at most ten seconds; what is more is
// answered with 503.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics:   true,
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
	})
}

// Engine is what a Pipeline watches.
type Engine interface{ Status() pipeline.Status }

// buildInfo says which program this is.
func buildInfo() prometheus.Collector {
	version, revision, golang := "unknown", "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version, golang = cmp.Or(info.Main.Version, version), info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: prefix + "build_info", Help: "Always 1; the labels say which program this is.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "goversion": golang},
	})
	g.Set(1)
	return g
}
