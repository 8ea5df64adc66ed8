package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spanledger/spanledger/app"
)

// A table is taken while the pipeline runs; asked for twice, listed, and refused where nothing fits.
func TestSnapshot(t *testing.T) {
	serve(t)
	file := write(t, "spanledger.yaml", strings.Replace(pipelineFile, "heartbeat: 100ms", "start: snapshot, heartbeat: 100ms", 1))
	if code, out, errs := spanledger(t, "init", "-c", file); code != 0 {
		t.Fatal(out, errs)
	}
	events := write(t, "events.jsonl", `{"stream":"a","id":"1","type":"good","data":{}}`+"\n"+`{"stream":"b","id":"2","type":"good","data":{}}`+"\n")
	if code, out, errs := spanledger(t, "ingest", events, "--map", ".", "--database", "projects/p/instances/inst/databases/ledger"); code != 0 {
		t.Fatal(out, errs)
	}
	if code, _, errs := spanledger(t, "snapshot", "-c", file, "--table", "events"); code != 1 || !strings.Contains(errs, "start the pipeline first") {
		t.Errorf("before the pipeline: %d %s", code, errs)
	}
	_, stderr, end := begin(t, "run", "-c", file, "--log-level", "info")
	eventually(t, "the pipeline runs", func() bool { return strings.Contains(stderr.String(), "pipeline opened") })
	list := func() (results []app.SnapshotResult) {
		code, out, errs := spanledger(t, "snapshot", "-c", file, "--list", "--json")
		if code != 0 || json.Unmarshal([]byte(out), &results) != nil {
			t.Fatal(code, out, errs)
		}
		return results
	}
	eventually(t, "the first snapshot is done", func() bool {
		l := list()
		return len(l) == 1 && l[0].State == "done" && l[0].Rows == 2 && l[0].Total == 2
	})
	code, out, errs := spanledger(t, "snapshot", "-c", file, "--table", "events", "--from", "b", "--wait", "--json")
	var r app.SnapshotResult
	if code != 0 || json.Unmarshal([]byte(out), &r) != nil || r.State != "done" || r.Rows != 1 || r.From != `["b"]` || !r.New || r.Number != 2 {
		t.Errorf("a range: %d %s%s", code, out, errs)
	}
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{1, "does not watch a table evnets: it watches events", []string{"--table", "evnets"}},
		{1, "the primary key has 2 columns: stream, version", []string{"--table", "events", "--from", `["a", 1, 2]`}},
		{1, "column version (INT64)", []string{"--table", "events", "--to", `["a", "x"]`}},
		{2, "--table is required", nil},
		{2, "--list goes with", []string{"--list", "--wait"}},
	} {
		if code, _, errs := spanledger(t, append([]string{"snapshot", "-c", file}, c.args...)...); code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("%q: %d %s", c.args, code, errs)
		}
	}
	if code := end(); code != 0 {
		t.Errorf("run ended with %d\n%s", code, stderr)
	}
}
