package check

import (
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/civil"
	"cloud.google.com/go/spanner"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/emulator/official"
)

const testDatabase = "projects/check/instances/check/databases/check"

var testDDL = []string{
	`CREATE TABLE events (stream STRING(512) NOT NULL, version INT64 NOT NULL, id STRING(128), type STRING(MAX), time TIMESTAMP,
		data JSON, data_bytes BYTES(MAX), committed_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true)) PRIMARY KEY (stream, version)`,
	`CREATE TABLE items (id STRING(64) NOT NULL, n INT64, b BOOL, f FLOAT64, f32 FLOAT32, num NUMERIC, s STRING(MAX), raw BYTES(MAX), d DATE,
		j JSON, tags ARRAY<STRING(MAX)>, ns ARRAY<INT64>) PRIMARY KEY (id)`,
	`CREATE CHANGE STREAM everything FOR ALL OPTIONS (value_capture_type = 'NEW_ROW_AND_OLD_VALUES')`,
}

// written is what a test's writers did, by table and key.
type written struct {
	mu      sync.Mutex
	commits map[rowKey][]deed
	count   int
}

type deed struct {
	op string
	at change.Timestamp
	n  int64 // the value of the column n after it, -1 for none
}

func (w *written) add(k rowKey, d deed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commits[k] = append(w.commits[k], d)
	w.count++
}

// writeHistory makes a random history through several clients until the time is over, each with a pause after a commit.
func writeHistory(t *testing.T, clients []*spanner.Client, life, pause time.Duration) *written {
	t.Helper()
	w := &written{commits: map[rowKey][]deed{}}
	until := time.Now().Add(life)
	// The client repeats commits for ever against a server that is gone.
	ctx, cancel := context.WithTimeout(t.Context(), life+10*time.Second)
	defer cancel()
	var done sync.WaitGroup
	for worker, client := range clients {
		done.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(worker)))
			live, version := map[string]int64{}, int64(0)
			for n := int64(1); time.Now().Before(until); n++ {
				stream := fmt.Sprintf("cart-%d", worker)
				var mutations []*spanner.Mutation
				var after []func(change.Timestamp)
				for range 1 + random.IntN(3) {
					version++
					key := rowKey{"events", fmt.Sprintf(`["%s","%d"]`, stream, version)}
					mutations = append(mutations, spanner.InsertMap("events", map[string]any{
						"stream": stream, "version": version, "id": fmt.Sprint(n, "-", version), "type": "added <&> \u2028 to \"cart\"",
						"time": time.Now().UTC(), "data": spanner.NullJSON{Valid: true, Value: map[string]any{"n": n, "x": 0.1, "a": []any{nil, true}}},
						"committed_at": spanner.CommitTimestamp,
					}))
					after = append(after, func(at change.Timestamp) { w.add(key, deed{"INSERT", at, -1}) })
				}
				id := fmt.Sprintf("%d/%d", worker, random.IntN(6))
				key := rowKey{"items", `["` + id + `"]`}
				last, exists := live[id]
				switch {
				case !exists:
					mutations = append(mutations, spanner.InsertMap("items", map[string]any{
						"id": id, "n": n, "b": true, "f": 1e21 / float64(n), "f32": float32(3.14), "num": *big.NewRat(n, 8), "s": "a\n\x01é😀",
						"raw": []byte{0, 255, byte(n)}, "d": civil.Date{Year: 2026, Month: 2, Day: 28}, "tags": []string{"", "x"}, // a NULL element kills Google's emulator 1.5.28

						"ns": []int64{-1 << 63, 1<<63 - 1},
					}))
					live[id] = n
					after = append(after, func(at change.Timestamp) { w.add(key, deed{"INSERT", at, n}) })
				case random.IntN(3) == 0:
					mutations = append(mutations, spanner.Delete("items", spanner.Key{id}))
					delete(live, id)
					after = append(after, func(at change.Timestamp) { w.add(key, deed{"DELETE", at, last}) })
				default:
					mutations = append(mutations, spanner.Update("items", []string{"id", "n"}, []any{id, n}))
					live[id] = n
					after = append(after, func(at change.Timestamp) { w.add(key, deed{"UPDATE", at, n}) })
				}
				at, err := client.Apply(ctx, mutations)
				if err != nil {
					t.Errorf("worker %d: %v", worker, err)
					return
				}
				for _, f := range after {
					f(change.TimestampOf(at))
				}
				time.Sleep(pause)
			}
		})
	}
	done.Wait()
	return w
}

func newClient(t *testing.T, options ...option.ClientOption) *spanner.Client {
	t.Helper()
	c, err := spanner.NewClientWithConfig(context.WithoutCancel(t.Context()), testDatabase, spanner.ClientConfig{DisableNativeMetrics: true}, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func emulatorOptions(address string) []option.ClientOption {
	return []option.ClientOption{option.WithEndpoint(address), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials()))}
}

// TestTruthOfficial: on Google's own emulator, with partitions that live two seconds, the truth is what was written and
// agrees with the events table.
func TestTruthOfficial(t *testing.T) {
	p := official.SpannerForTest(t, official.SpannerOptions{PartitionTokenAlive: 2 * time.Second})
	if err := p.CreateDatabase(t.Context(), testDatabase, testDDL...); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SPANNER_EMULATOR_HOST", p.Endpoint()) // without it clients ask Google's metadata server where they are
	testTruth(t, p.ClientOptions(), true, 6*time.Second)
}

