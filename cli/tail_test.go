package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	database "cloud.google.com/go/spanner/admin/database/apiv1"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instance "cloud.google.com/go/spanner/admin/instance/apiv1"
	"cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/emulator"
	"github.com/spanledger/spanledger/emulator/official"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/changes"
)

const tailDatabase = "projects/p/instances/inst/databases/shop"

var tailDDL = []string{
	"CREATE TABLE Stock (Item STRING(20) NOT NULL, Size INT64 NOT NULL, Amount INT64, Note STRING(MAX), Extra JSON) PRIMARY KEY (Item, Size)",
	"CREATE TABLE Other (Id INT64 NOT NULL) PRIMARY KEY (Id)",
	"CREATE CHANGE STREAM everything FOR ALL",
}

// shop makes a database on the emulator the environment names, and a client of it.
func shop(t *testing.T, ddl ...string) *spanner.Client {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	instances, err := instance.NewInstanceAdminClient(t.Context())
	must(err)
	defer instances.Close()
	made, err := instances.CreateInstance(t.Context(), &instancepb.CreateInstanceRequest{Parent: "projects/p", InstanceId: "inst",
		Instance: &instancepb.Instance{Config: "projects/p/instanceConfigs/emulator-config", DisplayName: "inst", NodeCount: 1}})
	must(err)
	_, err = made.Wait(t.Context())
	must(err)
	databases, err := database.NewDatabaseAdminClient(t.Context())
	must(err)
	defer databases.Close()
	op, err := databases.CreateDatabase(t.Context(), &databasepb.CreateDatabaseRequest{Parent: "projects/p/instances/inst", CreateStatement: "CREATE DATABASE shop", ExtraStatements: ddl})
	must(err)
	_, err = op.Wait(t.Context())
	must(err)
	client, err := spanner.NewClientWithConfig(t.Context(), tailDatabase, spanner.ClientConfig{DisableNativeMetrics: true})
	must(err)
	t.Cleanup(client.Close)
	return client
}

func embeddedSpanner(t *testing.T, o embedded.Options) {
	t.Helper()
	s, err := embedded.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Setenv(emulator.SpannerVariable, s.Addr())
}

