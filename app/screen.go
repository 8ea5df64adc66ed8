package app

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

// Screen is a terminal with text at its bottom that is drawn again and again; what is written to it, such as a log's lines,
// scrolls by above. Safe for use by several goroutines.
type Screen struct {
	mu     sync.Mutex
	out    io.Writer
	bottom string // drawn now: whole lines
}

// NewScreen draws on out, which must understand the escapes of a VT100 and which nobody else may write to.
func NewScreen(out io.Writer) *Screen { return &Screen{out: out} }

// Write puts whole lines above the bottom.
func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bottom == "" {
		return s.out.Write(p)
	}
	if _, err := io.WriteString(s.out, s.erase()+string(p)+s.drawn()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Draw replaces the bottom by text, whole lines.
func (s *Screen) Draw(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	erase := s.erase()
	s.bottom = text
	_, err := io.WriteString(s.out, erase+s.drawn())
	return err
}

// Leave lets the bottom stand where it is: what follows is written below it.
func (s *Screen) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bottom = ""
}

func (s *Screen) erase() string {
	if s.bottom == "" {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\x1b[J", strings.Count(s.bottom, "\n"))
}

// drawn is the bottom without line wrapping: a line must be one row, whatever the width, or erase would go up too little.
func (s *Screen) drawn() string { return "\x1b[?7l" + s.bottom + "\x1b[?7h" }
