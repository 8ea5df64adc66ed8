package official

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// errEnded marks a program that ended by itself.
var errEnded = errors.New("the program ended by itself")

// Process is a running emulator. Its methods may be called concurrently.
type Process struct {
	name     string
	endpoint string
	dir      string // temporary files of the program; removed by Stop
	cmd      *exec.Cmd
	output   tail

	done chan struct{} // closed once the program has ended and was waited for
	exit error         // its exit status; read after done

	stop    sync.Once
	stopErr error
}

// Endpoint returns host:port, the form of SPANNER_EMULATOR_HOST and
// PUBSUB_EMULATOR_HOST.
func (p *Process) Endpoint() string { return p.endpoint }

// PID returns the operating system's id of the program.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended, by Stop or by itself.
func (p *Process) Done() <-chan struct{} { return p.done }

// Output returns the last lines the program printed, up to 16 KiB.
func (p *Process) Output() string { return p.output.String() }

// ClientOptions returns what makes a Google client talk to this emulator
// without any environment variable. With spanner.NewClientWithConfig also set
// DisableNativeMetrics, which the environment variable would imply.
func (p *Process) ClientOptions() []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint("passthrough:///" + p.endpoint),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

// Stop kills the program and all it started, waits until it is gone and
// removes its temporary files. Further calls return the first one's result.
func (p *Process) Stop() error {
	p.stop.Do(func() {
		// Nothing of an emulator's state outlives it, so there is nothing a
		// gentler signal would save.
		err := killGroup(p.cmd.Process)
		<-p.done
		p.stopErr = errors.Join(err, os.RemoveAll(p.dir))
		if p.stopErr != nil {
			p.stopErr = p.describe("stop", p.stopErr)
		}
	})
	return p.stopErr
}

// launch starts cmd on a thread of its own that lives as long as the program:
// Linux sends the parent-death signal when the *thread* that forked ends, so a
// thread the Go runtime may retire would kill the program at a random moment.
func launch(name, address, dir string, cmd *exec.Cmd) (*Process, error) {
	p := &Process{name: name, endpoint: address, dir: dir, cmd: cmd, done: make(chan struct{})}
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	cmd.SysProcAttr = ownGroup()
	// A descendant that keeps the output pipe open must not hold Wait back.
	cmd.WaitDelay = 5 * time.Second
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.exit = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// waitReady asks until the program answers, ends, or ctx does.
func (p *Process) waitReady(ctx context.Context, ask asker) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-p.done:
			cancel(errEnded)
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(nil); <-watched }()

	conn, err := grpc.NewClient("passthrough:///"+p.endpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// The default waits a second before the second attempt.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{
			BaseDelay: 20 * time.Millisecond, Multiplier: 1.2, MaxDelay: 200 * time.Millisecond,
		}}))
	if err != nil {
		return err
	}
	defer conn.Close()
	for {
		err := ask(ctx, conn)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			return nil
		case status.Code(err) == codes.Unavailable:
			// Accepting connections, not yet serving. grpc's own back-off
			// applies to connecting only, so pause here.
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		default:
			return err
		}
	}
}

// describe adds to err the operation, the place and the program's last output.
func (p *Process) describe(op string, err error) error {
	detail := ""
	select {
	case <-p.done:
		if p.exit != nil {
			detail = fmt.Sprintf(" (%v)", p.exit)
		}
	default:
	}
	out := strings.TrimSpace(p.Output())
	if out == "" {
		out = "nothing"
	}
	return fmt.Errorf("%s %s at %s: %w%s; command %s; it printed: %s",
		op, p.name, p.endpoint, err, detail, p.cmd, out)
}

// tail keeps the last part of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte // guarded by mu
}

const tailBytes = 16 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if len(t.buf) > 2*tailBytes {
		t.buf = append([]byte(nil), t.buf[len(t.buf)-tailBytes:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.buf
	if len(b) > tailBytes {
		b = b[len(b)-tailBytes:]
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			b = b[i+1:]
		}
	}
	return string(b)
}
