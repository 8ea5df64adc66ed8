package clientsuite

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// table is CLIENT_TESTS.md: what stands before its rows, and the rows by test.
type table struct {
	head    string
	version string
	rows    map[string]row
}

type row struct{ result, why string }

const (
	rowsBegin = "| --- | --- | --- |\n"
	summary   = "Of %d tests of version %s, %d pass, %d are skipped and %d fail.\n"
)

var summaryLine = regexp.MustCompile(`Of \d+ tests of version (\S+), .*\n`)

func readTable(t *testing.T) *table {
	t.Helper()
	text, err := os.ReadFile(tablePath)
	if err != nil {
		t.Fatal(err)
	}
	head, body, ok := strings.Cut(string(text), rowsBegin)
	m := summaryLine.FindStringSubmatch(head)
	if !ok || m == nil {
		t.Fatalf("%s has no table, or no line that sums it up", tablePath)
	}
	tab := &table{head: head, version: m[1], rows: map[string]row{}}
	for l := range strings.Lines(body) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(l), "|"), "|")
		if len(cells) != 3 {
			t.Fatalf("%s: a row has %d cells, want 3: %s", tablePath, len(cells), l)
		}
		name := strings.Trim(strings.TrimSpace(cells[0]), "`")
		tab.rows["TestIntegration_"+name] = row{strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])}
	}
	if s := tab.String(); s != string(text) {
		t.Errorf("%s is not as -update would write it; want\n%s", tablePath, s)
	}
	return tab
}

// update takes over the results, and the reasons of what still does not pass.
func (tab *table) update(got map[string]string) {
	rows := map[string]row{}
	for name, result := range got {
		r := row{result: result}
		if result != "pass" {
			r.why = tab.rows[name].why
		}
		rows[name] = r
	}
	tab.rows = rows
}

func (tab *table) String() string {
	var rows strings.Builder
	n := map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(tab.rows)) {
		r := tab.rows[name]
		n[r.result]++
		fmt.Fprintf(&rows, "| `%s` | %s | %s |\n", strings.TrimPrefix(name, "TestIntegration_"), r.result, r.why)
	}
	line := fmt.Sprintf(summary, len(tab.rows), tab.version, n["pass"], n["skip"], n["fail"])
	return summaryLine.ReplaceAllLiteralString(tab.head, line) + rowsBegin + rows.String()
}
