package differential

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// minimizing bounds the time that is spent on making one failure small.
const minimizing = 30 * time.Second

// minimize takes away from a history what it can while the two still differ in the same way: rapid's own shrinking works on the
// bits a history was drawn from, where taking away a table changes all that follows.
func minimize(h history, differs func(history) bool) history {
	began := time.Now()
	for i := 0; ; {
		all := slices.Collect(h.smaller)
		if i >= len(all) {
			return h
		}
		for ; i < len(all); i++ {
			if time.Since(began) > minimizing {
				return h
			}
			if differs(all[i]) {
				h = all[i]
				break
			}
		}
		if i < len(all) {
			i = max(0, i-1) // what comes next takes its place; earlier ones seldom do better now, so they are left for another round
			continue
		}
		if again := slices.IndexFunc(all, differs); again >= 0 && time.Since(began) < minimizing {
			h, i = all[again], 0
			continue
		}
		return h
	}
}

// smaller yields h without one of its parts, large parts first.
func (h history) smaller(yield func(history) bool) {
	with := func(i int, s step) history {
		out := slices.Clone(h)
		out[i] = s
		return out
	}
	for i := len(h) - 1; i > 0; i-- {
		if !yield(slices.Delete(slices.Clone(h), i, i+1)) {
			return
		}
	}
	for i, s := range h {
		for t := range s.smaller {
			if !yield(with(i, t)) {
				return
			}
		}
	}
}

func (s step) smaller(yield func(step) bool) {
	for i := range s.ops {
		t := s
		t.ops = slices.Delete(slices.Clone(s.ops), i, i+1)
		if !yield(t) {
			return
		}
	}
	if s.tag != "" {
		t := s
		t.tag = ""
		if !yield(t) {
			return
		}
	}
	for i := range s.statements {
		t := s
		if s.kind == create {
			t.statements = slices.Delete(slices.Clone(s.statements), i, i+1)
			if !yield(t) {
				return
			}
		}
		for _, text := range shorter(s.statements[i]) {
			t.statements = slices.Clone(s.statements)
			t.statements[i] = text
			if !yield(t) {
				return
			}
		}
	}
	for i, o := range s.ops {
		for p := range o.smaller {
			t := s
			t.ops = slices.Clone(s.ops)
			t.ops[i] = p
			if !yield(t) {
				return
			}
		}
	}
}

func (o op) smaller(yield func(op) bool) {
	for _, text := range shorter(o.sql) {
		p := o
		p.sql = text
		if !yield(p) {
			return
		}
	}
	if o.kind == span {
		return
	}
	for i := range o.values {
		p := o
		p.values = slices.Delete(slices.Clone(o.values), i, i+1)
		if len(p.values) > 0 && !yield(p) {
			return
		}
	}
	for i := range o.columns {
		p := o
		p.columns = slices.Delete(slices.Clone(o.columns), i, i+1)
		p.values = nil
		for _, v := range o.values {
			var list []json.RawMessage
			if json.Unmarshal([]byte(v), &list) != nil || i >= len(list) {
				return
			}
			text, err := json.Marshal(slices.Delete(list, i, i+1))
			if err != nil {
				return
			}
			p.values = append(p.values, string(text))
		}
		if len(p.columns) > 0 && !yield(p) {
			return
		}
	}
}

// clauses are what a statement may do without.
var clauses = regexp.MustCompile(` OPTIONS \([^()]*\)$| THEN RETURN.*$| NOT NULL| DESC\b| STORED| ON DELETE CASCADE| DEFAULT \([^()]*\)`)

// shorter are statements that lack one part of text: a clause, or one of the parts of a list.
func shorter(text string) []string {
	var out []string
	for _, at := range clauses.FindAllStringIndex(text, -1) {
		out = append(out, text[:at[0]]+text[at[1]:])
	}
	for _, at := range listParts(text) {
		out = append(out, text[:at[0]]+text[at[1]:])
	}
	return out
}

// listParts finds the parts of the lists of a statement, each with one of the commas around it.
func listParts(text string) (out [][2]int) {
	begins := []int{0} // of the parts that are open, by nesting
	var quoted byte
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted != 0:
			if c == '\\' {
				i++
			} else if c == quoted {
				quoted = 0
			}
		case c == '"' || c == '\'':
			quoted = c
		case strings.IndexByte("([", c) >= 0:
			begins = append(begins, i+1)
		case c == ',' || strings.IndexByte(")]", c) >= 0 && len(begins) > 1:
			last := len(begins) - 1
			switch from := begins[last]; {
			case c == ',' && last > 0:
				out = append(out, [2]int{from, min(i+2, len(text))})
			case c != ',' && from > 1 && text[from-2] == ',':
				out = append(out, [2]int{from - 2, i})
			}
			if c == ',' {
				begins[last] = i + 2
				continue
			}
			if begins = begins[:last]; last == 1 && begins[0] > 0 {
				out = append(out, [2]int{begins[0] - 2, i + 1}) // of VALUES
			}
		}
	}
	return out
}

// signature is what must stay of a difference while its history is made small: where it shows, and how two answers begin.
func signature(difference string) string {
	lines := strings.SplitN(difference, "\n", 4)
	out := strings.SplitN(lines[0], " ", 4)[0]
	for _, line := range lines[1:] {
		if _, text, ok := strings.Cut(line, ": "); ok && strings.HasPrefix(strings.TrimSpace(line), "o") {
			words := strings.Fields(text)
			out += " " + strings.Join(words[:min(4, len(words))], " ")
		}
	}
	return regexp.MustCompile(`[A-Z]?[0-9]+`).ReplaceAllString(out, "")
}

func TestMinimize(t *testing.T) {
	h, err := parseHistory(`create
  CREATE TABLE T (K INT64 NOT NULL, A STRING(MAX), B NUMERIC DEFAULT (1)) PRIMARY KEY (K DESC)
  CREATE TABLE U (K INT64) PRIMARY KEY (K)
  CREATE CHANGE STREAM S FOR ALL OPTIONS (exclude_insert = true)
once "tag"
  insert T (K, A, B) ["1","x","1"] ["2",null,"2"]
commit
  sql INSERT INTO T (K, A) VALUES (1, "a, (b)"), (2, "b") THEN RETURN K
  delete U (K) ["1"]
ddl DROP TABLE U
`)
	if err != nil {
		t.Fatal(err)
	}
	small := minimize(h, func(h history) bool {
		return strings.Contains(h.String(), `"a, (b)"`) && strings.Contains(h.String(), "B NUMERIC")
	})
	want := "create\n  CREATE TABLE T (B NUMERIC) PRIMARY KEY (K)\ncommit\n  sql INSERT INTO T (A) VALUES (\"a, (b)\")\n"
	if got := small.String(); got != want {
		t.Errorf("small is\n%swant\n%s", got, want)
	}
}
