package app

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"

	"github.com/spanledger/spanledger/changestream"
)

// ReaderConfig is how a pipeline asks Spanner for changes; zero values take changestream.Options' defaults.
type ReaderConfig struct {
	// SilentHeartbeats is after how many heartbeats of silence a query is asked again.
	SilentHeartbeats int
	// Priority is Spanner's for the queries.
	Priority sppb.RequestOptions_Priority
	// RequestTag marks them in Spanner's statistics; "" means spanledger=<the pipeline's name>.
	RequestTag string
	// Role is the database role that the source database is read with, its schema included; "" for none.
	Role string
	// DirectedReads chooses the replicas that answer; nil leaves it to Spanner.
	DirectedReads *sppb.DirectedReadOptions
	// StreamsPerConnection is how many partitions share a connection.
	StreamsPerConnection int
	// MinBackoff and MaxBackoff bound the wait between two attempts.
	MinBackoff, MaxBackoff time.Duration
	// MaxTimestampBytes bounds the changes of one partition at one commit timestamp; 0 means the pipeline's budget.
	MaxTimestampBytes int
	// PassUnknown goes on at values this version has no name for, RefuseUnknownFields stops at such fields.
	PassUnknown, RefuseUnknownFields bool
}

// readerOptions are the reader's, without what only a running pipeline has.
func (c PipelineConfig) readerOptions(e Endpoints, log *slog.Logger) changestream.Options {
	o := changestream.Options{
		Database: c.Database, Stream: c.Stream, Heartbeat: c.Heartbeat, ClientOptions: plaintext(e.Spanner), Logger: log,
		SilentHeartbeats: c.Reader.SilentHeartbeats, Priority: c.Reader.Priority, RequestTag: c.Reader.RequestTag,
		DatabaseRole: c.Reader.Role, DirectedReads: c.Reader.DirectedReads, StreamsPerConnection: c.Reader.StreamsPerConnection,
		MinBackoff: c.Reader.MinBackoff, MaxBackoff: c.Reader.MaxBackoff, MaxTimestampBytes: c.Reader.MaxTimestampBytes,
		PassUnknown: c.Reader.PassUnknown, RefuseUnknownFields: c.Reader.RefuseUnknownFields,
	}
	if o.RequestTag == "" {
		o.RequestTag = "spanledger=" + c.Name
	}
	if o.MaxTimestampBytes == 0 {
		o.MaxTimestampBytes = c.BudgetBytes // I10: more would never fit; 0 means the same default in both
	}
	return o
}

// The file's form.
type (
	fileRetry struct {
		Min duration `yaml:"min"`
		Max duration `yaml:"max"`
	}
	fileDirected struct {
		Include []fileReplica `yaml:"include"`
		Exclude []fileReplica `yaml:"exclude"`
		// Failover lets other replicas answer when none of those included can; nil means yes.
		Failover *bool `yaml:"failover"`
	}
	fileReplica struct {
		Location string `yaml:"location"`
		Type     string `yaml:"type"`
	}
)

var (
	priorities = map[string]sppb.RequestOptions_Priority{
		"": sppb.RequestOptions_PRIORITY_UNSPECIFIED, "low": sppb.RequestOptions_PRIORITY_LOW,
		"medium": sppb.RequestOptions_PRIORITY_MEDIUM, "high": sppb.RequestOptions_PRIORITY_HIGH,
	}
	replicaTypes = map[string]sppb.DirectedReadOptions_ReplicaSelection_Type{
		"": sppb.DirectedReadOptions_ReplicaSelection_TYPE_UNSPECIFIED, "read-only": sppb.DirectedReadOptions_ReplicaSelection_READ_ONLY,
		"read-write": sppb.DirectedReadOptions_ReplicaSelection_READ_WRITE,
	}
)

