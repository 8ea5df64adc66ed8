package app

import (
	_ "embed" // for the example
	"fmt"
	"strings"
)

//go:embed example.yaml
var exampleConfig string

// ExampleConfig is a complete, commented configuration file that passes LoadConfig in any environment.
func ExampleConfig() string { return exampleConfig }

// ConfigSummary is what a configuration says, without the sinks' options: those may hold secrets.
type ConfigSummary struct {
	Pipelines []PipelineSummary `json:"pipelines"`
	Admin     string            `json:"admin,omitempty"`
}

// PipelineSummary is a pipeline in short.
type PipelineSummary struct {
	Name          string `json:"name"`
	Database      string `json:"database"`
	Stream        string `json:"stream"`
	StateDatabase string `json:"state_database"`
	// Digest is over what decides which changes are delivered; it must not change within an incarnation.
	Digest string        `json:"digest"`
	Sinks  []SinkSummary `json:"sinks"`
}

// SinkSummary is a sink in short.
type SinkSummary struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Summary is the configuration in short.
func (c *Config) Summary() ConfigSummary {
	s := ConfigSummary{Admin: c.Admin.Listen}
	for _, p := range c.Pipelines {
		ps := PipelineSummary{Name: p.Name, Database: p.Database, Stream: p.Stream, StateDatabase: p.StateDatabase, Digest: digest(p)}
		for _, k := range p.Sinks {
			ps.Sinks = append(ps.Sinks, SinkSummary{k.Name, k.Type})
		}
		s.Pipelines = append(s.Pipelines, ps)
	}
	return s
}

// String is the summary for people.
func (s ConfigSummary) String() string {
	var b strings.Builder
	for _, p := range s.Pipelines {
		fmt.Fprintf(&b, "pipeline %s (%s): change stream %s of %s, state in %s\n", p.Name, p.Digest, p.Stream, p.Database, p.StateDatabase)
		for _, k := range p.Sinks {
			fmt.Fprintf(&b, "  sink %s (%s)\n", k.Name, k.Type)
		}
	}
	return b.String()
}
