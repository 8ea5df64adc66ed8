package gcssink

import (
	"slices"
	"strings"
	"testing"

	"github.com/spanledger/spanledger/archive"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/sinktest"
)

// TestConformance runs the suite for sinks, on objects in memory and in a directory.
func TestConformance(t *testing.T) {
	for name, dir := range map[string]func(t *testing.T) string{
		"memory":    func(*testing.T) string { return "" },
		"directory": func(t *testing.T) string { return t.TempDir() },
	} {
		t.Run(name, func(t *testing.T) {
			sinktest.Run(t, sinktest.Harness{
				Make: func(t *testing.T) sinktest.Destination {
					w := newWorld(t, dir(t))
					return sinktest.Destination{
						Sink:     func(t *testing.T) sinks.Sink { return w.sink(t, w.options(), nil) },
						ReadBack: func(t *testing.T) []sinktest.Delivered { return readAll(t, w) },
					}
				},
				Missing: func(t *testing.T) sinks.Sink {
					w := newWorld(t, dir(t))
					o := w.options()
					o.Bucket = "nowhere"
					return w.sink(t, o, nil)
				},
			})
		})
	}
}

// readAll reads every chain of the archive.
func readAll(t *testing.T, w *world) []sinktest.Delivered {
	t.Helper()
	var all []sinktest.Delivered
	var done []string
	for o, err := range w.clean.List(t.Context(), "segments/") {
		if err != nil {
			t.Fatal(err)
		}
		s, err := archive.SegmentOf(t.Context(), w.clean, o)
		if err != nil {
			t.Fatal(err)
		}
		id := archive.ChainDigest(s.Chain)
		if slices.Contains(done, id) {
			continue
		}
		done = append(done, id)
		if !strings.HasSuffix(o.Name, "-"+id+".avro") {
			t.Errorf("object %s is of chain %s", o.Name, id)
		}
		changes, _ := readChain(t, w.clean, s.Chain)
		for i := range changes {
			all = append(all, sinktest.Deliver(&changes[i]))
		}
	}
	return all
}
