package official

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/spanner"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("SPANLEDGER_TEST_CHILD") != "" {
		child()
	}
	goleak.VerifyTestMain(m,
		// Kept for the life of the process by the client libraries.
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

// child is the parent of an emulator that is killed in TestDiesWithParent.
func child() {
	p, err := StartSpanner(context.Background(), SpannerOptions{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("pid", p.PID())
	select {}
}

func TestSpanner(t *testing.T) {
	p := SpannerForTest(t, SpannerOptions{PartitionTokenAlive: 3 * time.Second})
	ctx := t.Context()
	const name = "projects/p1/instances/i1/databases/d1"
	if err := p.CreateDatabase(ctx, name, "CREATE TABLE T (K INT64) PRIMARY KEY (K)"); err != nil {
		t.Fatal(err)
	}
	client, err := spanner.NewClientWithConfig(ctx, name,
		spanner.ClientConfig{DisableNativeMetrics: true}, p.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Apply(ctx, []*spanner.Mutation{spanner.Insert("T", []string{"K"}, []any{1})}); err != nil {
		t.Fatal(err)
	}
	if err := p.CreateDatabase(ctx, name); err == nil {
		t.Error("the same database was created twice")
	}
	dir, pid := p.dir, p.PID()
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("temporary files are left in %s: %v", dir, err)
	}
	if alive(pid) {
		t.Errorf("process %d is left", pid)
	}
}

func TestPubSub(t *testing.T) {
	p := PubSubForTest(t, PubSubOptions{})
	ctx := t.Context()
	client, err := pubsub.NewClient(ctx, "project1", p.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	topic := &pubsubpb.Topic{Name: "projects/project1/topics/topic1"}
	if _, err := client.TopicAdminClient.CreateTopic(ctx, topic); err != nil {
		t.Fatal(err)
	}
}

func TestDiesWithParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a parent-death signal")
	}
	if _, err := FindSpanner(); err != nil {
		forTest(t, nil, err)
	}
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "SPANLEDGER_TEST_CHILD=1", "TMPDIR="+t.TempDir())
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanf(out, "pid %d\n", &pid); err != nil {
		t.Fatalf("read the emulator's pid: %v", err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed: its status says nothing
	deadline := time.Now().Add(10 * time.Second)
	for alive(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("emulator %d outlives its parent", pid)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// alive reports whether pid is running; a zombie of another parent is not.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestNotInstalled(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	t.Setenv(SpannerEnv, missing)
	t.Setenv(PubSubEnv, missing)
	_, err := StartSpanner(t.Context(), SpannerOptions{})
	wantNotInstalled(t, err, missing, "cloud-spanner-emulator", SpannerEnv)
	_, err = StartPubSub(t.Context(), PubSubOptions{})
	wantNotInstalled(t, err, missing, "pubsub-emulator", PubSubEnv)
	t.Setenv(PubSubEnv, writeProgram(t, "emulator.jar", ""))
	_, err = StartPubSub(t.Context(), PubSubOptions{Java: missing})
	wantNotInstalled(t, err, "Java", missing)
}

func wantNotInstalled(t *testing.T, err error, words ...string) {
	t.Helper()
	var missing *NotInstalledError
	if !errors.Is(err, ErrNotInstalled) || !errors.As(err, &missing) {
		t.Fatalf("got %v, want ErrNotInstalled", err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not mention %q", err, word)
		}
	}
}

func TestProgramThatEnds(t *testing.T) {
	t.Setenv(SpannerEnv, writeProgram(t, "ends", "echo cannot bind >&2; exit 3"))
	_, err := StartSpanner(t.Context(), SpannerOptions{})
	for _, word := range []string{"ended by itself", "exit status 3", "cannot bind"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("error %v does not mention %q", err, word)
		}
	}
}

func TestProgramThatNeverAnswers(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	t.Setenv(SpannerEnv, writeProgram(t, "hangs", "sleep 1000 & echo $! >"+pidFile+"; echo still here; wait"))
	_, err := StartSpanner(t.Context(), SpannerOptions{ReadyTimeout: time.Second})
	if err == nil || !strings.Contains(err.Error(), "no answer within 1s") || !strings.Contains(err.Error(), "still here") {
		t.Errorf("got %v, want a timeout with the output", err)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	// The grandchild belongs to the group: it is dead, though init may take a
	// moment to collect it.
	deadline := time.Now().Add(10 * time.Second)
	for alive(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d of the group is left", pid)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestBadTokenAlive(t *testing.T) {
	t.Setenv(SpannerEnv, writeProgram(t, "unused", ""))
	for _, d := range []time.Duration{time.Millisecond, -time.Second, 1500 * time.Millisecond} {
		if _, err := StartSpanner(t.Context(), SpannerOptions{PartitionTokenAlive: d}); err == nil || !strings.Contains(err.Error(), "PartitionTokenAlive") {
			t.Errorf("%s: got %v", d, err)
		}
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var out tail
	for i := range 10_000 {
		fmt.Fprintf(&out, "line %d\n", i)
	}
	got := out.String()
	if len(got) > tailBytes || !strings.HasSuffix(got, "line 9999\n") || !strings.HasPrefix(got, "line ") {
		t.Errorf("tail has %d bytes, from %.20q", len(got), got)
	}
}

func writeProgram(t *testing.T, name, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
