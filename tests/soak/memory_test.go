package soak

import (
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/spanledger/spanledger/pipeline"
)

// peaks are the highest values seen since watch began: of what the process holds, and of what the engine says.
type peaks struct {
	// Live is the heap that the last collection found in use, Heap with what is garbage since, Stacks the goroutines'.
	Live, Heap, Stacks uint64
	// Budget is the bytes that the engine's budget counted.
	Budget, Partitions, Goroutines int
}

// watch notes the peaks until stop is called, which answers them without what was there before.
func watch(status func() (pipeline.Status, bool)) (stop func() peaks) {
	runtime.GC()
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	read := func() (live, heap, stacks uint64) {
		metrics.Read(samples)
		return samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64()
	}
	live0, heap0, stacks0 := read()
	goroutines0 := runtime.NumGoroutine()
	end, result := make(chan struct{}), make(chan peaks)
	go func() {
		var p peaks
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				result <- p
				return
			case <-tick.C:
			}
			live, heap, stacks := read()
			p.Live, p.Heap, p.Stacks = max(p.Live, live-min(live, live0)), max(p.Heap, heap-min(heap, heap0)), max(p.Stacks, stacks-min(stacks, stacks0))
			p.Goroutines = max(p.Goroutines, runtime.NumGoroutine()-goroutines0)
			if s, ok := status(); ok {
				p.Budget, p.Partitions = max(p.Budget, s.BudgetUsed), max(p.Partitions, s.Partitions)
			}
		}
	}()
	return func() peaks {
		close(end)
		return <-result
	}
}
