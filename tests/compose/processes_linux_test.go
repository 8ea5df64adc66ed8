package compose

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spanledger/spanledger/app"
	"github.com/spanledger/spanledger/emulator/official"
)

// TestProcesses is `docker compose up` without containers: Google's emulators, fake-gcs-server, our BigQuery, init, ingest,
// run and Prometheus as the file starts them; then every sink is read back, and Prometheus is asked.
func TestProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in short mode: it takes half a minute")
	}
	s := newSystem(t, load(t, base), findPrograms(t))
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cloud := app.Endpoints{
		Spanner: s.ip["spanner"] + ":9010", PubSub: s.ip["pubsub"] + ":8085", Storage: "http://" + s.ip["gcs"] + ":4443",
		BigQuery: "http://" + s.ip["bigquery"] + ":9050", BigQueryStorage: s.ip["bigquery"] + ":9060",
	}
	prometheus := "http://" + s.ip["prometheus"] + ":9090"
	var began time.Time
	s.up(ctx, map[string]func(){"init": func() {
		// Nothing has been committed yet. Messages are read back from a subscription of the test's own, without ordering.
		began = spannerNow(t, ctx, cloud.Spanner)
		subscribe(t, ctx, cloud.PubSub)
	}}, "run", "ingest", "prometheus")
	s.waitCompleted(ctx, s.running["ingest"])
	t.Logf("ingest said: %s", &s.running["ingest"].output)
	// Another `up` starts what has ended once more: it must find everything there.
	for name, says := range map[string]string{"init": "there  table events in", "ingest": "0 events stored, 1707 there already"} {
		delete(s.running, name)
		s.start(s.project.Services[name])
		s.waitCompleted(ctx, s.running[name])
		if said := s.running[name].output.String(); !strings.Contains(said, says) {
			t.Errorf("%s, run again, does not say %q:\n%s", name, says, said)
		}
	}
	s.waitHealthy(ctx, s.running["run"])
	s.waitHealthy(ctx, s.running["prometheus"])
	prove(t, ctx, cloud, prometheus, began, func() error { return s.stop("run") })
}

// findPrograms finds what stands for the images, and skips where one is missing.
func findPrograms(t *testing.T) programs {
	t.Helper()
	emulator, err := official.FindSpanner()
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	found := programs{spannerGateway: filepath.Join(filepath.Dir(emulator), "gateway_main"), spanledger: os.Getenv("SPANLEDGER_BIN")}
	if _, err := os.Stat(found.spannerGateway); err != nil {
		t.Skipf("SKIPPED: the Spanner emulator's gateway, which its image starts: %v", err)
	}
	if _, err := official.FindPubSub(); err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	for name, into := range map[string]*string{
		"gcloud": &found.gcloud, "prometheus": &found.prometheus, "curl": new(string), "wget": new(string),
	} {
		if *into, err = exec.LookPath(name); err != nil {
			t.Skipf("SKIPPED: %v (Debian: apt-get install prometheus curl wget; gcloud comes from Google)", err)
		}
	}
	dir := t.TempDir()
	build := func(name, pkg string) string {
		to := filepath.Join(dir, name)
		if out, err := exec.Command("go", "build", "-o", to, pkg).CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v\n%s", pkg, err, out)
		}
		return to
	}
	found.fakeGCS = build("fake-gcs-server", "github.com/fsouza/fake-gcs-server")
	if found.spanledger == "" {
		found.spanledger = build("spanledger", "../../cmd/spanledger")
	}
	return found
}
