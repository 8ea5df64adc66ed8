package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/app"
	"github.com/spanledger/spanledger/emulator"
	"github.com/spanledger/spanledger/emulator/spanner"
)

// lockedBuffer is written by a command and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// begin runs a command until stop is called, which returns its exit code.
func begin(t *testing.T, args ...string) (stdout, stderr *lockedBuffer, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	stdout, stderr = &lockedBuffer{}, &lockedBuffer{}
	done := make(chan int, 1)
	go func() { done <- run(ctx, args, strings.NewReader(""), stdout, stderr) }()
	stop = sync.OnceValue(func() int { cancel(); return <-done })
	t.Cleanup(func() { stop() })
	return stdout, stderr, stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// serve starts the emulator command and sets its variables.
func serve(t *testing.T, args ...string) (stop func() int) {
	t.Helper()
	args = append([]string{"emulator", "--spanner", ":0", "--pubsub", "127.0.0.1:0", "--storage", "127.0.0.1:0",
		"--bigquery", "127.0.0.1:0", "--bigquery-storage", "127.0.0.1:0", "--json"}, args...)
	stdout, stderr, stop := begin(t, args...)
	var values map[string]string
	eventually(t, "the emulator answers", func() bool { return json.Unmarshal([]byte(stdout.String()), &values) == nil })
	for name, value := range values {
		t.Setenv(name, value)
	}
	if len(values) == 0 {
		t.Fatal(stderr.String())
	}
	return stop
}

const pipelineFile = `pipelines:
  - name: ledger
    source: {database: projects/p/instances/inst/databases/ledger, stream: changes, heartbeat: 100ms}
    state: {database: projects/p/instances/inst/databases/state}
    checkpoint_every: 100ms
    filter: {tables: [events], where: 'after.type != "noise"'}
    columns: {drop: [events.metadata]}
    sinks:
      - {name: archive, type: gcs, options: {bucket: the-bucket, max_delay: 100ms}}
      - {name: messages, type: pubsub, options: {project: proj, topic: changes}}
setup:
  subscriptions: [{name: reader, topic: changes}]
`

func TestInitAndRun(t *testing.T) {
	dir := t.TempDir()
	stop := serve(t, "--data-dir", dir)
	file := write(t, "spanledger.yaml", pipelineFile)

	initialise := func() (made, there int) {
		code, stdout, stderr := spanledger(t, "init", "-c", file, "--json")
		var s app.InitSummary
		if code != 0 || json.Unmarshal([]byte(stdout), &s) != nil {
			t.Fatalf("init: exit code %d\n%s%s", code, stdout, stderr)
		}
		for _, i := range s.Items {
			if i.Made {
				made++
			} else {
				there++
			}
		}
		return made, there
	}
	made, there := initialise()
	if made < 10 || there != 0 {
		t.Errorf("first init: %d made, %d there", made, there)
	}
	if m, th := initialise(); m != 0 || th != made {
		t.Errorf("second init: %d made, %d there; want all %d there", m, th, made)
	}

	_, stderr, end := begin(t, "run", "-c", file, "--log-level", "info")
	eventually(t, "the pipeline runs", func() bool { return strings.Contains(stderr.String(), "pipeline opened") })
	events := write(t, "events.jsonl", `{"stream":"a","id":"1","type":"good","data":{}}`+"\n"+`{"stream":"a","id":"2","type":"noise","data":{}}`+"\n")
	if code, out, errs := spanledger(t, "ingest", events, "--map", ".", "--database", "projects/p/instances/inst/databases/ledger"); code != 0 {
		t.Fatalf("ingest: %d %s%s", code, out, errs)
	}
	segments := func() []string {
		found, err := filepath.Glob(filepath.Join(dir, "storage", "the-bucket", "segments", "events", "*", "*", "*.avro"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	eventually(t, "a segment", func() bool { return len(segments()) == 1 })
	if code := end(); code != 0 {
		t.Errorf("run ended with %d\n%s", code, stderr)
	}
	b, err := os.ReadFile(segments()[0])
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), `"metadata"`) {
		t.Error("the archive's schema has the dropped column")
	}

	// A changed filter is another history.
	other := write(t, "other.yaml", strings.Replace(pipelineFile, "noise", "silence", 1))
	if code, _, errs := spanledger(t, "run", "-c", other); code != exitBroken || !strings.Contains(errs, "incarnation") {
		t.Errorf("exit code %d with a changed filter: %s", code, errs)
	}
	if code := stop(); code != 0 {
		t.Errorf("emulator ended with %d", code)
	}
}

func TestRunRefuses(t *testing.T) {
	serve(t)
	good := write(t, "good.yaml", pipelineFile)
	if code, _, errs := spanledger(t, "run", "-c", good); code != 1 || !strings.Contains(errs, "'spanledger init' makes them") {
		t.Errorf("without init: %d %s", code, errs)
	}
	if code, _, errs := spanledger(t, "init", "-c", good); code != 0 {
		t.Fatalf("init: %d %s", code, errs)
	}
	for name, c := range map[string]struct{ old, replacement, want string }{
		"missing stream": {"stream: changes", "stream: nothing", "has no change stream nothing"},
		"missing table":  {"tables: [events]", "tables: [evnets]", "has no table evnets: did you mean events?"},
		"missing column": {"events.metadata", "events.metdata", "did you mean metadata?"},
		"key column":     {"events.metadata", "events.version", "part of the primary key"},
		"missing bucket": {"the-bucket", "no-bucket", "bucket doesn't exist"},
		"missing topic":  {"topic: changes}}\nsetup", "topic: nobody}}\nsetup", "nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(pipelineFile, c.old) {
				t.Fatalf("no %q", c.old)
			}
			file := write(t, "f.yaml", strings.Replace(strings.Replace(pipelineFile, "name: ledger", "name: "+strings.ReplaceAll(name, " ", "-"), 1), c.old, c.replacement, 1))
			if code, _, errs := spanledger(t, "run", "-c", file); code != 1 || !strings.Contains(errs, c.want) {
				t.Errorf("exit code %d, no %q in %s", code, c.want, errs)
			}
		})
	}
	if code, _, errs := spanledger(t, "run", "-c", good, "--pipeline", "legder"); code != 1 || !strings.Contains(errs, "did you mean ledger?") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestUnreachableAndForbidden(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	file := write(t, "f.yaml", pipelineFile)
	t.Setenv(emulator.SpannerVariable, dead)
	t.Setenv(emulator.PubSubVariable, dead)
	t.Setenv(emulator.StorageVariable, dead)
	if code, _, errs := spanledger(t, "init", "-c", file, "--timeout", "300ms"); code != 1 || !strings.Contains(errs, "does not answer") {
		t.Errorf("init: %d %s", code, errs)
	}
	if code, _, errs := spanledger(t, "run", "-c", file, "--start-timeout", "500ms"); code != 1 || !strings.Contains(errs, "did not answer within 500ms") {
		t.Errorf("run: %d %s", code, errs)
	}

	forbidding, err := spanner.Start(t.Context(), spanner.Options{GRPC: []grpc.ServerOption{grpc.ChainUnaryInterceptor(
		func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
			return nil, status.Error(codes.PermissionDenied, "no")
		})}})
	if err != nil {
		t.Fatal(err)
	}
	defer forbidding.Close()
	t.Setenv(emulator.SpannerVariable, forbidding.Addr())
	onlySpanner := write(t, "g.yaml", strings.Split(pipelineFile, "      - {name: archive")[0]+"      - {name: out, type: stdout}\n")
	if code, _, errs := spanledger(t, "init", "-c", onlySpanner); code != 1 || !strings.Contains(errs, "roles/spanner.databaseAdmin") {
		t.Errorf("init: %d %s", code, errs)
	}
	if code, _, errs := spanledger(t, "run", "-c", onlySpanner, "--start-timeout", "5s"); code != 1 || !strings.Contains(errs, "PermissionDenied") {
		t.Errorf("run: %d %s", code, errs)
	}
}

