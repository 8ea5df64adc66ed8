package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/pipeline"
	"github.com/spanledger/spanledger/state"
)

// PipelineInfo is what the state knows of a pipeline.
type PipelineInfo struct {
	Name          string `json:"name"`
	StateDatabase string `json:"state_database"`
	Database      string `json:"database"`
	Stream        string `json:"stream"`
	// Incarnation is the current one's number.
	Incarnation int64 `json:"incarnation"`
	// Through is how far every sink has everything, and LagSeconds how long ago that was by the database's clock.
	Through    change.Timestamp `json:"through"`
	LagSeconds float64          `json:"lag_seconds"`
	// Partitions are those not finished.
	Partitions int        `json:"partitions"`
	Sinks      []SinkInfo `json:"sinks"`
	Workers    []string   `json:"workers"`
	// Gap is what keeps the current incarnation from going on; nil for nothing.
	Gap          *GapInfo          `json:"gap,omitempty"`
	Incarnations []IncarnationInfo `json:"incarnations"`
	// Configured says that the configuration file names it.
	Configured bool `json:"configured"`
}

// SinkInfo is how far one sink is.
type SinkInfo struct {
	Name       string           `json:"name"`
	Through    change.Timestamp `json:"through"`
	LagSeconds float64          `json:"lag_seconds"`
	// Partitions are those in which it has a checkpoint.
	Partitions int `json:"partitions"`
}

// IncarnationInfo is one incarnation.
type IncarnationInfo struct {
	Number   int64            `json:"number"`
	Reason   state.Reason     `json:"reason"`
	Database string           `json:"database"`
	Stream   string           `json:"stream"`
	Start    change.Timestamp `json:"start"`
	Opened   time.Time        `json:"opened"`
	// Gap is the break after it.
	Gap *GapInfo `json:"gap,omitempty"`
}

// GapInfo is a break between two incarnations.
type GapInfo struct {
	Reason state.Reason     `json:"reason"`
	Detail string           `json:"detail,omitempty"`
	From   change.Timestamp `json:"from"`
	// To is nil while no new incarnation has begun.
	To       *change.Timestamp `json:"to,omitempty"`
	Snapshot bool              `json:"snapshot,omitempty"`
	Found    time.Time         `json:"found"`
}

// Pipelines tells of all pipelines in the state databases of a configuration, by name; of one only if name is not "".
func Pipelines(ctx context.Context, c *Config, name string) ([]PipelineInfo, error) {
	e := EndpointsFromEnv()
	list := []PipelineInfo{}
	var databases []string
	for _, p := range c.Pipelines {
		if !slices.Contains(databases, p.StateDatabase) && (name == "" || p.Name == name) {
			databases = append(databases, p.StateDatabase)
		}
	}
	if name != "" && len(databases) == 0 {
		_, err := c.Pipeline(name)
		return nil, err
	}
	for _, db := range databases {
		found, err := e.pipelinesIn(ctx, db, name)
		if err != nil {
			return nil, err
		}
		for i := range found {
			p, err := c.Pipeline(found[i].Name)
			found[i].Configured = err == nil && p.StateDatabase == db
		}
		list = append(list, found...)
	}
	return list, nil
}

func (e Endpoints) pipelinesIn(ctx context.Context, database, name string) (list []PipelineInfo, err error) {
	client, store, err := e.stateStore(ctx, database)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	names := []string{name}
	if name == "" {
		if names, err = store.Pipelines(ctx); err != nil {
			return nil, err
		}
	}
	for _, n := range names {
		h, err := store.History(ctx, n)
		if err != nil {
			return nil, err
		}
		snap, err := store.Load(ctx, n)
		if err != nil {
			return nil, err
		}
		p := describePipeline(h, snap)
		p.StateDatabase = database
		list = append(list, p)
	}
	return list, nil
}

