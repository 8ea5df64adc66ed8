package statetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/state"
	"pgregory.net/rapid"
)

// Model runs random sequences of at most ops calls against the store and a model of a few lines, and compares everything
// that can be read after each call.
func Model(t *testing.T, store state.Store, ops int) {
	rapid.Check(t, func(t *rapid.T) {
		c := newConfig()
		if _, err := store.Open(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		m := &model{pipeline: state.Pipeline{Config: c, Incarnation: 1}}
		for range rapid.IntRange(1, ops).Draw(t, "ops") {
			if op := rapid.IntRange(0, 11).Draw(t, "op"); op == 11 {
				m.reopen(t, store)
			} else if len(m.leases) == 0 || op < 2 {
				worker := rapid.SampledFrom([]string{"w1", "w2"}).Draw(t, "worker")
				l, err := store.Claim(t.Context(), c.Pipeline, worker)
				if want := m.claim(worker); err != nil || l != want {
					t.Fatalf("claim: %+v, %v, want %+v", l, err, want)
				}
			} else {
				m.commit(t, store)
			}
			m.compare(t, store)
		}
	})
}

// model is what a pipeline holds, in lists, searched through.
type model struct {
	pipeline   state.Pipeline
	epoch      int64
	leases     []state.Lease
	partitions []state.Partition
	progress   []state.Progress
	tables     []*change.Table
	segments   []state.SinkSegment
}

func (m *model) claim(worker string) state.Lease {
	m.epoch++
	l := state.Lease{Pipeline: m.pipeline.Config.Pipeline, Incarnation: m.pipeline.Incarnation, Worker: worker, Epoch: m.epoch}
	m.leases = append(m.leases, l)
	return l
}

// reopen opens a new incarnation: from then on all leases are a zombie's, until the next claim.
func (m *model) reopen(t *rapid.T, store state.Store) {
	c := m.pipeline.Config
	c.Start++
	p, err := store.Reopen(t.Context(), c, state.Restart{Incarnation: m.pipeline.Incarnation, Reason: state.Requested})
	m.pipeline = state.Pipeline{Config: c, Incarnation: m.pipeline.Incarnation + 1}
	if err != nil || p != m.pipeline {
		t.Fatalf("reopen: %+v, %v, want %+v", p, err, m.pipeline)
	}
	m.epoch++
	m.partitions, m.progress = nil, nil
}

var modelTokens = []string{"a", "b", "c", "d", "e", "f"}

func drawUpdate(t *rapid.T, l state.Lease) state.Update {
	times := rapid.Custom(func(t *rapid.T) change.Timestamp { return change.Timestamp(rapid.IntRange(100, 108).Draw(t, "time")) })
	tables := rapid.SampledFrom([]string{"t", "u"})
	sinks := rapid.SampledFrom([]string{"s1", "s2"})
	u := state.Update{Token: rapid.SampledFrom(append([]string{""}, modelTokens...)).Draw(t, "token")}
	for range rapid.IntRange(0, 2).Draw(t, "children") {
		u.Children = append(u.Children, change.Partition{
			Token: rapid.SampledFrom(modelTokens).Draw(t, "child"), Start: times.Draw(t, "start"),
			Parents: rapid.SliceOfNDistinct(rapid.SampledFrom(modelTokens), 0, 2, rapid.ID).Draw(t, "parents"),
		})
	}
	if rapid.IntRange(0, 3).Draw(t, "with table") == 0 {
		v := rapid.IntRange(1, 4).Draw(t, "version")
		u.Tables = append(u.Tables, change.NewTable(tables.Draw(t, "table"), v, []change.Column{{Name: fmt.Sprint("c", v), Type: &change.Type{Code: change.CodeBool}}}))
	}
	if u.Token == "" {
		return u
	}
	for range rapid.IntRange(0, 2).Draw(t, "progress") {
		p := state.Progress{Sink: sinks.Draw(t, "sink"), Through: times.Draw(t, "through")}
		for range rapid.IntRange(0, 2).Draw(t, "chains") {
			p.Chains = append(p.Chains, state.ChainEnd{Table: tables.Draw(t, "table"), Through: position(int64(times.Draw(t, "place"))),
				State: rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "state")})
		}
		u.Progress = append(u.Progress, p)
	}
	if rapid.IntRange(0, 3).Draw(t, "finished") == 0 {
		u.Finished, u.End = true, times.Draw(t, "end")
	}
	if rapid.IntRange(0, 2).Draw(t, "with segment") == 0 {
		first := int64(times.Draw(t, "first"))
		u.Segments = append(u.Segments, state.SinkSegment{Sink: sinks.Draw(t, "sink"), Segment: change.Segment{
			Chain: change.Chain{Pipeline: l.Pipeline, Incarnation: l.Incarnation, Token: u.Token, Table: tables.Draw(t, "table")},
			First: position(first), Last: position(first + 1), Name: fmt.Sprint("object ", rapid.IntRange(0, 9).Draw(t, "name")),
		}})
	}
	return u
}

