package admin

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spanledger/spanledger/pipeline"
)

// readyz says whether every pipeline runs and its checkpoints move, one line a pipeline. A loop that has died is a reason
// not to be ready, whatever else still works.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	code := http.StatusOK
	now := time.Now()
	for _, p := range s.opts.Pipelines {
		st := p.Engine.Status()
		if reason := notReady(st, now, s.opts.StaleAfter); reason != "" {
			code = http.StatusServiceUnavailable
			fmt.Fprintf(&b, "pipeline %s: not ready: %s\n", p.Name, reason)
		} else {
			fmt.Fprintf(&b, "pipeline %s: ready\n", p.Name)
		}
		for _, k := range st.Sinks {
			if k.Failure != nil {
				fmt.Fprintf(&b, "  sink %s is being retried since %s: %v\n", k.Name, k.Failure.Since.UTC().Format(time.RFC3339), k.Failure.Err)
			}
		}
	}
	text(w, code, b.String())
}

// notReady is why a pipeline is not ready, "" if it is.
func notReady(s pipeline.Status, now time.Time, stale time.Duration) string {
	switch {
	case s.Err != nil:
		return fmt.Sprintf("%s after an error: %v", s.Phase, s.Err)
	case s.Phase != pipeline.Running:
		return s.Phase.String()
	case s.Checkpointed.IsZero():
		return "no checkpoint yet"
	}
	if age := now.Sub(s.Checkpointed); age > stale {
		return fmt.Sprintf("checkpoints stand still: the last was %s ago (%d tries have failed)", age.Round(time.Second), s.CheckpointFailures)
	}
	return ""
}