func apply(t *testing.T, c *spanner.Client, m ...*spanner.Mutation) time.Time {
	t.Helper()
	at, err := c.Apply(t.Context(), m, spanner.ApplyAtLeastOnce())
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func stock(item string, amount any) *spanner.Mutation {
	return spanner.InsertOrUpdateMap("Stock", map[string]any{"Item": item, "Size": 7, "Amount": amount})
}

func TestTailLines(t *testing.T) {
	embeddedSpanner(t, embedded.Options{})
	c := shop(t, tailDDL...)
	apply(t, c, stock("pen", 5))
	second := apply(t, c, stock("pen", 4))
	apply(t, c, spanner.UpdateMap("Stock", map[string]any{"Item": "pen", "Size": 7, "Note": "a\u009b\u202enote", "Extra": spanner.NullJSON{Value: map[string]any{"k": "v"}, Valid: true}}))
	apply(t, c, spanner.InsertMap("Other", map[string]any{"Id": 1}))
	apply(t, c, spanner.Delete("Stock", spanner.Key{"pen", 7}))
	tail := func(args ...string) string {
		t.Helper()
		code, stdout, stderr := spanledger(t, append([]string{"tail", tailDatabase, "--from", "earliest", "--to", "now", "--heartbeat", "100ms"}, args...)...)
		if code != 0 || !strings.Contains(stderr, "changes shown") || !strings.Contains(stderr, "--from 20") {
			t.Errorf("%q: exit code %d\n%s", args, code, stderr)
		}
		return stdout
	}
	times := regexp.MustCompile(`20\d\d-\d\d-\d\dT[0-9:.]+Z`)
	got := times.ReplaceAllString(tail("everything"), strings.Repeat("T", 27))
	want := `COMMITTED                    OP       TABLE  KEY           COLUMNS
TTTTTTTTTTTTTTTTTTTTTTTTTTT  INSERT   Stock  "pen", 7      Amount=5
TTTTTTTTTTTTTTTTTTTTTTTTTTT  UPDATE   Stock  "pen", 7      Amount 5 → 4
TTTTTTTTTTTTTTTTTTTTTTTTTTT  UPDATE   Stock  "pen", 7      Note NULL → "a\u009b\u202enote"  Extra NULL → {"k":"v"}
TTTTTTTTTTTTTTTTTTTTTTTTTTT  INSERT   Other  1
TTTTTTTTTTTTTTTTTTTTTTTTTTT  DELETE   Stock  "pen", 7      Amount=4  Note="a\u009b\u202enote"  Extra={"k":"v"}
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	lines := func(args ...string) (all []map[string]any) {
		t.Helper()
		for line := range strings.Lines(tail(args...)) {
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			all = append(all, m)
		}
		return all
	}
	if all := lines("--json", "--table", "Other"); len(all) != 1 || all[0]["table"] != "Other" || all[0]["columns"] != nil {
		t.Errorf("one table: %v", all)
	}
	if all := lines("--raw", "--limit", "2"); len(all) != 2 || all[0]["partition"] == "" || len(all[0]["columns"].([]any)) != 5 || all[1]["op"] != "UPDATE" {
		t.Errorf("raw: %v", all)
	}
	if all := lines("--json", "--keys", "--where", `op == "DELETE"`); len(all) != 1 || len(all[0]["before"].(map[string]any)) != 0 || len(all[0]["key"].(map[string]any)) != 2 {
		t.Errorf("keys: %v", all)
	}
	if all := lines("--json", "--from", second.Format(time.RFC3339Nano), "--table", "St*"); len(all) != 3 {
		t.Errorf("from the second commit: %v", all)
	}
	if all := lines("--json", "--heartbeats"); len(all) < 6 {
		t.Errorf("heartbeats: %v", all)
	}
	if text := tail("--keys"); strings.Contains(text, "Amount") {
		t.Error(text)
	}
}

func TestTailRefuses(t *testing.T) {
	embeddedSpanner(t, embedded.Options{})
	shop(t, append(tailDDL, "CREATE CHANGE STREAM second FOR Stock")...)
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{exitUsage, "which database?", nil},
		{exitFailed, "want projects/PROJECT", []string{"shop"}},
		{exitFailed, "Database not found", []string{tailDatabase + "x", "everything"}},
		{exitFailed, "name one of everything, second", []string{tailDatabase}},
		{exitFailed, "it has everything, second", []string{tailDatabase, "evrything"}},
		{exitFailed, "did you mean Stock?", []string{tailDatabase, "second", "--table", "Stok"}},
		{exitUsage, "want now, earliest", []string{tailDatabase, "second", "--from", "yesterday"}},
		{exitUsage, "want a duration before now", []string{tailDatabase, "second", "--from", "-10"}},
		{exitFailed, "not snapshots", []string{tailDatabase, "second", "--from", "snapshot"}},
		{exitFailed, "is too early", []string{tailDatabase, "second", "--from", "2020-01-01T00:00:00Z"}},
		{exitFailed, "lies in the future", []string{tailDatabase, "second", "--from", "2200-01-01T00:00:00Z"}},
		{exitFailed, "lies before the start", []string{tailDatabase, "second", "--to", "-1h"}},
		{exitFailed, "where", []string{tailDatabase, "second", "--where", "op =="}},
		{exitUsage, "--limit -1", []string{tailDatabase, "second", "--limit", "-1"}},
		{exitFailed, "heartbeat 1ms", []string{tailDatabase, "second", "--heartbeat", "1ms"}},
	} {
		code, stdout, stderr := spanledger(t, append([]string{"tail"}, c.args...)...)
		if code != c.code || !strings.Contains(stderr, c.want) || stdout != "" {
			t.Errorf("%q: exit code %d, want %d with %q\n%s", c.args, code, c.code, c.want, stderr)
		}
	}
}

// Without permission tail ends at once and says which it needs, be it to look what the stream is or to read it.
func TestTailDenied(t *testing.T) {
	for part, wants := range map[string][]string{
		"information_schema.": {"asking " + tailDatabase + " about its schema", "spanner.databases.select", "missing IAM permission"},
		"FROM READ_":          {"the account may not read the initial query of change stream everything", "spanner.databases.select", "missing IAM permission"},
	} {
		t.Run(part, func(t *testing.T) {
			var refuses atomic.Bool
			refused := func(request any) error {
				if r, ok := request.(*sppb.ExecuteSqlRequest); ok && refuses.Load() && strings.Contains(r.GetSql(), part) {
					return status.Error(codes.PermissionDenied, "Caller is missing IAM permission")
				}
				return nil
			}
			embeddedSpanner(t, embedded.Options{GRPC: []grpc.ServerOption{
				grpc.ChainUnaryInterceptor(func(ctx context.Context, r any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
					if err := refused(r); err != nil {
						return nil, err
					}
					return handle(ctx, r)
				}),
				grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
					return handle(srv, &refusingStream{stream, refused})
				}),
			}})
			shop(t, tailDDL...)
			refuses.Store(true)
			begun := time.Now()
			code, stdout, stderr := spanledger(t, "tail", tailDatabase, "everything")
			if code != exitFailed || stdout != "" || time.Since(begun) > 20*time.Second {
				t.Errorf("exit code %d after %s: %s", code, time.Since(begun), stdout)
			}
			for _, want := range wants {
				if !strings.Contains(stderr, want) {
					t.Errorf("%q is missing:\n%s", want, stderr)
				}
			}
		})
	}
}

// refusingStream refuses some requests of a streaming call.
type refusingStream struct {
	grpc.ServerStream
	refused func(request any) error
}

func (s *refusingStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.refused(m)
}

// live shows that each row is shown within a second of its commit, and that the end of a tail says how to go on.
func live(t *testing.T, c *spanner.Client) {
	t.Helper()
	stdout, stderr, end := begin(t, "tail", tailDatabase, "everything", "--json")
	eventually(t, "tail reads", func() bool { return strings.Contains(stderr.String(), "change stream everything of") })
	for rows, inTime := 0, 0; inTime < 3; rows++ {
		// A machine that stands still makes every answer late: an ordinary read beside it tells that from a slow tail.
		probing, stop := context.WithCancel(t.Context())
		slowest := make(chan time.Duration)
		go func() { slowest <- slowestRead(probing, c) }()
		committed := apply(t, c, stock(fmt.Sprint("row ", rows), rows))
		eventually(t, "the row is shown", func() bool { return strings.Count(stdout.String(), "\n") == rows+1 })
		shown := time.Since(committed)
		stop()
		stall := <-slowest
		switch {
		case shown <= time.Second:
			inTime++
		case stall < 250*time.Millisecond || rows == 20:
			t.Fatalf("row %d was shown %s after its commit; no read took longer than %s meanwhile", rows, shown, stall)
		default:
			t.Logf("row %d was shown %s after its commit, but a read took %s meanwhile: once more", rows, shown, stall)
		}
	}
	if code := end(); code != 0 {
		t.Errorf("ended with %d\n%s", code, stderr)
	}
	// Where it says that another goes on, nothing is missing.
	m := regexp.MustCompile(`spanledger (tail .* --from (\S+))\n`).FindStringSubmatch(stderr.String())
	if m == nil {
		t.Fatalf("it does not say how to go on:\n%s", stderr)
	}
	apply(t, c, stock("d", 1))
	code, shown, text := spanledger(t, append(strings.Fields(m[1]), "--to", "now", "--json")...)
	if code != 0 || !strings.Contains(shown, `"Item":"d"`) || strings.Contains(shown, `"Item":"row 0"`) {
		t.Errorf("the next: %d\n%s%s", code, shown, text)
	}
}

// slowestRead reads the same small thing again and again until ctx ends, and answers how long the slowest time took.
func slowestRead(ctx context.Context, c *spanner.Client) (slowest time.Duration) {
	for ctx.Err() == nil {
		begun := time.Now()
		_, err := c.Single().ReadRow(ctx, "Other", spanner.Key{1}, []string{"Id"})
		if err == nil || spanner.ErrCode(err) == codes.NotFound || ctx.Err() != nil {
			slowest = max(slowest, time.Since(begun))
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return slowest
}

func TestTailShowsRowsAtOnce(t *testing.T) {
	embeddedSpanner(t, embedded.Options{Partitions: 3, Churn: changes.Churn{Interval: 100 * time.Millisecond}})
	live(t, shop(t, tailDDL...))
}

func TestOfficialTailShowsRowsAtOnce(t *testing.T) {
	t.Setenv(emulator.SpannerVariable, official.SpannerForTest(t, official.SpannerOptions{}).Endpoint())
	live(t, shop(t, tailDDL...))
}