// commit commits updates that succeed, or a single one that is refused.
func (m *model) commit(t *rapid.T, store state.Store) {
	l := m.leases[len(m.leases)-1]
	if rapid.IntRange(0, 4).Draw(t, "zombie") == 0 {
		l = rapid.SampledFrom(m.leases).Draw(t, "lease")
	}
	var updates []state.Update
	var fenced []string
	for range rapid.IntRange(1, 4).Draw(t, "updates") {
		u := drawUpdate(t, l)
		if l.Epoch != m.epoch {
			fenced = append(fenced, u.Token)
		} else if m.refuses(u) {
			if len(updates) > 0 {
				break
			}
			if _, err := store.Commit(t.Context(), l, []state.Update{u}); err == nil {
				t.Fatalf("not refused: %+v", u)
			}
			return
		} else {
			m.apply(l, u)
		}
		updates = append(updates, u)
	}
	got, err := store.Commit(t.Context(), l, updates)
	if err != nil || !slices.Equal(got, fenced) {
		t.Fatalf("commit of %+v: fenced %q, %v, want %q", updates, got, err, fenced)
	}
}

func (m *model) find(token string) *state.Partition {
	for i := range m.partitions {
		if m.partitions[i].Token == token {
			return &m.partitions[i]
		}
	}
	return nil
}

func (m *model) refuses(u state.Update) bool {
	p := m.find(u.Token)
	if u.Token != "" && p == nil {
		return true
	}
	return u.Finished && (u.End < p.Start || p.State == state.Finished && p.End != u.End)
}

func (m *model) apply(l state.Lease, u state.Update) {
	for _, c := range u.Children {
		if m.find(c.Token) == nil {
			m.partitions = append(m.partitions, state.Partition{Partition: c, State: state.Open})
		}
	}
	for _, p := range u.Progress {
		i := slices.IndexFunc(m.progress, func(q state.Progress) bool { return q.Token == u.Token && q.Sink == p.Sink })
		if i < 0 {
			i = len(m.progress)
			m.progress = append(m.progress, state.Progress{Token: u.Token, Sink: p.Sink})
		}
		q := &m.progress[i]
		q.Through = max(q.Through, p.Through)
		for _, c := range p.Chains {
			j := slices.IndexFunc(q.Chains, func(d state.ChainEnd) bool { return d.Table == c.Table })
			if j < 0 {
				q.Chains = append(q.Chains, c)
			} else if !q.Chains[j].Through.After(c.Through) {
				q.Chains[j] = c
			}
		}
	}
	if p := m.find(u.Token); u.Finished && p.State == state.Open {
		p.State, p.End, p.Owner, p.Epoch = state.Finished, u.End, l.Worker, l.Epoch
	}
	for _, s := range u.Segments {
		if !slices.ContainsFunc(m.segments, func(o state.SinkSegment) bool { return o.Sink == s.Sink && o.Chain == s.Chain && o.First == s.First }) {
			m.segments = append(m.segments, s)
		}
	}
	for _, n := range u.Tables {
		i := slices.IndexFunc(m.tables, func(o *change.Table) bool { return o.Name == n.Name })
		if i < 0 {
			m.tables = append(m.tables, n)
		} else if n.Version > m.tables[i].Version {
			m.tables[i] = n
		}
	}
}

func (m *model) compare(t *rapid.T, store state.Store) {
	want := state.Snapshot{Pipeline: m.pipeline, Tables: m.tables}
	for _, p := range m.partitions {
		needed := p.State == state.Open || slices.ContainsFunc(m.partitions, func(c state.Partition) bool {
			return c.State == state.Open && slices.Contains(c.Parents, p.Token)
		})
		if !needed {
			continue
		}
		if p.State == state.Open {
			p.Owner, p.Epoch = m.leases[len(m.leases)-1].Worker, m.epoch
		}
		want.Partitions = append(want.Partitions, p)
		for _, q := range m.progress {
			if q.Token == p.Token {
				want.Progress = append(want.Progress, q)
			}
		}
	}
	got, err := store.Load(t.Context(), m.pipeline.Config.Pipeline)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(want, got); d != "" {
		t.Fatalf("load (-want +got):\n%s", d)
	}
	for _, sink := range []string{"s1", "s2"} {
		var last change.Segment
		n := 0
		err := store.Segments(t.Context(), m.pipeline.Config.Pipeline, sink, func(s change.Segment) error {
			if !slices.Contains(m.segments, state.SinkSegment{Sink: sink, Segment: s}) {
				return fmt.Errorf("segment %+v was not stored so", s)
			}
			if n > 0 && s.Chain == last.Chain && !s.First.After(last.First) {
				return errors.New("segments of a chain are not in order")
			}
			last = s
			n++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range m.segments {
			if s.Sink == sink {
				n--
			}
		}
		if n != 0 {
			t.Fatalf("sink %s lists %+d segments too many", sink, n)
		}
	}
}
