package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	database "cloud.google.com/go/spanner/admin/database/apiv1"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/spanledger/spanledger/app"
	"github.com/spanledger/spanledger/emulator"
)

func alter(t *testing.T, statements ...string) {
	t.Helper()
	admin, err := database.NewDatabaseAdminClient(t.Context(), option.WithEndpoint(os.Getenv(emulator.SpannerVariable)), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	op, err := admin.UpdateDatabaseDdl(t.Context(), &databasepb.UpdateDatabaseDdlRequest{Database: "projects/p/instances/inst/databases/ledger", Statements: statements})
	if err == nil {
		err = op.Wait(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A pipeline goes through three incarnations, by a changed filter and by a change stream made anew; its archive holds the
// segments of all of them side by side.
func TestPipelineRestart(t *testing.T) {
	dir := t.TempDir()
	serve(t, "--data-dir", dir)
	file := write(t, "spanledger.yaml", pipelineFile)
	must := func(args ...string) (string, string) {
		t.Helper()
		code, stdout, stderr := spanledger(t, args...)
		if code != 0 {
			t.Fatalf("%s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
		}
		return stdout, stderr
	}
	show := func() (p app.PipelineInfo) {
		t.Helper()
		out, _ := must("pipeline", "show", "-c", file, "--json")
		if err := json.Unmarshal([]byte(out), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	segments := func() []string {
		found, err := filepath.Glob(filepath.Join(dir, "storage", "the-bucket", "segments", "events", "*", "*", "*.avro"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	id := 0
	deliver := func(during func()) {
		t.Helper()
		_, stderr, end := begin(t, "run", "-c", file, "--log-level", "info")
		eventually(t, "the pipeline runs", func() bool { return strings.Contains(stderr.String(), "pipeline opened") })
		id++
		event := write(t, "e.jsonl", `{"stream":"s","id":"`+string(rune('a'+id))+`","type":"good","data":{}}`)
		must("ingest", event, "--map", ".", "--database", "projects/p/instances/inst/databases/ledger")
		eventually(t, "a segment", func() bool { return len(segments()) == id })
		if during != nil {
			during()
		}
		if code := end(); code != 0 {
			t.Errorf("run ended with %d\n%s", code, stderr)
		}
	}
	must("init", "-c", file)
	if code, _, errs := spanledger(t, "pipeline", "show", "-c", file); code != exitFailed || !strings.Contains(errs, "no such pipeline") {
		t.Errorf("show of a pipeline that never ran: %d %s", code, errs)
	}
	restart := []string{"pipeline", "restart", "-c", file, "--yes", "--json", "--from"}
	deliver(func() {
		if p := show(); len(p.Workers) != 1 || p.Incarnation != 1 {
			t.Errorf("while it runs: %+v", p)
		}
		if code, _, errs := spanledger(t, append(restart, "now")...); code != exitFailed || !strings.Contains(errs, "--fence") {
			t.Errorf("restart while it runs: %d %s", code, errs)
		}
	})

	// A changed filter: what was delivered through T is not lost, and nothing is repeated, from T + 1 µs on.
	if err := os.WriteFile(file, []byte(strings.Replace(pipelineFile, "noise", "silence", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := spanledger(t, "run", "-c", file); code != exitBroken || !strings.Contains(errs, "pipeline restart") {
		t.Errorf("run with a changed filter: %d %s", code, errs)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"pipeline", "restart", "-c", file}, exitUsage, "--from is required"},
		{[]string{"pipeline", "restart", "-c", file, "--from", "tomorrow"}, exitUsage, "want now, earliest"},
		{[]string{"pipeline", "restart", "-c", file, "--from", "now"}, exitUsage, "--yes is needed"},
		{append(slices.Clone(restart), "2020-01-01T00:00:00Z"), exitFailed, "can be read from 20"},
		{append(slices.Clone(restart), "2200-01-01T00:00:00Z"), exitFailed, "lies in the future"},
		{append(slices.Clone(restart), "now", "--pipeline", "ledgr"), exitFailed, "did you mean ledger?"},
	} {
		if code, out, errs := spanledger(t, c.args...); code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit code %d\n%s%s", strings.Join(c.args, " "), code, out, errs)
		}
	}
	var plan app.RestartPlan
	out, text := must(append(restart, (show().Through + 1).String())...)
	if err := json.Unmarshal([]byte(out), &plan); err != nil {
		t.Fatal(err)
	}
	if plan.Ends != 1 || plan.Begins != 2 || plan.Reason != "reconfigured" || plan.Lost != nil || plan.Repeated != nil || !plan.Done || len(plan.Changes) != 1 {
		t.Errorf("plan %+v\n%s", plan, text)
	}
	deliver(nil)
	if p := show(); p.Incarnation != 2 || p.Incarnations[0].Gap != nil || len(p.Workers) > 0 {
		t.Errorf("after the restart: %+v", p)
	}

	// A change stream made anew.
	alter(t, "DROP CHANGE STREAM changes")
	if code, _, errs := spanledger(t, "run", "-c", file); code != exitBroken || !strings.Contains(errs, "restart --pipeline ledger") {
		t.Errorf("run without its change stream: %d %s", code, errs)
	}
	if list, _ := must("pipeline", "list", "-c", file); !strings.Contains(list, "BROKEN: dropped") {
		t.Error(list)
	}
	if p := show(); p.Gap == nil || p.Gap.To != nil || p.Gap.From != p.Through+1 {
		t.Errorf("broken: %+v", p.Gap)
	}
	alter(t, "CREATE CHANGE STREAM changes FOR events OPTIONS (value_capture_type = 'NEW_ROW_AND_OLD_VALUES')")
	if _, text = must(append(restart, "earliest")...); !strings.Contains(text, "LOST") || !strings.Contains(text, "incarnation 3") {
		t.Error(text)
	}
	deliver(nil)
	p := show()
	if p.Incarnation != 3 || p.Gap != nil || p.Incarnations[1].Gap == nil || p.Incarnations[1].Gap.To == nil || *p.Incarnations[1].Gap.To != p.Incarnations[2].Start-1 {
		t.Errorf("at last: %+v", p)
	}
	text, _ = must("pipeline", "show", "-c", file)
	if !strings.Contains(text, "gap: dropped") || !strings.Contains(text, "sink archive") {
		t.Error(text)
	}

	// Each incarnation has chains of its own: no segment was written over, none overlaps another of its chain.
	chains := map[string]bool{}
	for _, name := range segments() {
		base := filepath.Base(name)
		chains[base[strings.LastIndexByte(base, '-'):]] = true
	}
	if len(chains) != 3 {
		t.Errorf("%d chains in %d segments, want 3: %q", len(chains), len(segments()), segments())
	}
	if _, err := os.Stat(filepath.Join(dir, "storage", "the-bucket", "archive.json")); err != nil {
		t.Error(err)
	}
}
