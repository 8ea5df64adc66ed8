package sql

import (
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"
)

// The hints of each place. They only steer the optimizer of the real Spanner, which chooses among plans with the same
// result, so all but FORCE_INDEX are checked for their names and then have no effect here.
var (
	statementHints = hintNames("USE_ADDITIONAL_PARALLELISM OPTIMIZER_VERSION OPTIMIZER_STATISTICS_PACKAGE ALLOW_DISTRIBUTED_MERGE LOCK_SCANNED_RANGES SCAN_METHOD EXECUTION_METHOD PDML_MAX_PARALLELISM JOIN_METHOD FORCE_JOIN_ORDER USE_UNENFORCED_FOREIGN_KEY ALLOW_TIMESTAMP_PREDICATE_PUSHDOWN ALLOW_SEARCH_INDEXES_IN_TRANSACTION STATEMENT_TAG REQUEST_TAG RPC_PRIORITY " + uncheckedHint)
	tableHints     = hintNames("FORCE_INDEX GROUPBY_SCAN_OPTIMIZATION SCAN_METHOD INDEX_STRATEGY SEEKABLE_KEY_SIZE SPANNER_EMULATOR.DISABLE_QUERY_NULL_FILTERED_INDEX_CHECK")
	joinHints      = hintNames("FORCE_JOIN_ORDER JOIN_METHOD HASH_JOIN_BUILD_SIDE BATCH_MODE HASH_JOIN_EXECUTION")
	groupHints     = hintNames("GROUP_METHOD")
)

func hintNames(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

func checkHints(h *ast.Hint, known map[string]bool) error {
	if h == nil {
		return nil
	}
	for _, r := range h.Records {
		if name := pathName(r.Key); !known[strings.ToUpper(name)] {
			return invalid("Unsupported hint: %s%s", name, position(r))
		}
	}
	return nil
}
