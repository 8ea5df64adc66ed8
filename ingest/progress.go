package ingest

import (
	"fmt"
	"io"
	"time"
)

// showProgress writes progress to w until the returned function is called, and
// a last time then. A writer that fails only loses progress, not events.
func showProgress(w io.Writer, terminal bool, snapshot func() Summary) (stop func()) {
	if w == nil {
		return func() {}
	}
	every := 5 * time.Second
	if terminal {
		every = 200 * time.Millisecond
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				if terminal {
					fmt.Fprintf(w, "\r\x1b[K%s", snapshot())
				} else {
					fmt.Fprintln(w, snapshot())
				}
			case <-quit:
				if terminal {
					fmt.Fprint(w, "\r\x1b[K")
				}
				fmt.Fprintln(w, snapshot())
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}

// String is a line of progress: counts, and events a second.
func (s Summary) String() string {
	stored := s.Ingested + s.AlreadyThere
	rate := 0.0
	if s.Elapsed > 0 {
		rate = float64(stored) / s.Elapsed.Seconds()
	}
	return fmt.Sprintf("read %d, ingested %d, already there %d, rejected %d; %.0f events/s, %s",
		s.Read, s.Ingested, s.AlreadyThere, s.Rejected, rate, s.Elapsed.Round(100*time.Millisecond))
}
