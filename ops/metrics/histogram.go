package metrics

import (
	"slices"
	"sync"
)

// histogram counts observations in buckets. The client library's own takes one at a time; here the changes of one commit
// are one call.
type histogram struct {
	bounds []float64 // upper, inclusive, ascending

	mu     sync.Mutex
	counts []uint64 // one more than bounds: the last is above all of them
	sum    float64
}

func newHistogram(bounds []float64) *histogram {
	return &histogram{bounds: bounds, counts: make([]uint64, len(bounds)+1)}
}

// observe counts v n times.
func (h *histogram) observe(v float64, n int) {
	i, _ := slices.BinarySearch(h.bounds, v)
	h.mu.Lock()
	h.counts[i] += uint64(n)
	h.sum += v * float64(n)
	h.mu.Unlock()
}

// read is the histogram as Prometheus counts: each bucket holds those below it too.
func (h *histogram) read() (count uint64, sum float64, buckets map[float64]uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	buckets = make(map[float64]uint64, len(h.bounds))
	for i, b := range h.bounds {
		count += h.counts[i]
		buckets[b] = count
	}
	return count + h.counts[len(h.bounds)], h.sum, buckets
}
