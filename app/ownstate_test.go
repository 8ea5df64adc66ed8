package app

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	embedded "github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/state"
)

// A stream that watches the tables of the pipeline's own state would feed on its own checkpoints.
func TestPitfallOwnMetadataTable(t *testing.T) {
	e := Endpoints{Spanner: startEmbedded(t, embedded.Options{}).Addr()}
	const database = "projects/proj/instances/inst/databases/ledger"
	n, err := parseDatabase(database)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.ensureDatabase(t.Context(), n, append(state.DDL(),
		"CREATE TABLE Carts (CartId STRING(36) NOT NULL, Items INT64) PRIMARY KEY (CartId)",
		"CREATE CHANGE STREAM Everything FOR ALL",
		"CREATE CHANGE STREAM ByName FOR Carts, spanledger_progress, spanledger_workers()",
		"CREATE CHANGE STREAM Apart FOR Carts",
	)); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string]string{
		"Everything": "watches every table, and the pipeline's own state is in the same database",
		"byname":     "watches spanledger_progress, spanledger_workers, and",
		"Apart":      "",
	} {
		var log bytes.Buffer
		p, err := NewPipeline(t.Context(), e, PipelineConfig{Name: "ledger", Database: database, StateDatabase: database, Stream: stream,
			Sinks: []SinkConfig{{Name: "out", Type: "stdout"}}}, slog.New(slog.NewTextHandler(&log, nil)))
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", stream, err, want)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if !strings.Contains(log.String(), "must never watch") {
			t.Errorf("%s: no warning: %s", stream, &log)
		}
	}
}
