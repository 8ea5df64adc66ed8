package app

import (
	"fmt"
	"strings"
	"testing"
)

// terminal knows what Screen asks for: wrapping on and off, up, and erase to the end.
type terminal struct {
	width, row, col int
	wrap            bool
	rows            []string
}

func (t *terminal) Write(p []byte) (int, error) {
	for s := string(p); s != ""; {
		var up int
		switch n, _ := fmt.Sscanf(s, "\x1b[%dA", &up); {
		case strings.HasPrefix(s, "\x1b[?7l"), strings.HasPrefix(s, "\x1b[?7h"):
			t.wrap, s = s[4] == 'h', s[5:]
		case strings.HasPrefix(s, "\x1b[J"):
			t.rows, s = append(t.rows[:t.row:t.row], ""), s[3:]
		case n == 1:
			t.row, t.col, s = max(0, t.row-up), 0, s[strings.IndexByte(s, 'A')+1:]
		case s[0] == '\n':
			t.row, t.col, s = t.row+1, 0, s[1:]
		default:
			if t.col == t.width && t.wrap {
				t.row, t.col = t.row+1, 0
			}
			for len(t.rows) <= t.row {
				t.rows = append(t.rows, "")
			}
			if t.col < t.width {
				t.rows[t.row] += s[:1]
				t.col++
			}
			s = s[1:]
		}
	}
	return len(p), nil
}

// TestScreenNarrow: lines wider than the terminal, and log lines between, leave one table and the whole log.
func TestScreenNarrow(t *testing.T) {
	term := &terminal{width: 10, wrap: true}
	s := NewScreen(term)
	fmt.Fprintln(s, "before, and longer")
	for i := range 3 {
		if err := s.Draw(fmt.Sprintf("table %d, wider than that\nlast\n", i)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(s, "log %d goes on\n", i)
	}
	s.Leave()
	fmt.Fprintln(s, "after")
	want := "before, an\nd longer\nlog 0 goes\n on\nlog 1 goes\n on\nlog 2 goes\n on\ntable 2, w\nlast\nafter"
	if got := strings.TrimRight(strings.Join(term.rows, "\n"), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
