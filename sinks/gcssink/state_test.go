package gcssink

import (
	"testing"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// FuzzState reads arbitrary bytes as a stored state: an error, or the segment they name.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"v":1,"name":"segments/t/x.avro","sha256":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}`), true)
	f.Add([]byte(`{"v":2}`), true)
	f.Add([]byte(nil), false)
	f.Fuzz(func(t *testing.T, state []byte, some bool) {
		end := sinks.End{State: state}
		if some {
			end.Through = change.Position{Commit: 1, Transaction: "t", Sequence: "0"}
		}
		last, err := lastOf(end)
		if err != nil {
			return
		}
		if some != (last.Name != "") || some != (len(last.SHA256) == 64) || last.Last != end.Through {
			t.Fatalf("%q with %s is %+v", state, end.Through, last)
		}
		if !some {
			return
		}
		again, err := endOf(last)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := lastOf(again); err != nil || back != last {
			t.Fatalf("read back as %+v, %v", back, err)
		}
	})
}
