package official

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"google.golang.org/grpc"
)

// defaultReadyTimeout covers a cold JVM on a busy machine; a warm start takes
// one second (Spanner) or five (Pub/Sub).
const defaultReadyTimeout = 60 * time.Second

// SpannerOptions are the options of [StartSpanner]; the zero value is good.
type SpannerOptions struct {
	// PartitionTokenAlive is the least life of a change-stream partition
	// token; tokens end between this and twice this. Whole seconds, at least
	// one; 0 keeps the emulator's own 20 s. Short lives make partitions churn.
	PartitionTokenAlive time.Duration
	// Args are further flags, for instance "--enable_fault_injection".
	Args []string
	// ReadyTimeout bounds the wait for the first answer; 0 means 60 s.
	ReadyTimeout time.Duration
}

// StartSpanner starts the Spanner emulator and returns once it has answered.
// Cancelling ctx aborts the start only; the process lives until Stop or until
// this process dies. The error is a [*NotInstalledError] if there is no
// emulator on this machine.
//
// The emulator (1.5.28) allows one transaction at a time per spanner.Client,
// and one read-write transaction at a time per database.
func StartSpanner(ctx context.Context, opts SpannerOptions) (*Process, error) {
	path, err := FindSpanner()
	if err != nil {
		return nil, err
	}
	flags := opts.Args
	if alive := opts.PartitionTokenAlive; alive != 0 {
		if alive < time.Second || alive%time.Second != 0 {
			return nil, fmt.Errorf("start Spanner emulator: PartitionTokenAlive is %s, want whole seconds of at least 1s", alive)
		}
		flags = append([]string{"--override_change_stream_partition_token_alive_seconds=" +
			strconv.FormatInt(int64(alive/time.Second), 10)}, flags...)
	}
	return start(ctx, "Spanner emulator", opts.ReadyTimeout, askSpanner, func(address, _ string) *exec.Cmd {
		return exec.Command(path, append([]string{"--host_port=" + address}, flags...)...)
	})
}

// PubSubOptions are the options of [StartPubSub]; the zero value is good.
type PubSubOptions struct {
	// Java is the Java program to run the jar with; empty means
	// $JAVA_HOME/bin/java, else java on PATH.
	Java string
	// Args are further flags of the emulator.
	Args []string
	// ReadyTimeout bounds the wait for the first answer; 0 means 60 s.
	ReadyTimeout time.Duration
}

// StartPubSub starts the Pub/Sub emulator and returns once it has answered.
// Contexts and errors are as for [StartSpanner]; a missing Java is a
// [*NotInstalledError] as well.
func StartPubSub(ctx context.Context, opts PubSubOptions) (*Process, error) {
	path, err := FindPubSub()
	if err != nil {
		return nil, err
	}
	java := ""
	if strings.HasSuffix(path, ".jar") {
		if java, err = findJava(opts.Java); err != nil {
			return nil, err
		}
	}
	return start(ctx, "Pub/Sub emulator", opts.ReadyTimeout, askPubSub, func(address, dir string) *exec.Cmd {
		host, port, _ := net.SplitHostPort(address)
		args := append([]string{"--host=" + host, "--port=" + port}, opts.Args...)
		if java == "" {
			return exec.Command(path, args...)
		}
		// Run the jar ourselves: gcloud's wrapper is a Python program that
		// leaves the JVM behind when it is killed. The JVM's own temporary
		// files go where Stop removes them.
		return exec.Command(java, append([]string{
			"-Xmx512m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Djava.io.tmpdir=" + dir,
			"-jar", path,
		}, args...)...)
	})
}

func findJava(java string) (string, error) {
	looked := []string{"PATH"}
	if java == "" {
		java = "java"
		if home := os.Getenv("JAVA_HOME"); home != "" {
			candidate := filepath.Join(home, "bin", "java")
			if path, err := exec.LookPath(candidate); err == nil {
				return path, nil
			}
			looked = append([]string{candidate}, looked...)
		}
	} else {
		looked = []string{java}
	}
	path, err := exec.LookPath(java)
	if err != nil {
		return "", &NotInstalledError{
			Program: "Java (needed by Google's Pub/Sub emulator)",
			Looked:  looked,
			Install: "install a Java runtime of version 11 or later, for instance the package default-jre-headless",
		}
	}
	return path, nil
}

// start runs command on a free loopback port. Between choosing the port and
// the program taking it another process may be faster, so a program that ends
// before it is ready is tried again on another port.
func start(ctx context.Context, name string, timeout time.Duration, ask asker, command func(address, dir string) *exec.Cmd) (*Process, error) {
	if timeout <= 0 {
		timeout = defaultReadyTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %s", timeout))
	defer cancel()
	var failed error
	for range 3 {
		p, err := startOnce(ctx, name, ask, command)
		if err == nil {
			return p, nil
		}
		failed = err
		if !errors.Is(err, errEnded) {
			break
		}
	}
	return nil, failed
}

func startOnce(ctx context.Context, name string, ask asker, command func(address, dir string) *exec.Cmd) (*Process, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	dir, err := os.MkdirTemp("", "spanledger-emulator-")
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p, err := launch(name, address, dir, command(address, dir))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), os.RemoveAll(dir))
	}
	if err := p.waitReady(ctx, ask); err != nil {
		err = p.describe("start", err)
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free loopback port: %w", err)
	}
	address := listener.Addr().String()
	return address, listener.Close()
}

// asker makes one harmless request that only a ready server answers well.
type asker func(context.Context, grpc.ClientConnInterface) error

func askSpanner(ctx context.Context, conn grpc.ClientConnInterface) error {
	_, err := instancepb.NewInstanceAdminClient(conn).ListInstances(ctx,
		&instancepb.ListInstancesRequest{Parent: "projects/spanledger-ready"}, grpc.WaitForReady(true))
	return err
}

func askPubSub(ctx context.Context, conn grpc.ClientConnInterface) error {
	_, err := pubsubpb.NewPublisherClient(conn).ListTopics(ctx,
		&pubsubpb.ListTopicsRequest{Project: "projects/spanledger-ready"}, grpc.WaitForReady(true))
	return err
}
