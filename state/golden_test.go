package state_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloud.google.com/go/spanner"
	"github.com/google/go-cmp/cmp"
	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/state"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file in testdata. What is in these files is in users' databases: a difference needs a migration.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("the stored form has changed; databases of released versions need a migration (-want +got):\n%s", d)
	}
}

func TestDDL(t *testing.T) { golden(t, "ddl.sql", strings.Join(state.DDL(), ";\n\n")+";\n") }

// testForms pins what is in the cells.
func testForms(t *testing.T, c *spanner.Client) {
	s := state.NewSpanner(c, state.SpannerOptions{})
	if _, err := s.Open(t.Context(), state.Config{Pipeline: "forms", Database: "projects/p/instances/i/databases/d", Stream: "all",
		Identity: "id", Digest: "digest", Start: 1_700_000_000_000_001, Snapshot: true}); err != nil {
		t.Fatal(err)
	}
	l, err := s.Claim(t.Context(), "forms", "worker-1")
	if err != nil {
		t.Fatal(err)
	}
	text := &change.Type{Code: change.CodeString}
	at := change.Position{Commit: 1_700_000_000_000_005, Transaction: "tx/9", Sequence: "00000001", Mod: 2}
	_, err = s.Commit(t.Context(), l, []state.Update{
		{Children: []change.Partition{{Token: "a", Start: 1_700_000_000_000_001}}},
		{Snapshots: []state.TableSnapshot{{Table: "orders", From: `["a"]`, To: `["b"]`, State: state.SnapshotWaiting}}},
		{Snapshots: []state.TableSnapshot{{Number: 1, Table: "orders", From: `["a"]`, To: `["b"]`, State: state.SnapshotRunning, Cursor: `["k"]`, Read: true,
			Chunks: []state.SnapshotChunk{{At: 1_700_000_000_000_005, After: `["ab"]`, Through: `["k"]`, Dropped: []string{`["b"]`}, Rows: 3}},
			Total:  9, Rows: 3, Dropped: 1, Anew: 2}}},
		{
			Token: "a", Children: []change.Partition{{Token: "b", Parents: []string{"a", "z"}, Start: 1_700_000_000_000_009}},
			Finished: true, End: 1_700_000_000_000_009,
			Progress: []state.Progress{
				{Sink: "archive", Through: 1_700_000_000_000_008, Chains: []state.ChainEnd{
					{Table: "orders", Through: at, State: []byte{0, 1, 0xff}},
					{Table: "empty"},
				}},
				{Sink: "pubsub", Through: 1_700_000_000_000_008},
			},
			Segments: []state.SinkSegment{{Sink: "archive", Segment: change.Segment{
				Chain: change.Chain{Pipeline: "forms", Incarnation: 1, Token: "a", Table: "orders"}, Name: "segments/orders/x.avro", Generation: 5,
				First: at, Last: change.Position{Commit: at.Commit, Snapshot: true, Transaction: "orders", Sequence: "k"}, Count: 3, Bytes: 4,
				SHA256: "5a", Fingerprint: "f1", Previous: "9e"}}},
			Tables: []*change.Table{change.NewTable("orders", 2, []change.Column{
				{Name: "id", Type: text, Key: true, Ordinal: 1}, {Name: "tags", Type: &change.Type{Code: change.CodeArray, Elem: text}, Ordinal: 2}})},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Break(t.Context(), "forms", 1, state.Gap{Reason: state.Expired, Detail: "what was answered", From: 1_700_000_000_000_009}); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, table := range []struct{ name, columns string }{
		{"pipelines", "pipeline incarnation epoch claim_worker claim_epoch"},
		{"incarnations", "pipeline incarnation source_database stream identity config_digest start_time start_snapshot reason"},
		{"gaps", "pipeline incarnation reason detail from_time to_time snapshot"},
		{"workers", "pipeline worker epoch"},
		{"partitions", "pipeline incarnation token parents start_time end_time state owner epoch"},
		{"progress", "pipeline incarnation token sink through_time chains"},
		{"segments", "pipeline sink incarnation token table_name first_position last_position object generation changes size_bytes sha256 fingerprint previous_sha256"},
		{"schemas", "pipeline table_name version columns"},
		{"snapshots", "pipeline incarnation number table_name from_key to_key state error cursor_key read_all chunks total_rows handed_rows dropped_rows chunks_anew"},
	} {
		out.WriteString(table.name + "\n")
		columns := strings.Fields(table.columns)
		err := c.Single().Read(t.Context(), "spanledger_"+table.name, spanner.Key{"forms"}.AsPrefix(), columns).Do(func(r *spanner.Row) error {
			for i, column := range columns {
				v := r.ColumnValue(i).AsInterface()
				if s, ok := v.(string); ok && (column == "chains" || column == "columns" || column == "chunks") {
					// Spanner orders a JSON value's members in its own way.
					var tree any
					if err := json.Unmarshal([]byte(s), &tree); err != nil {
						return err
					}
					v = tree
				}
				cell, err := json.Marshal(v)
				if err != nil {
					return err
				}
				out.WriteString("  " + column + " = " + string(cell) + "\n")
			}
			out.WriteString("\n")
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "forms.txt", out.String())
}
