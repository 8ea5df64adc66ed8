package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/spanledger/spanledger/changestream"
)

const goodConfig = `pipelines:
  - name: ledger
    source: {database: projects/p/instances/inst/databases/ledger, stream: changes}
    state: {database: projects/p/instances/inst/databases/state}
    sinks:
      - {name: archive, type: gcs, options: {bucket: archive}}
`

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func TestExampleConfigIsGood(t *testing.T) {
	c, err := ParseConfig("example.yaml", []byte(ExampleConfig()), env())
	if err != nil {
		t.Fatal(err)
	}
	p := c.Pipelines[0]
	if len(c.Pipelines) != 2 || p.BudgetBytes != 256<<20 || p.Heartbeat != time.Second || p.Filter.IsZero() || len(p.Sinks) != 3 {
		t.Errorf("%+v", p)
	}
	// Every key there is stands in the example.
	for _, key := range strings.Fields("name source database stream start end heartbeat silent_heartbeats priority request_tag role directed_reads failover streams_per_connection " +
		"retry max_timestamp unknown_values unknown_fields state budget checkpoint_every drain_timeout order filter tables include " +
		"exclude operations tags system where columns drop sinks type options setup events watch mutable project location subscriptions topic ordered admin listen") {
		if !strings.Contains(ExampleConfig(), " "+key+":") && !strings.Contains(ExampleConfig(), "\n"+key+":") {
			t.Errorf("the example does not have the key %s", key)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	with := func(old, replacement string) string {
		if !strings.Contains(goodConfig, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(goodConfig, old, replacement, 1)
	}
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"empty":             {"", []string{"the file is empty"}},
		"syntax":            {"pipelines: [", []string{"f.yaml:1:"}},
		"not a mapping":     {"- a\n", []string{"f.yaml:1:1: the file must be keys and values"}},
		"no pipelines":      {"admin: {listen: a}\n", []string{"there is no pipeline"}},
		"unknown key":       {with("state:", "staet:"), []string{"f.yaml:4:5: unknown key staet in pipelines[0] (did you mean state?)"}},
		"top level":         {goodConfig + "pipeline: 1\n", []string{"f.yaml:7:1: unknown key pipeline (did you mean pipelines?)"}},
		"twice":             {with("    sinks:", "    state: {}\n    sinks:"), []string{"f.yaml:5:5: the key state is there twice, first on line 4"}},
		"wrong type":        {with("name: ledger", "name: [a]"), []string{"f.yaml:2:11: name must be text, but is a list"}},
		"list":              {with("{bucket: archive}", "[1]"), []string{"options must be keys and values, but is a list"}},
		"budget":            {with("    sinks:", "    budget: lots\n    sinks:"), []string{"f.yaml:5:13: budget: want a size"}},
		"small budget":      {with("    sinks:", "    budget: 10\n    sinks:"), []string{"f.yaml:5:5: budget is 10 bytes"}},
		"duration":          {with("    sinks:", "    drain_timeout: 5\n    sinks:"), []string{"f.yaml:5:20: drain_timeout: want a duration"}},
		"start":             {with("stream: changes", "stream: changes, start: tomorrow"), []string{"start: want now, earliest, snapshot or a time"}},
		"order":             {with("    sinks:", "    order: random\n    sinks:"), []string{"f.yaml:5:5: order: \"random\": want key or commit"}},
		"pipeline name":     {with("name: ledger", "name: Ledger!"), []string{"cannot be a pipeline's name"}},
		"database":          {with("databases/ledger", "database/ledger"), []string{"f.yaml:3:14: database \"projects/p/instances/inst/database/ledger\": want projects/PROJECT"}},
		"end before start":  {with("stream: changes", "stream: changes, start: 2026-01-02T00:00:00Z, end: 2026-01-01T00:00:00Z"), []string{"the end 2026-01-01T00:00:00.000000Z lies before the start"}},
		"end is no time":    {with("stream: changes", "stream: changes, end: now"), []string{"want a time such as"}},
		"priority":          {with("stream: changes", "stream: changes, priority: urgent"), []string{"f.yaml:3:85: priority is \"urgent\"", "low, medium or high"}},
		"one heartbeat":     {with("stream: changes", "stream: changes, silent_heartbeats: 1"), []string{"silent_heartbeats is 1"}},
		"streams":           {with("stream: changes", "stream: changes, streams_per_connection: 101"), []string{"streams_per_connection is 101"}},
		"retry":             {with("stream: changes", "stream: changes, retry: {min: 2s, max: 1s}"), []string{"the longest wait, 1s, is below the shortest, 2s"}},
		"retry duration":    {with("stream: changes", "stream: changes, retry: {min: 0s}"), []string{"min: want a duration above zero"}},
		"timestamp":         {with("stream: changes", "stream: changes, max_timestamp: 2GiB") + "    budget: 1GiB\n", []string{"above the budget of 1073741824"}},
		"unknown":           {with("stream: changes", "stream: changes, unknown_values: skip, unknown_fields: halt"), []string{"unknown_values is \"skip\"", "unknown_fields is \"halt\"", "stop or pass"}},
		"directed":          {with("stream: changes", "stream: changes, directed_reads: {include: [{location: a}], exclude: [{location: b}]}"), []string{"both include and exclude"}},
		"failover":          {with("stream: changes", "stream: changes, directed_reads: {failover: false}"), []string{"failover without include"}},
		"replica":           {with("stream: changes", "stream: changes, directed_reads: {include: [{type: witness}, {}]}"), []string{"type is \"witness\"", "without anything to know it by"}},
		"missing":           {with("stream: changes", "heartbeat: 1s"), []string{"f.yaml:3:5: stream is missing in pipelines[0].source"}},
		"sink type":         {with("type: gcs", "type: gsc"), []string{"no sink is of type \"gsc\" (did you mean gcs?)"}},
		"sink option":       {with("bucket: archive", "buckte: archive"), []string{"f.yaml:6:46: a sink of type gcs has no option buckte (did you mean bucket?)"}},
		"sink option type":  {with("bucket: archive", "bucket: 12"), []string{"f.yaml:6:46: sink archive:", "quote it"}},
		"sink option value": {with("bucket: archive", "bucket: a/b"), []string{"f.yaml:6:46: sink archive: bucket \"a/b\""}},
		"no sinks":          {strings.SplitAfter(goodConfig, "databases/state}\n")[0], []string{"has no sinks"}},
		"two sinks": {goodConfig + "      - {name: archive, type: stdout}\n",
			[]string{"f.yaml:7:10: two sinks are named archive, the first on line 6"}},
		"two pipelines": {goodConfig + strings.TrimPrefix(goodConfig, "pipelines:\n"), []string{"f.yaml:7:5: two pipelines are named ledger, the first on line 2"}},
		"one archive": {goodConfig + strings.ReplaceAll(strings.TrimPrefix(goodConfig, "pipelines:\n"), "name: ledger", "name: other"),
			[]string{"f.yaml:11:36: two sinks write to one archive, the first on line 6"}},
		"bad CEL": {with("    sinks:", "    filter:\n      where: after.total >\n    sinks:"),
			[]string{"f.yaml:6:7: where: ERROR", "Syntax error"}},
		"CEL type":      {with("    sinks:", "    filter:\n      where: op == 1\n    sinks:"), []string{"no matching overload"}},
		"operation":     {with("    sinks:", "    filter: {operations: [UPSERT]}\n    sinks:"), []string{"f.yaml:5:27: operations[0]: \"UPSERT\""}},
		"drop":          {with("    sinks:", "    columns: {drop: [x]}\n    sinks:"), []string{"f.yaml:5:22: drop[0]"}},
		"tables":        {with("    sinks:", "    filter: {tables: 1}\n    sinks:"), []string{"tables must be a list of names"}},
		"variable":      {with("bucket: archive", `bucket: "${NOPE}"`), []string{"f.yaml:6:54: bucket: the environment variable NOPE is not set"}},
		"open variable": {with("bucket: archive", `bucket: "${NOPE"`), []string{"without its closing }"}},
		"variable in {": {with("bucket: archive", "bucket: ${NOPE}"), []string{"f.yaml:6:", "quote a variable"}},
		"merge key":     {"x: &x {a: 1}\n" + with("    sinks:", "    <<: *x\n    sinks:"), []string{"merge keys"}},
		"tag":           {with("name: ledger", "name: !!str ledger"), []string{"YAML tags"}},
		"endless alias": {with("{bucket: archive}", "&o {bucket: *o}"), []string{"nested too deep"}},
		"two documents": {goodConfig + "---\na: 1\n", []string{"f.yaml:8:1: a second document"}},
		"all at once":   {with("state:", "staet:") + "nonsense: 1\n", []string{"f.yaml:4:5", "f.yaml:7:1", "database is missing in pipelines[0].state"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseConfig("f.yaml", []byte(c.text), env())
			var list ConfigErrors
			if !errors.As(err, &list) {
				t.Fatalf("error %v, want ConfigErrors", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in\n%v", want, err)
				}
			}
		})
	}
}

func TestSubstitution(t *testing.T) {
	text := strings.Replace(goodConfig, "      - {name: archive, type: gcs, options: {bucket: archive}}\n", `      - name: archive
        type: gcs
        options:
          bucket: "b-${N}"
          max_changes: ${N}
          prefix: $$x${EMPTY:-}${D:-d}$y
`, 1)
	c, err := ParseConfig("f.yaml", []byte(text), env("N", "17", "EMPTY", ""))
	if err != nil {
		t.Fatal(err)
	}
	var o map[string]any
	if err := json.Unmarshal(c.Pipelines[0].Sinks[0].Options, &o); err != nil {
		t.Fatal(err)
	}
	if o["bucket"] != "b-17" || o["max_changes"] != 17.0 || o["prefix"] != "$xd$y" {
		t.Errorf("%v", o)
	}
}

// No message shows what came from the environment.
func TestSecretsAreNotPrinted(t *testing.T) {
	for _, place := range []string{"name: ledger", "bucket: archive", "stream: changes", "type: gcs", "databases/state", "archive, type"} {
		for _, bad := range []string{`"hunter2hunter2/ !"`, "hunter2hunter2/-"} {
			text := strings.Replace(goodConfig, place, strings.Replace(place, place[strings.LastIndexAny(place, " /")+1:], "${SECRET}", 1), 1)
			_, err := ParseConfig("f.yaml", []byte(text), env("SECRET", bad))
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v", place, err)
			}
		}
	}
}

// Everything the file says of the reader reaches it.
func TestReaderConfig(t *testing.T) {
	text := strings.Replace(goodConfig, "stream: changes", `stream: changes, heartbeat: 2s, silent_heartbeats: 7, priority: low, request_tag: tag, role: auditor,
      streams_per_connection: 50, retry: {min: 1s, max: 2s}, max_timestamp: 3MiB, unknown_values: pass, unknown_fields: stop,
      directed_reads: {include: [{location: us-east1, type: read-only}, {type: read-write}], failover: false}`, 1)
	c, err := ParseConfig("f.yaml", []byte(text), env())
	if err != nil {
		t.Fatal(err)
	}
	want := changestream.Options{
		Database: "projects/p/instances/inst/databases/ledger", Stream: "changes", Heartbeat: 2 * time.Second, SilentHeartbeats: 7,
		Priority: sppb.RequestOptions_PRIORITY_LOW, RequestTag: "tag", DatabaseRole: "auditor", StreamsPerConnection: 50,
		MinBackoff: time.Second, MaxBackoff: 2 * time.Second, MaxTimestampBytes: 3 << 20, PassUnknown: true, RefuseUnknownFields: true,
		DirectedReads: &sppb.DirectedReadOptions{Replicas: &sppb.DirectedReadOptions_IncludeReplicas_{IncludeReplicas: &sppb.DirectedReadOptions_IncludeReplicas{
			ReplicaSelections: []*sppb.DirectedReadOptions_ReplicaSelection{
				{Location: "us-east1", Type: sppb.DirectedReadOptions_ReplicaSelection_READ_ONLY}, {Type: sppb.DirectedReadOptions_ReplicaSelection_READ_WRITE},
			},
			AutoFailoverDisabled: true,
		}}},
	}
	if diff := cmp.Diff(want, c.Pipelines[0].readerOptions(Endpoints{}, nil), protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if c, err = ParseConfig("f.yaml", []byte(goodConfig+"    budget: 5MiB\n"), env()); err != nil {
		t.Fatal(err)
	}
	want = changestream.Options{Database: want.Database, Stream: "changes", RequestTag: "spanledger=ledger", MaxTimestampBytes: 5 << 20}
	if diff := cmp.Diff(want, c.Pipelines[0].readerOptions(Endpoints{}, nil), protocmp.Transform()); diff != "" {
		t.Errorf("defaults, -want +got:\n%s", diff)
	}
}

func TestDigest(t *testing.T) {
	parse := func(text string) string {
		c, err := ParseConfig("f.yaml", []byte(text), env())
		if err != nil {
			t.Fatal(err)
		}
		return c.Summary().Pipelines[0].Digest
	}
	base := parse(goodConfig)
	for _, same := range []string{
		goodConfig + "      - {name: more, type: stdout}\n", strings.Replace(goodConfig, "bucket: archive", "bucket: other", 1),
		strings.Replace(goodConfig, "    sinks", "    budget: 1GiB\n    sinks", 1), strings.Replace(goodConfig, "    sinks", "    filter: {system: true}\n    sinks", 1),
	} {
		if parse(same) != base {
			t.Errorf("the digest changed with\n%s", same)
		}
	}
	seen := map[string]bool{base: true}
	for _, part := range []string{"filter: {tables: [a]}", "filter: {where: 'true'}", "filter: {system: false}", "columns: {drop: [a.b]}"} {
		d := parse(strings.Replace(goodConfig, "    sinks", "    "+part+"\n    sinks", 1))
		if seen[d] {
			t.Errorf("%s did not change the digest", part)
		}
		seen[d] = true
	}
	if parse(strings.Replace(goodConfig, "stream: changes", "stream: other", 1)) == base {
		t.Error("another stream has the same digest")
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add(goodConfig)
	f.Add(ExampleConfig())
	f.Add("a: &a [*a]\n")
	f.Add("pipelines:\n  - name: ${X:-y}\n    filter: {tables: {include: [1]}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseConfig("f.yaml", []byte(text), env("X", "1"))
		if (c == nil) != (err != nil) {
			t.Error("neither a configuration nor an error, or both")
		}
		if err != nil {
			_ = fmt.Sprint(err)
		}
	})
}
