package pipeline

import (
	"fmt"
	"testing"

	"github.com/spanledger/spanledger/change"
)

// BenchmarkReleaseNothing is a heartbeat with OrderCommit that is not the lowest's.
func BenchmarkReleaseNothing(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWorld(newDice(1), 1, 2)
			w.order = OrderCommit
			e := w.engine(b, nil)
			var last *partition
			for i := range n {
				p := e.newPartition(change.Partition{Token: fmt.Sprint(i), Start: 1000})
				e.running[p.Token] = p
				last = p
			}
			f := &change.Frame{}
			for b.Loop() {
				f.Through = change.Timestamp(last.through.Load() + 1)
				if n == 1 {
					f.Through = 1000
				}
				if err := e.accept(last, f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
