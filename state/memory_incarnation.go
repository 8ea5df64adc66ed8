package state

import (
	"context"
	"maps"
	"slices"
	"time"
)

// Break implements Store.
func (m *Memory) Break(ctx context.Context, pipeline string, incarnation int64, g Gap) error {
	if err := g.check(pipeline); err != nil {
		return err
	}
	return m.with(ctx, "break", pipeline, func(p *memoryPipeline) error {
		if last := p.last(); last.Number == incarnation && last.Gap == nil {
			last.Gap = &Gap{Reason: g.Reason, Detail: g.Detail, From: g.From, Found: time.Now().UTC()}
		}
		return nil
	})
}

// Mend implements Store.
func (m *Memory) Mend(ctx context.Context, l Lease) error {
	return m.with(ctx, "mend", l.Pipeline, func(p *memoryPipeline) error {
		if p.holds(l, "") {
			p.last().Gap = nil
		}
		return nil
	})
}

// Reopen implements Store.
func (m *Memory) Reopen(ctx context.Context, c Config, r Restart) (Pipeline, error) {
	if err := r.check(&c); err != nil {
		return Pipeline{}, err
	}
	var opened Pipeline
	err := m.with(ctx, "reopen", c.Pipeline, func(p *memoryPipeline) error {
		if p.head.incarnation != r.Incarnation {
			return &IncarnationError{c.Pipeline, r.Incarnation, p.head.incarnation}
		}
		now := time.Now().UTC()
		if p.last().Gap = r.after(p.last().Gap, c); p.last().Gap != nil {
			g := p.last().Gap
			if g.Closed = now; g.Found.IsZero() {
				g.Found = now
			}
		}
		next := newRows()
		next.head, next.segments, next.tables = p.head.next(), p.segments, p.tables
		p.config, p.rows = c, next
		p.history = append(p.history, Incarnation{Config: c, Number: p.head.incarnation, Reason: r.Reason, Opened: now})
		clear(p.workers)
		opened = Pipeline{Config: c, Incarnation: p.head.incarnation}
		return nil
	})
	return opened, err
}

// Renew implements Store.
func (m *Memory) Renew(ctx context.Context, l Lease) (current bool, err error) {
	err = m.with(ctx, "renew", l.Pipeline, func(p *memoryPipeline) error {
		if current = p.holds(l, ""); current {
			w := p.workers[l.Worker]
			w.Seen = time.Now().UTC()
			p.workers[l.Worker] = w
		}
		return nil
	})
	return current, err
}

// Release implements Store.
func (m *Memory) Release(ctx context.Context, l Lease) error {
	return m.with(ctx, "release", l.Pipeline, func(p *memoryPipeline) error {
		if p.holds(l, "") {
			delete(p.workers, l.Worker)
		}
		return nil
	})
}

// History implements Store.
func (m *Memory) History(ctx context.Context, pipeline string) (History, error) {
	h := History{Pipeline: pipeline, At: time.Now().UTC()}
	err := m.with(ctx, "look at", pipeline, func(p *memoryPipeline) error {
		h.Incarnations = slices.Clone(p.history)
		for i := range h.Incarnations {
			if g := h.Incarnations[i].Gap; g != nil {
				c := *g
				h.Incarnations[i].Gap = &c
			}
		}
		for _, name := range slices.Sorted(maps.Keys(p.workers)) {
			h.Workers = append(h.Workers, p.workers[name])
		}
		return nil
	})
	return h, err
}

// Pipelines implements Store.
func (m *Memory) Pipelines(ctx context.Context) ([]string, error) {
	if err := begin(ctx, "list", "*"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.pipelines)), nil
}

// last is the current incarnation.
func (p *memoryPipeline) last() *Incarnation { return &p.history[len(p.history)-1] }

func (m *Memory) with(ctx context.Context, op, pipeline string, fn func(*memoryPipeline) error) error {
	if err := begin(ctx, op, pipeline); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.pipeline(pipeline)
	if err != nil {
		return err
	}
	return fn(p)
}