// reader reads and checks what a source says of the reader.
func (d *decoder) reader(f *fileSource, budget byteSize, at string) ReaderConfig {
	c := ReaderConfig{
		SilentHeartbeats: f.SilentHeartbeats, RequestTag: f.RequestTag, Role: f.Role, StreamsPerConnection: f.StreamsPerConnection,
		MinBackoff: time.Duration(f.Retry.Min), MaxBackoff: time.Duration(f.Retry.Max), MaxTimestampBytes: int(f.MaxTimestamp),
		PassUnknown: f.UnknownValues == "pass", RefuseUnknownFields: f.UnknownFields == "stop",
	}
	var known bool
	if c.Priority, known = priorities[f.Priority]; !known {
		d.errorOn(at+".priority", "low, medium or high; Spanner's default is high", "priority is %q", f.Priority)
	}
	for key, value := range map[string]string{"unknown_values": f.UnknownValues, "unknown_fields": f.UnknownFields} {
		if value != "" && value != "stop" && value != "pass" {
			d.errorOn(at+"."+key, "stop or pass", "%s is %q", key, value)
		}
	}
	if f.SilentHeartbeats < 0 || f.SilentHeartbeats == 1 {
		d.errorOn(at+".silent_heartbeats", "from 2; the default is 10", "silent_heartbeats is %d", f.SilentHeartbeats)
	}
	if f.StreamsPerConnection < 0 || f.StreamsPerConnection > 100 {
		d.errorOn(at+".streams_per_connection", "from 1 to 100, which is what Spanner allows; the default is 90", "streams_per_connection is %d", f.StreamsPerConnection)
	}
	if c.MinBackoff != 0 && c.MaxBackoff != 0 && c.MaxBackoff < c.MinBackoff {
		d.errorOn(at+".retry.max", "", "the longest wait, %s, is below the shortest, %s", c.MaxBackoff, c.MinBackoff)
	}
	if budget != 0 && f.MaxTimestamp > budget {
		d.errorOn(at+".max_timestamp", "at most the budget, which it is by default", "max_timestamp is %d bytes, above the budget of %d", f.MaxTimestamp, budget)
	}
	c.DirectedReads = d.directed(&f.DirectedReads, at+".directed_reads")
	return c
}

func (d *decoder) directed(f *fileDirected, at string) *sppb.DirectedReadOptions {
	switch {
	case len(f.Include) > 0 && len(f.Exclude) > 0:
		d.errorOn(at, "either, not both", "directed_reads has both include and exclude")
	case len(f.Include) == 0 && f.Failover != nil:
		d.errorOn(at+".failover", "it says what happens when none of include can answer", "failover without include")
	case len(f.Include) > 0:
		return &sppb.DirectedReadOptions{Replicas: &sppb.DirectedReadOptions_IncludeReplicas_{IncludeReplicas: &sppb.DirectedReadOptions_IncludeReplicas{
			ReplicaSelections: d.replicas(f.Include, at+".include"), AutoFailoverDisabled: f.Failover != nil && !*f.Failover,
		}}}
	case len(f.Exclude) > 0:
		return &sppb.DirectedReadOptions{Replicas: &sppb.DirectedReadOptions_ExcludeReplicas_{ExcludeReplicas: &sppb.DirectedReadOptions_ExcludeReplicas{
			ReplicaSelections: d.replicas(f.Exclude, at+".exclude"),
		}}}
	}
	return nil
}

func (d *decoder) replicas(list []fileReplica, at string) []*sppb.DirectedReadOptions_ReplicaSelection {
	if len(list) > 10 {
		d.errorOn(at, "at most 10", "%s names %d replicas", at[strings.LastIndexByte(at, '.')+1:], len(list))
	}
	var out []*sppb.DirectedReadOptions_ReplicaSelection
	for i, f := range list {
		t, known := replicaTypes[f.Type]
		switch place := fmt.Sprintf("%s[%d]", at, i); {
		case !known:
			d.errorOn(place+".type", "read-only or read-write", "type is %q", f.Type)
		case f.Location == "" && f.Type == "":
			d.errorOn(place, "a location, a type, or both", "a replica without anything to know it by")
		}
		out = append(out, &sppb.DirectedReadOptions_ReplicaSelection{Location: f.Location, Type: t})
	}
	return out
}