func describePipeline(h state.History, snap state.Snapshot) PipelineInfo {
	lag := func(t change.Timestamp) float64 { return max(h.At.Sub(t.Time()), 0).Seconds() }
	p := PipelineInfo{
		Name: h.Pipeline, Database: snap.Pipeline.Database, Stream: snap.Pipeline.Stream, Incarnation: snap.Pipeline.Incarnation,
		Through: snap.Through(), Sinks: []SinkInfo{}, Workers: []string{}, Gap: gapInfo(h.Current().Gap),
	}
	p.LagSeconds = lag(p.Through)
	open := map[string]bool{}
	for _, part := range snap.Partitions {
		open[part.Token] = part.State == state.Open
		if part.State == state.Open {
			p.Partitions++
		}
	}
	bySink := map[string]*SinkInfo{}
	for _, pr := range snap.Progress {
		if !open[pr.Token] {
			continue
		}
		s := bySink[pr.Sink]
		if s == nil {
			s = &SinkInfo{Name: pr.Sink, Through: pr.Through}
			bySink[pr.Sink] = s
		}
		s.Partitions++
		s.Through = min(s.Through, pr.Through)
	}
	for _, name := range sortedKeys(bySink) {
		s := bySink[name]
		s.LagSeconds = lag(s.Through)
		p.Sinks = append(p.Sinks, *s)
	}
	for _, w := range h.Alive() {
		p.Workers = append(p.Workers, w.Name)
	}
	for _, i := range h.Incarnations {
		p.Incarnations = append(p.Incarnations, IncarnationInfo{
			Number: i.Number, Reason: i.Reason, Database: i.Database, Stream: i.Stream, Start: i.Start, Opened: i.Opened, Gap: gapInfo(i.Gap),
		})
	}
	return p
}

func gapInfo(g *state.Gap) *GapInfo {
	if g == nil {
		return nil
	}
	info := &GapInfo{Reason: g.Reason, Detail: g.Detail, From: g.From, Snapshot: g.Snapshot, Found: g.Found}
	if !g.IsOpen() {
		info.To = &g.To
	}
	return info
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}

// PipelineTable is one line a pipeline.
func PipelineTable(list []PipelineInfo) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PIPELINE\tSTREAM\tINCARNATION\tTHROUGH\tLAG\tPARTITIONS\tSTATE")
	for _, p := range list {
		words := []string{"stopped"}
		if len(p.Workers) > 0 {
			words = []string{"running"}
		}
		if p.Gap != nil {
			words = append(words, "BROKEN: "+string(p.Gap.Reason))
		}
		if !p.Configured {
			words = append(words, "not in the file")
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%d\t%s\n", p.Name, p.Stream, p.Incarnation, p.Through, seconds(p.LagSeconds), p.Partitions, strings.Join(words, ", "))
	}
	_ = w.Flush() // into memory
	return b.String()
}

// String is all there is to know, for people.
func (p PipelineInfo) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	workers := "none"
	if len(p.Workers) > 0 {
		workers = strings.Join(p.Workers, ", ")
	}
	fmt.Fprintf(&b, "pipeline %s\n", p.Name)
	fmt.Fprintf(w, "  reads\tchange stream %s of %s\n  state\t%s\n  workers\t%s\n  incarnation\t%d\n  partitions\t%d\n  through\t%s (%s behind)\n",
		p.Stream, p.Database, p.StateDatabase, workers, p.Incarnation, p.Partitions, p.Through, seconds(p.LagSeconds))
	for _, s := range p.Sinks {
		fmt.Fprintf(w, "  sink %s\tthrough %s (%s behind) in %d partitions\n", s.Name, s.Through, seconds(s.LagSeconds), s.Partitions)
	}
	_ = w.Flush() // into memory
	b.WriteString("\nincarnations\n")
	for _, i := range p.Incarnations {
		fmt.Fprintf(w, "  %d\topened %s\tfrom %s\t%s\n", i.Number, i.Opened.Format(time.RFC3339), i.Start, i.Reason)
		if g := i.Gap; g != nil {
			to := "?, until a new incarnation begins"
			if g.To != nil {
				to = g.To.String()
			}
			what := "gap"
			switch {
			case g.To != nil && *g.To < g.From:
				what = "break, nothing lost"
			case g.Snapshot:
				what = "gap, bridged by a snapshot"
			}
			fmt.Fprintf(w, "  \t%s: %s\tfrom %s to %s\t%s\n", what, g.Reason, g.From, to, "")
		}
	}
	_ = w.Flush() // into memory
	if p.Gap != nil {
		fmt.Fprintf(&b, "\nThis incarnation cannot go on: %s\n'spanledger pipeline restart --pipeline %s --from now' (or earliest, a timestamp, snapshot) begins the next.\n",
			p.Gap.Detail, p.Name)
	}
	return b.String()
}

// NeedsIncarnation reports whether err says that a pipeline goes on only after a restart.
func NeedsIncarnation(err error) bool {
	return errors.As(err, new(*state.MismatchError)) || errors.As(err, new(*pipeline.BrokenError))
}
