package changestream

import (
	"bufio"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	database "cloud.google.com/go/spanner/admin/database/apiv1"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instance "cloud.google.com/go/spanner/admin/instance/apiv1"
	"cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/spanledger/spanledger/change"
)

// BenchmarkIdlePartitions measures what partitions cost on which nothing happens but heartbeats: 1000 of them, or as many as
// SPANLEDGER_PARTITIONS says. The server is a process of its own. ns/op mean nothing.
func BenchmarkIdlePartitions(b *testing.B) {
	n := 1000
	if s := os.Getenv("SPANLEDGER_PARTITIONS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(err)
	out, err := cmd.StdoutPipe()
	must(err)
	must(cmd.Start())
	defer func() {
		must(in.Close())
		must(cmd.Wait())
	}()
	addr, err := bufio.NewReader(out).ReadString('\n')
	must(err)
	options := []option.ClientOption{
		option.WithEndpoint("passthrough:///" + strings.TrimSpace(addr)), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	makeDatabase(ctx, must, options)
	r, err := New(ctx, Options{
		Database: testDatabase, Stream: "Everything", ClientOptions: options, Logger: slog.New(slog.DiscardHandler), Heartbeat: time.Duration(n) * time.Millisecond,
	})
	must(err)
	defer func() { must(r.Close()) }()
	for b.Loop() {
		measureIdle(ctx, b, r, n)
	}
}

func makeDatabase(ctx context.Context, must func(error), options []option.ClientOption) {
	instances, err := instance.NewInstanceAdminClient(ctx, options...)
	must(err)
	defer instances.Close()
	made, err := instances.CreateInstance(ctx, &instancepb.CreateInstanceRequest{Parent: "projects/reader", InstanceId: "reader", Instance: &instancepb.Instance{DisplayName: "reader", NodeCount: 1}})
	must(err)
	_, err = made.Wait(ctx)
	must(err)
	databases, err := database.NewDatabaseAdminClient(ctx, options...)
	must(err)
	defer databases.Close()
	op, err := databases.CreateDatabase(ctx, &databasepb.CreateDatabaseRequest{Parent: "projects/reader/instances/reader", CreateStatement: "CREATE DATABASE reader", ExtraStatements: testDDL})
	must(err)
	_, err = op.Wait(ctx)
	must(err)
}

func measureIdle(ctx context.Context, b *testing.B, r *Reader, n int) {
	start, err := r.Now(ctx)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	usage := func() (heap, stack, goroutines int) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc), int(m.StackInuse), runtime.NumGoroutine()
	}
	heap, stack, goroutines := usage()
	alive := map[string]bool{}
	all := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- follow(ctx, r, start, func(f *change.Frame) {
			if alive[f.Token] = true; len(alive) == n {
				select {
				case <-all:
				default:
					close(all)
				}
			}
		})
	}()
	select {
	case <-all:
	case err := <-done:
		b.Fatal(err)
	}
	h, s, g := usage()
	b.ReportMetric(float64(h-heap)/float64(n), "heap-B/partition")
	b.ReportMetric(float64(s-stack)/float64(n), "stack-B/partition")
	b.ReportMetric(float64(g-goroutines)/float64(n), "goroutines/partition")
	cancel()
	<-done // the context's end
}
