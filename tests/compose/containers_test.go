package compose

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/spanledger/spanledger/app"
)

// TestContainers is the same proof with a container engine, where the environment asks for it: it builds the image, fetches
// some gigabytes of others, takes the published ports, and removes its volumes at the end.
func TestContainers(t *testing.T) {
	if os.Getenv("SPANLEDGER_TEST_CONTAINERS") == "" {
		t.Skip("SKIPPED: set SPANLEDGER_TEST_CONTAINERS=1 where docker compose and an engine are, to run docker-compose.yaml itself")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	compose := func(ctx context.Context, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "docker", append([]string{"compose", "-p", "spanledger-test", "-f", base}, args...)...)
		cmd.Dir = root(t)
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("docker compose %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return string(out), err
	}
	must := func(args ...string) {
		t.Helper()
		if _, err := compose(ctx, args...); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(compose(context.Background(), "ps", "-a"))
			t.Log(compose(context.Background(), "logs", "--tail", "50"))
		}
		if _, err := compose(context.Background(), "down", "-v", "--timeout", "60"); err != nil {
			t.Error(err)
		}
	})
	cloud := app.Endpoints{
		Spanner: "127.0.0.1:9010", PubSub: "127.0.0.1:8085", Storage: "http://127.0.0.1:4443",
		BigQuery: "http://127.0.0.1:9050", BigQueryStorage: "127.0.0.1:9060",
	}
	must("run", "--rm", "init")
	began := spannerNow(t, ctx, cloud.Spanner)
	subscribe(t, ctx, cloud.PubSub)
	must("up", "--wait")
	prove(t, ctx, cloud, "http://127.0.0.1:9090", began, func() error {
		_, err := compose(ctx, "stop", "run")
		return err
	})
	must("up", "--wait") // a second time is a return to where it was
}
