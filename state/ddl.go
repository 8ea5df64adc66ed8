package state

import (
	_ "embed"
	"strings"
)

// The tables' names.
const (
	pipelinesTable    = "spanledger_pipelines"
	incarnationsTable = "spanledger_incarnations"
	gapsTable         = "spanledger_gaps"
	workersTable      = "spanledger_workers"
	partitionsTable   = "spanledger_partitions"
	partitionsByState = "spanledger_partitions_by_state"
	progressTable     = "spanledger_progress"
	segmentsTable     = "spanledger_segments"
	schemasTable      = "spanledger_schemas"
	snapshotsTable    = "spanledger_snapshots"
)

//go:embed tables.sql
var tables string

// DDL returns the statements that make the tables of a Spanner store in a GoogleSQL database, without semicolons, in the
// order to run them. They make only what is missing, so running them again is harmless.
//
// Two tables of it, spanledger_elections and spanledger_dead_letters, are for the engine's duties and not read here.
func DDL() []string {
	var text strings.Builder
	for line := range strings.Lines(tables) {
		if !strings.HasPrefix(line, "--") {
			text.WriteString(line)
		}
	}
	var out []string
	for statement := range strings.SplitSeq(text.String(), ";") {
		if statement = strings.TrimSpace(statement); statement != "" {
			out = append(out, statement)
		}
	}
	return out
}
