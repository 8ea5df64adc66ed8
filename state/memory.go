package state

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/spanledger/spanledger/change"
)

// Memory is a Store in memory. It survives its users: an engine that is started again with the same Memory goes on where
// the one before came to. It is lost with the process.
type Memory struct {
	mu        sync.Mutex
	pipelines map[string]*memoryPipeline
}

type memoryPipeline struct {
	config Config
	*rows
	history []Incarnation
	workers map[string]Worker
}

var _ Store = (*Memory)(nil)

// NewMemory makes an empty store.
func NewMemory() *Memory { return &Memory{pipelines: map[string]*memoryPipeline{}} }

// Open implements Store.
func (m *Memory) Open(ctx context.Context, c Config) (Pipeline, error) {
	if err := begin(ctx, "open", c.Pipeline); err != nil {
		return Pipeline{}, err
	}
	if err := c.check(); err != nil {
		return Pipeline{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.pipelines[c.Pipeline]
	if !ok {
		p = &memoryPipeline{config: c, rows: newRows(), workers: map[string]Worker{}}
		p.head.incarnation = 1
		p.history = []Incarnation{{Config: c, Number: 1, Reason: First, Opened: time.Now().UTC()}}
		m.pipelines[c.Pipeline] = p
		return Pipeline{Config: c, Incarnation: 1, Created: true}, nil
	}
	if err := match(p.config, c); err != nil {
		return Pipeline{}, err
	}
	return Pipeline{Config: p.config, Incarnation: p.head.incarnation}, nil
}

// Claim implements Store.
func (m *Memory) Claim(ctx context.Context, pipeline, worker string) (Lease, error) {
	if err := begin(ctx, "claim", pipeline); err != nil {
		return Lease{}, err
	}
	if err := checkWorker(worker); err != nil {
		return Lease{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.pipeline(pipeline)
	if err != nil {
		return Lease{}, err
	}
	p.claim(worker)
	now := time.Now().UTC()
	clear(p.workers) // the workers before own nothing any more
	p.workers[worker] = Worker{Name: worker, Epoch: p.head.claimEpoch, Started: now, Seen: now}
	return Lease{Pipeline: pipeline, Incarnation: p.head.incarnation, Worker: worker, Epoch: p.head.claimEpoch}, nil
}

// Load implements Store.
func (m *Memory) Load(ctx context.Context, pipeline string) (Snapshot, error) {
	if err := begin(ctx, "load", pipeline); err != nil {
		return Snapshot{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.pipeline(pipeline)
	if err != nil {
		return Snapshot{}, err
	}
	return p.snapshot(Pipeline{Config: p.config, Incarnation: p.head.incarnation}), nil
}

// Commit implements Store.
func (m *Memory) Commit(ctx context.Context, lease Lease, updates []Update) (fenced []string, err error) {
	if err := begin(ctx, "commit", lease.Pipeline); err != nil {
		return nil, err
	}
	for i := range updates {
		if err := updates[i].check(lease); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.pipeline(lease.Pipeline)
	if err != nil {
		return nil, err
	}
	for i := range updates {
		dropped, err := p.apply(lease, &updates[i])
		if err != nil {
			return fenced, fmt.Errorf("state: commit pipeline %s: %w", lease.Pipeline, err)
		}
		if dropped {
			fenced = append(fenced, updates[i].Token)
		}
	}
	p.stampSnapshots(time.Now().UTC())
	return fenced, nil
}

// RequestSnapshot implements Store.
func (m *Memory) RequestSnapshot(ctx context.Context, pipeline string, s TableSnapshot) (TableSnapshot, bool, error) {
	if err := begin(ctx, "request a snapshot of", pipeline); err != nil {
		return TableSnapshot{}, false, err
	}
	if err := s.checkRequest(); err != nil {
		return TableSnapshot{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.pipeline(pipeline)
	if err != nil {
		return TableSnapshot{}, false, err
	}
	got, isNew := p.request(s)
	p.stampSnapshots(time.Now().UTC())
	return p.snapshots[got.Number].TableSnapshot.clone(), isNew, nil
}

// Snapshots implements Store.
func (m *Memory) Snapshots(ctx context.Context, pipeline string, unfinished bool) ([]TableSnapshot, error) {
	if err := begin(ctx, "list the snapshots of", pipeline); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.pipeline(pipeline)
	if err != nil {
		return nil, err
	}
	return p.listSnapshots(unfinished), nil
}

// Segments implements Store. fn is called without a lock held: it may use the store.
func (m *Memory) Segments(ctx context.Context, pipeline, sink string, fn func(change.Segment) error) error {
	if err := begin(ctx, "list segments of", pipeline); err != nil {
		return err
	}
	m.mu.Lock()
	p, err := m.pipeline(pipeline)
	var list []change.Segment
	if err == nil {
		for k, s := range p.segments {
			if k.sink == sink {
				list = append(list, s.Segment)
			}
		}
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b change.Segment) int {
		return cmp.Or(cmp.Compare(a.Chain.Incarnation, b.Chain.Incarnation), cmp.Compare(a.Chain.Token, b.Chain.Token),
			cmp.Compare(a.Chain.Table, b.Chain.Table), a.First.Compare(b.First))
	})
	for _, s := range list {
		if err := begin(ctx, "list segments of", pipeline); err != nil {
			return err
		}
		if err := fn(s); err != nil {
			return err
		}
	}
	return nil
}

func (m *Memory) pipeline(name string) (*memoryPipeline, error) {
	if p, ok := m.pipelines[name]; ok {
		return p, nil
	}
	return nil, unknownPipeline(name)
}

// begin refuses to start when the context has ended.
func begin(ctx context.Context, op, pipeline string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("state: %s pipeline %s: %w", op, pipeline, err)
	}
	return nil
}

// match compares what a pipeline is with what it is configured to be.
func match(stored, configured Config) error {
	for _, f := range []struct{ name, stored, configured string }{
		{"database", stored.Database, configured.Database},
		{"stream", stored.Stream, configured.Stream},
		{"identity", stored.Identity, configured.Identity},
		{"digest", stored.Digest, configured.Digest},
	} {
		if f.stored != f.configured {
			return &MismatchError{Pipeline: stored.Pipeline, Field: f.name, Stored: f.stored, Configured: f.configured}
		}
	}
	return nil
}

// snapshot copies what the engine needs to go on: the unfinished partitions with their finished parents. Finished
// partitions without an unfinished child are history: there would be more of them every day.
func (r *rows) snapshot(p Pipeline) Snapshot {
	needed := map[string]bool{}
	for token, row := range r.partitions {
		if row.State == Open {
			needed[token] = true
			for _, parent := range row.Parents {
				needed[parent] = true
			}
		}
	}
	s := Snapshot{Pipeline: p}
	for _, token := range slices.Sorted(maps.Keys(needed)) {
		if row, ok := r.partitions[token]; ok && !IsSnapshotToken(token) {
			part := row.Partition
			part.Parents = slices.Clone(part.Parents)
			if part.State == Open {
				part.Owner, part.Epoch = r.owner(token)
			}
			s.Partitions = append(s.Partitions, part)
		}
	}
	for k, row := range r.progress {
		if needed[k.token] {
			s.Progress = append(s.Progress, Progress{Token: k.token, Sink: k.sink, Through: row.through, Chains: cloneChains(row.chains)})
		}
	}
	slices.SortFunc(s.Progress, func(a, b Progress) int {
		return cmp.Or(cmp.Compare(a.Token, b.Token), cmp.Compare(a.Sink, b.Sink))
	})
	s.Snapshots = r.listSnapshots(true)
	for _, name := range slices.Sorted(maps.Keys(r.tables)) {
		s.Tables = append(s.Tables, r.tables[name].table)
	}
	return s
}

// stampSnapshots is what Spanner's commit timestamps do.
func (r *rows) stampSnapshots(now time.Time) {
	for _, s := range r.snapshots {
		if s.write == insert {
			s.Requested = now
		}
		if s.write != unchanged {
			s.Changed, s.write = now, unchanged
		}
	}
}

func cloneChains(chains []ChainEnd) []ChainEnd {
	chains = slices.Clone(chains)
	for i := range chains {
		chains[i].State = slices.Clone(chains[i].State)
	}
	return chains
}
