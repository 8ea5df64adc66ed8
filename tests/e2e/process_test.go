package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spanledger/spanledger/app"
	"github.com/spanledger/spanledger/emulator/official"
	"github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/changes"
)

// The test binary runs itself again as the processes of the system: a cloud and a pipeline that can really be killed.
const processVar = "SPANLEDGER_E2E_PROCESS"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(processVar) {
	case "":
		os.Exit(m.Run())
	case "cloud":
		err = cloudProcess()
	case "pipeline":
		err = pipelineProcess()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

type cloudConfig struct {
	Official bool
	Dir      string
	Churn    time.Duration
}

type pipelineConfig struct {
	Endpoints app.Endpoints
	Pipeline  app.PipelineConfig
}

// cloudProcess serves until its standard input ends, which it does when the parent dies.
func cloudProcess() error {
	var c cloudConfig
	in := json.NewDecoder(os.Stdin)
	if err := in.Decode(&c); err != nil {
		return err
	}
	cloud, err := app.StartCloud(context.Background(), app.CloudOptions{
		Official: c.Official, StorageDir: c.Dir,
		Spanner:         spanner.Options{Partitions: 3, Churn: changes.Churn{Interval: c.Churn}},
		OfficialSpanner: official.SpannerOptions{PartitionTokenAlive: 2 * time.Second},
	})
	if err != nil {
		return err
	}
	defer cloud.Close()
	if err := json.NewEncoder(os.Stdout).Encode(cloud.Endpoints); err != nil {
		return err
	}
	for {
		var file string // where to write what was published, as an answer
		if err := in.Decode(&file); err != nil {
			return nil // the parent is gone, or has closed the pipe
		}
		b, err := json.Marshal(cloud.PublishedMessages(resources))
		if err == nil {
			err = os.WriteFile(file, b, 0o600)
		}
		if err != nil {
			return err
		}
		fmt.Println("written")
	}
}

// pipelineProcess runs a pipeline until SIGINT, and prints its watermark whenever it has moved.
func pipelineProcess() error {
	var c pipelineConfig
	if err := json.NewDecoder(os.Stdin).Decode(&c); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	fmt.Println("started") // from here on SIGINT is heard
	p, err := app.NewPipeline(ctx, c.Endpoints, c.Pipeline, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	defer p.Close()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	out := bufio.NewWriter(os.Stdout)
	last := int64(0)
	for {
		select {
		case err := <-done:
			fmt.Fprintln(out, "ended")
			return errorsJoin(err, out.Flush())
		case <-tick.C:
			if w := int64(p.Status().Watermark); w != last {
				last = w
				fmt.Fprintln(out, w)
				if err := out.Flush(); err != nil {
					return err
				}
			}
		}
	}
}

func errorsJoin(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// process is a running child.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
	errs  *strings.Builder
}

// start starts the test binary as one of the processes; it is killed when the test ends.
func start(t *testing.T, name string, config any) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{name: name, cmd: exec.Command(exe), lines: make(chan string, 1024), errs: &strings.Builder{}}
	p.cmd.Env = append(os.Environ(), processVar+"="+name)
	p.cmd.Stderr = p.errs
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.stdin.Close()
		if name == "cloud" { // it stops what it started
			time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
		} else {
			_ = p.cmd.Process.Kill()
		}
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, p.errs)
		}
	})
	go func() {
		defer close(p.lines)
		s := bufio.NewScanner(stdout)
		for s.Scan() {
			p.lines <- s.Text()
		}
	}()
	if err := json.NewEncoder(p.stdin).Encode(config); err != nil {
		t.Fatal(err)
	}
	return p
}

// kill ends the process as a power cut would, and waits for its end.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.drain()
	_ = p.cmd.Wait()
}

// interrupt sends SIGINT and waits for the process to end by itself, without an error.
func (p *process) interrupt(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	last := p.drain()
	if err := p.cmd.Wait(); err != nil || last != "ended" {
		t.Fatalf("after SIGINT the %s ended with %v, its last line being %q\n%s", p.name, err, last, p.errs)
	}
}

// drain reads what is left of the output and returns its last line.
func (p *process) drain() (last string) {
	for line := range p.lines {
		last = line
	}
	return last
}
