package differential

import (
	"bufio"
	"fmt"
	"strings"
)

// history is what happens to one database, one step after another. Its text form (String, parseHistory) is what a
// failure prints and what testdata holds:
//
//	create
//	  CREATE TABLE T (K INT64, A STRING(MAX)) PRIMARY KEY (K)
//	  CREATE CHANGE STREAM S FOR ALL
//	commit "a transaction tag"
//	  sql UPDATE T SET A = "x" WHERE TRUE
//	  insert T (K, A) ["1", null] ["2", "y"]
//	  delete T (K) ["1"]
//	  batch INSERT INTO T (K) VALUES (1)
//	  batch UPDATE T SET A = "z" WHERE K = 1
//	  range T [) ["1"] ["3"]
//	  clear T
//	rollback
//	  query SELECT * FROM T
//	ddl ALTER TABLE T ADD COLUMN B BOOL
//	partitioned DELETE FROM T WHERE TRUE
//
// Values of mutations are JSON lists in the API's encoding. A line that begins with # is a comment.
type history []step

type stepKind string

const (
	create      stepKind = "create"      // the database, with all statements at once
	ddl         stepKind = "ddl"         // one schema change of one statement
	partitioned stepKind = "partitioned" // one partitioned DML statement
	commit      stepKind = "commit"      // a read-write transaction
	once        stepKind = "once"        // mutations committed in a single-use transaction
	rollback    stepKind = "rollback"    // a read-write transaction, given up; its mutations are never sent
)

type step struct {
	kind       stepKind
	statements []string // create, ddl, partitioned
	tag        string   // of a transaction
	ops        []op     // of a transaction: statements run in order, mutations go with the commit
}

type opKind string

const (
	insert  opKind = "insert"
	update  opKind = "update"
	upsert  opKind = "upsert" // insert_or_update
	replace opKind = "replace"
	remove  opKind = "delete" // by whole keys
	span    opKind = "range"  // delete of a key range
	clear   opKind = "clear"  // delete of all rows
	sql     opKind = "sql"    // DML
	batched opKind = "batch"  // DML; statements that follow each other are one batch
	query   opKind = "query"  // SELECT within the transaction
)

type op struct {
	kind    opKind
	table   string
	columns []string
	values  []string // JSON lists: rows, keys, or the two ends of a range
	bounds  string   // of a range: "[]", "[)", "(]" or "()"
	sql     string
}

func (o op) String() string {
	switch o.kind {
	case sql, batched, query:
		return fmt.Sprintf("%s %s", o.kind, o.sql)
	case clear:
		return fmt.Sprintf("%s %s", o.kind, o.table)
	case span:
		return fmt.Sprintf("%s %s %s %s", o.kind, o.table, o.bounds, strings.Join(o.values, " "))
	}
	return fmt.Sprintf("%s %s (%s) %s", o.kind, o.table, strings.Join(o.columns, ", "), strings.Join(o.values, " "))
}

func (s step) String() string {
	var b strings.Builder
	switch s.kind {
	case create:
		b.WriteString("create\n")
		for _, st := range s.statements {
			fmt.Fprintf(&b, "  %s\n", st)
		}
	case ddl, partitioned:
		fmt.Fprintf(&b, "%s %s\n", s.kind, s.statements[0])
	default:
		b.WriteString(string(s.kind))
		if s.tag != "" {
			fmt.Fprintf(&b, " %q", s.tag)
		}
		b.WriteByte('\n')
		for _, o := range s.ops {
			fmt.Fprintf(&b, "  %s\n", o)
		}
	}
	return b.String()
}

func (h history) String() string {
	var b strings.Builder
	for _, s := range h {
		b.WriteString(s.String())
	}
	return b.String()
}

// GoString makes rapid print a failing history in its text form.
func (h history) GoString() string { return "\n" + h.String() }

// parseHistory reads what String wrote.
func parseHistory(text string) (history, error) {
	var h history
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if trimmed := strings.TrimSpace(line); trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue
		}
		if rest, indented := strings.CutPrefix(line, "  "); indented {
			if len(h) == 0 {
				return nil, fmt.Errorf("line %d: %q belongs to no step", n, line)
			}
			if err := h[len(h)-1].add(rest); err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			continue
		}
		s, err := parseStep(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		h = append(h, s)
	}
	return h, lines.Err()
}

func parseStep(line string) (step, error) {
	word, rest, _ := strings.Cut(line, " ")
	s := step{kind: stepKind(word)}
	switch s.kind {
	case create:
	case ddl, partitioned:
		s.statements = []string{rest}
	case commit, once, rollback:
		if rest != "" {
			if _, err := fmt.Sscanf(rest, "%q", &s.tag); err != nil {
				return s, fmt.Errorf("want a quoted transaction tag, got %q", rest)
			}
		}
	default:
		return s, fmt.Errorf("unknown step %q", word)
	}
	return s, nil
}

func (s *step) add(line string) error {
	switch s.kind {
	case create:
		s.statements = append(s.statements, line)
		return nil
	case ddl, partitioned:
		return fmt.Errorf("a %s step has its statement on its own line", s.kind)
	}
	word, rest, _ := strings.Cut(line, " ")
	o := op{kind: opKind(word)}
	switch o.kind {
	case sql, batched, query:
		o.sql = rest
		s.ops = append(s.ops, o)
		return nil
	}
	o.table, rest, _ = strings.Cut(rest, " ")
	switch o.kind {
	case clear:
	case span:
		o.bounds, rest, _ = strings.Cut(rest, " ")
	case insert, update, upsert, replace, remove:
		columns, values, ok := strings.Cut(strings.TrimPrefix(rest, "("), ") ")
		if !ok || !strings.HasPrefix(rest, "(") {
			return fmt.Errorf("want %s TABLE (COLUMNS) [VALUES] ..., got %q", o.kind, line)
		}
		o.columns, rest = strings.Split(columns, ", "), values
	default:
		return fmt.Errorf("unknown operation %q", word)
	}
	var err error
	o.values, err = splitJSON(rest)
	s.ops = append(s.ops, o)
	return err
}
