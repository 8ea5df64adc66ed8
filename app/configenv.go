package app

import (
	"fmt"
	"slices"
	"strings"
)

// substitute replaces ${NAME} and ${NAME:-default} by what lookup says, and $$ by $; a default holds where the variable is
// not set or empty, as in shells. Any other $ stays. It notes each value that it took from the environment in used. The
// error never holds a value.
func substitute(s string, lookup func(string) (string, bool), used map[string]string) (out string, changed bool, err error) {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i == len(s)-1 {
			b.WriteString(s)
			return b.String(), changed, nil
		}
		b.WriteString(s[:i])
		s = s[i:]
		switch s[1] {
		case '$':
			b.WriteByte('$')
			s, changed = s[2:], true
		case '{':
			end := strings.IndexByte(s, '}')
			if end < 0 {
				return "", false, fmt.Errorf("${ without its closing }")
			}
			name, def, hasDefault := strings.Cut(s[2:end], ":-")
			if !isVariable(name) {
				return "", false, fmt.Errorf("${%s}: %q is not the name of a variable", s[2:end], name)
			}
			value, ok := lookup(name)
			switch {
			case hasDefault && value == "":
				value = def
			case !ok:
				return "", false, fmt.Errorf("the environment variable %s is not set", name)
			default:
				used[value] = name
			}
			b.WriteString(value)
			s, changed = s[end+1:], true
		default:
			b.WriteByte('$')
			s = s[1:]
		}
	}
}

func isVariable(name string) bool {
	for i, r := range name {
		if r != '_' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}

// didYouMean is a hint with the nearest of the names there are, or with all of them.
func didYouMean(name string, names []string) string {
	best, distance := "", max(2, len(name)/3)+1
	for _, n := range names {
		if d := editDistance(strings.ToLower(name), strings.ToLower(n)); d < distance {
			best, distance = n, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	if len(names) == 0 {
		return ""
	}
	names = slices.Sorted(slices.Values(names))
	return "there are " + strings.Join(names, ", ")
}

// editDistance counts the letters to put in, take out, change or swap with their neighbour.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b))
	}
	var older, last []int
	for j := range len(b) + 1 {
		last = append(last, j)
	}
	for i := range len(a) {
		row := []int{i + 1}
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			d := min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, older[j-1]+1)
			}
			row = append(row, d)
		}
		older, last = last, row
	}
	return last[len(b)]
}