func TestConfigCommands(t *testing.T) {
	code, example, _ := spanledger(t, "config", "example")
	file := write(t, "example.yaml", example)
	if code != 0 {
		t.Fatal(code)
	}
	if code, out, errs := spanledger(t, "config", "check", "-c", file); code != 0 || !strings.Contains(out, "is good") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	bad := write(t, "bad.yaml", "pipelins: []\n")
	code, out, _ := spanledger(t, "config", "check", "-c", bad, "--json")
	var result struct {
		OK     bool
		Errors []app.ConfigError
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || code != 1 || result.OK || len(result.Errors) == 0 || result.Errors[0].Line != 1 {
		t.Errorf("%d %v %s", code, err, out)
	}
	if code, _, errs := spanledger(t, "config", "check"); code != 2 || !strings.Contains(errs, "-c FILE is required") {
		t.Errorf("%d %s", code, errs)
	}
	if code, _, errs := spanledger(t, "run", "-c", filepath.Join(t.TempDir(), "none.yaml")); code != 1 || !strings.Contains(errs, "cannot be read") {
		t.Errorf("%d %s", code, errs)
	}
	code, ddl, _ := spanledger(t, "init", "-c", file, "--print-ddl")
	if code != 0 || !strings.Contains(ddl, "CREATE CHANGE STREAM `changes` FOR events") || strings.Count(ddl, "CREATE TABLE events") != 1 {
		t.Errorf("%d\n%s", code, ddl)
	}
	mutable := write(t, "mutable.yaml", pipelineFile+"  mutable: true\n")
	if code, ddl, _ := spanledger(t, "init", "-c", mutable, "--print-ddl"); code != 0 || !strings.Contains(ddl, "NEW_ROW_AND_OLD_VALUES', partition_mode = 'MUTABLE_KEY_RANGE')") {
		t.Errorf("%d\n%s", code, ddl)
	}
	if code, _, errs := spanledger(t, "run", "-c", file, "--pipeline", "ledger", "--pipeline", "ledger"); code != 1 || !strings.Contains(errs, "named twice") {
		t.Errorf("%d %s", code, errs)
	}
	if code, _, errs := spanledger(t, "emulator", "--only", "kafka"); code != 2 || !strings.Contains(errs, "kafka") {
		t.Errorf("%d %s", code, errs)
	}
	for _, name := range []string{"run", "init", "emulator", "config check", "config example"} {
		if code, out, _ := spanledger(t, append(strings.Fields(name), "--help")...); code != 0 || !strings.Contains(out, "Examples:") {
			t.Errorf("%s --help: %d %s", name, code, out)
		}
	}
}

// TestExampleConfigRuns: what 'config example' prints works as it stands, from init to run.
func TestExampleConfigRuns(t *testing.T) {
	serve(t)
	_, example, _ := spanledger(t, "config", "example")
	file := write(t, "example.yaml", strings.Replace(example, "127.0.0.1:9464", "127.0.0.1:0", 1))
	if code, out, errs := spanledger(t, "init", "-c", file); code != 0 {
		t.Fatalf("init: %d %s%s", code, out, errs)
	}
	_, stderr, stop := begin(t, "run", "-c", file, "--log-level", "info")
	eventually(t, "both pipelines run", func() bool {
		if strings.Contains(stderr.String(), "spanledger: ") {
			t.Fatal(stderr.String())
		}
		return strings.Count(stderr.String(), "pipeline opened") == 2
	})
	if code := stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}