func testTruth(t *testing.T, options []option.ClientOption, isOfficial bool, life time.Duration) *Truth {
	clients := make([]*spanner.Client, 4)
	for i := range clients {
		clients[i] = newClient(t, options...)
	}
	var start time.Time
	if err := clients[0].Single().Query(t.Context(), spanner.NewStatement("SELECT CURRENT_TIMESTAMP()")).Do(func(r *spanner.Row) error { return r.Columns(&start) }); err != nil {
		t.Fatal(err)
	}
	var pause time.Duration
	if isOfficial {
		pause = 25 * time.Millisecond // Google's emulator runs one transaction at a time: without a pause its own, which redraw partitions, starve
	}
	wrote := writeHistory(t, clients, life, pause)
	if t.Failed() {
		return nil
	}
	truth, err := ReadTruth(t.Context(), SpannerOptions{Client: clients[0], Database: testDatabase, Stream: "everything", Start: start, Official: isOfficial})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d changes written, %d read from %d partitions, %d hops", wrote.count, len(truth.Changes), len(truth.Partitions), truth.Hops())
	compareWritten(t, wrote, truth)
	if len(truth.Partitions) < 4 {
		t.Errorf("%d partitions: the history saw no churn", len(truth.Partitions))
	}
	events, err := truth.EventsCheck(t.Context(), EventsOptions{Client: clients[0]})
	if err != nil {
		t.Fatal(err)
	}
	if err := events.Err(); err != nil {
		t.Error(err)
	}
	if events.Streams != int64(len(clients)) || events.Rows == 0 {
		t.Errorf("events: %d streams, %d rows", events.Streams, events.Rows)
	}
	report := NewReport(truth, events)
	names := map[string]int64{}
	for _, d := range report.Deviations {
		names[d.Name] = d.Count
	}
	if isOfficial && (names[CommitTimestampPlaceholder] != events.Rows || names[TimestampFractionCut] != events.Rows) {
		t.Errorf("deviations %v of %d rows", names, events.Rows)
	}
	if !isOfficial && len(names) > 0 {
		t.Errorf("deviations %v", names)
	}
	falsify(t, truth, clients[0])
	return truth
}

func compareWritten(t *testing.T, wrote *written, truth *Truth) {
	t.Helper()
	if wrote.count != len(truth.Changes) {
		t.Errorf("%d changes were written, %d read", wrote.count, len(truth.Changes))
	}
	got := map[rowKey][]deed{}
	for i := range truth.Changes {
		c := &truth.Changes[i]
		n := int64(-1)
		row := c.After
		if c.Op == "DELETE" {
			row = c.Before
		}
		if text, ok := row.Get("n"); ok {
			if _, err := fmt.Sscanf(text, `"%d"`, &n); err != nil {
				t.Errorf("%s: n = %s", c.ID(), text)
			}
		}
		got[rowKey{c.Table, c.Key}] = append(got[rowKey{c.Table, c.Key}], deed{c.Op, c.Position.Commit, n})
	}
	for k, want := range wrote.commits {
		if fmt.Sprint(got[k]) != fmt.Sprint(want) {
			t.Errorf("%v: wrote %v, read %v", k, want, got[k])
		}
	}
}

// falsify changes the truth a little and wants EventsCheck to see it.
func falsify(t *testing.T, truth *Truth, client *spanner.Client) {
	t.Helper()
	pick := -1
	for i := range truth.Changes {
		if truth.Changes[i].Table == "events" {
			pick = i
		}
	}
	for name, c := range map[string]struct {
		spoil func(*Change) bool // false drops the change
		want  string
	}{
		"missing":   {func(*Change) bool { return false }, "1 missing from the stream, 0 unexpected, 0 mismatched"},
		"invented":  {func(c *Change) bool { c.Key = `["nobody","1"]`; return true }, "1 missing from the stream, 1 unexpected, 0 mismatched"},
		"update":    {func(c *Change) bool { c.Op = "UPDATE"; return true }, "1 missing from the stream, 1 unexpected, 0 mismatched"},
		"time":      {func(c *Change) bool { c.Position.Commit++; return true }, "0 missing from the stream, 0 unexpected, 1 mismatched"},
		"value":     {func(c *Change) bool { c.After = spoilRow(c.After, "id", `"other"`); return true }, "0 unexpected, 1 mismatched"},
		"null":      {func(c *Change) bool { c.After = spoilRow(c.After, "type", "null"); return true }, "0 unexpected, 1 mismatched"},
		"timestamp": {func(c *Change) bool { c.After = spoilRow(c.After, "time", `"2020-01-01T00:00:00Z"`); return true }, "0 unexpected, 1 mismatched"},
	} {
		changes := append([]Change(nil), truth.Changes...)
		if !c.spoil(&changes[pick]) {
			changes = append(changes[:pick], changes[pick+1:]...)
		}
		for i := range changes {
			changes[i].Records, changes[i].Partitions = 0, 0 // not what is tried here
		}
		other, err := NewTruth(changes, append([]Partition(nil), truth.Partitions...), truth.Start, truth.End+1)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		other.Official = truth.Official
		events, err := other.EventsCheck(t.Context(), EventsOptions{Client: client})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := events.Err(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

func spoilRow(r Row, column, text string) Row {
	r = append(Row(nil), r...)
	for i := range r {
		if r[i].Column.Name == column {
			r[i].Text = text
		}
	}
	return r
}
