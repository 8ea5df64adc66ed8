package state

import (
	"context"
	"errors"
	"time"

	"cloud.google.com/go/spanner"
	"github.com/spanledger/spanledger/change"
)

var (
	gapColumns     = []string{"incarnation", "reason", "detail", "from_time", "to_time", "snapshot", "found_at", "closed_at"}
	historyColumns = append([]string{"incarnation", "reason", "opened_at"}, incarnationColumns...)
	workerColumns  = []string{"worker", "epoch", "started_at", "renewed_at"}
)

func decodeGap(row *spanner.Row) (incarnation int64, g *Gap, err error) {
	g = &Gap{}
	var reason string
	var from time.Time
	var to, closed spanner.NullTime
	if err := row.Columns(&incarnation, &reason, &g.Detail, &from, &to, &g.Snapshot, &g.Found, &closed); err != nil {
		return 0, nil, err
	}
	g.Reason, g.From, g.Found = Reason(reason), change.TimestampOf(from), g.Found.UTC()
	if to.Valid {
		g.To = change.TimestampOf(to.Time)
	}
	if closed.Valid {
		g.Closed = closed.Time.UTC()
	}
	return incarnation, g, nil
}

// readGap reads an incarnation's gap, nil if it has none.
func readGap(ctx context.Context, txn reader, pipeline string, incarnation int64) (*Gap, error) {
	row, err := txn.ReadRow(ctx, gapsTable, spanner.Key{pipeline, incarnation}, gapColumns)
	if errors.Is(err, spanner.ErrRowNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, g, err := decodeGap(row)
	return g, err
}

// Break implements Store.
func (s *Spanner) Break(ctx context.Context, pipeline string, incarnation int64, g Gap) error {
	if err := g.check(pipeline); err != nil {
		return err
	}
	return s.transact(ctx, "break", pipeline, func(ctx context.Context, txn *spanner.ReadWriteTransaction) error {
		h, err := readHead(ctx, txn, pipeline)
		if err != nil || h.incarnation != incarnation {
			return err
		}
		if have, err := readGap(ctx, txn, pipeline, incarnation); have != nil || err != nil {
			return err
		}
		return txn.BufferWrite([]*spanner.Mutation{spanner.InsertMap(gapsTable, map[string]any{
			"pipeline": pipeline, "incarnation": incarnation, "reason": string(g.Reason), "detail": g.Detail, "from_time": g.From.Time(),
			"snapshot": false, "found_at": spanner.CommitTimestamp,
		})})
	})
}

// Mend implements Store.
func (s *Spanner) Mend(ctx context.Context, l Lease) error {
	return s.transact(ctx, "mend", l.Pipeline, func(ctx context.Context, txn *spanner.ReadWriteTransaction) error {
		current, err := holdsNow(ctx, txn, l)
		if err != nil || !current {
			return err
		}
		return txn.BufferWrite([]*spanner.Mutation{spanner.Delete(gapsTable, spanner.Key{l.Pipeline, l.Incarnation})})
	})
}

// holdsNow reports, inside a transaction, whether a lease is the claim in force (I4).
func holdsNow(ctx context.Context, txn reader, l Lease) (bool, error) {
	r := newRows()
	var err error
	r.head, err = readHead(ctx, txn, l.Pipeline)
	return err == nil && r.holds(l, ""), err
}

// Reopen implements Store.
func (s *Spanner) Reopen(ctx context.Context, c Config, r Restart) (Pipeline, error) {
	if err := r.check(&c); err != nil {
		return Pipeline{}, err
	}
	var opened Pipeline
	err := s.transact(ctx, "reopen", c.Pipeline, func(ctx context.Context, txn *spanner.ReadWriteTransaction) error {
		h, err := readHead(ctx, txn, c.Pipeline)
		if err != nil {
			return err
		}
		if h.incarnation != r.Incarnation {
			return &IncarnationError{c.Pipeline, r.Incarnation, h.incarnation}
		}
		open, err := readGap(ctx, txn, c.Pipeline, h.incarnation)
		if err != nil {
			return err
		}
		next := h.next()
		opened = Pipeline{Config: c, Incarnation: next.incarnation}
		mutations := []*spanner.Mutation{
			spanner.UpdateMap(pipelinesTable, map[string]any{
				"pipeline": c.Pipeline, "incarnation": next.incarnation, "epoch": next.epoch, "claim_worker": next.claimWorker, "claim_epoch": next.claimEpoch,
			}),
			spanner.InsertMap(incarnationsTable, map[string]any{
				"pipeline": c.Pipeline, "incarnation": next.incarnation, "source_database": c.Database, "stream": c.Stream, "identity": c.Identity,
				"config_digest": c.Digest, "start_time": c.Start.Time(), "start_snapshot": c.Snapshot, "reason": string(r.Reason), "opened_at": spanner.CommitTimestamp,
			}),
			spanner.Delete(workersTable, spanner.Key{c.Pipeline}.AsPrefix()),
		}
		if g := r.after(open, c); g != nil {
			values := map[string]any{
				"pipeline": c.Pipeline, "incarnation": h.incarnation, "reason": string(g.Reason), "detail": g.Detail, "from_time": g.From.Time(),
				"to_time": g.To.Time(), "snapshot": g.Snapshot, "closed_at": spanner.CommitTimestamp,
			}
			if open == nil {
				values["found_at"] = spanner.CommitTimestamp
				mutations = append(mutations, spanner.InsertMap(gapsTable, values))
			} else {
				mutations = append(mutations, spanner.UpdateMap(gapsTable, values))
			}
		}
		return txn.BufferWrite(mutations)
	})
	if err != nil {
		return Pipeline{}, err
	}
	return opened, nil
}

// Renew implements Store.
func (s *Spanner) Renew(ctx context.Context, l Lease) (current bool, err error) {
	err = s.transact(ctx, "renew", l.Pipeline, func(ctx context.Context, txn *spanner.ReadWriteTransaction) error {
		if current, err = holdsNow(ctx, txn, l); err != nil || !current {
			return err
		}
		return txn.BufferWrite([]*spanner.Mutation{spanner.UpdateMap(workersTable, map[string]any{
			"pipeline": l.Pipeline, "worker": l.Worker, "renewed_at": spanner.CommitTimestamp,
		})})
	})
	return current && err == nil, err
}

// Release implements Store.
func (s *Spanner) Release(ctx context.Context, l Lease) error {
	return s.transact(ctx, "release", l.Pipeline, func(ctx context.Context, txn *spanner.ReadWriteTransaction) error {
		current, err := holdsNow(ctx, txn, l)
		if err != nil || !current {
			return err
		}
		return txn.BufferWrite([]*spanner.Mutation{spanner.Delete(workersTable, spanner.Key{l.Pipeline, l.Worker})})
	})
}

// History implements Store.
func (s *Spanner) History(ctx context.Context, pipeline string) (History, error) {
	const op = "look at"
	if err := s.acquire(ctx, op, pipeline); err != nil {
		return History{}, err
	}
	defer s.release()
	h, err := s.history(ctx, pipeline)
	return h, s.explain(ctx, op, pipeline, err)
}

func (s *Spanner) history(ctx context.Context, pipeline string) (History, error) {
	h := History{Pipeline: pipeline}
	strong := s.single(time.Time{})
	if _, err := readHead(ctx, strong, pipeline); err != nil {
		return h, err
	}
	at, err := strong.Timestamp()
	if err != nil {
		return h, err
	}
	h.At = at.UTC()
	rows := spanner.Key{pipeline}.AsPrefix()
	err = s.single(at).Read(ctx, incarnationsTable, rows, historyColumns).Do(func(row *spanner.Row) error {
		i := Incarnation{Config: Config{Pipeline: pipeline}}
		var reason string
		var start time.Time
		err := row.Columns(&i.Number, &reason, &i.Opened, &i.Database, &i.Stream, &i.Identity, &i.Digest, &start, &i.Snapshot)
		i.Reason, i.Opened, i.Start = Reason(reason), i.Opened.UTC(), change.TimestampOf(start)
		h.Incarnations = append(h.Incarnations, i)
		return err
	})
	if err != nil {
		return h, err
	}
	err = s.single(at).Read(ctx, gapsTable, rows, gapColumns).Do(func(row *spanner.Row) error {
		number, g, err := decodeGap(row)
		for i := range h.Incarnations {
			if h.Incarnations[i].Number == number {
				h.Incarnations[i].Gap = g
			}
		}
		return err
	})
	if err != nil {
		return h, err
	}
	return h, s.single(at).Read(ctx, workersTable, rows, workerColumns).Do(func(row *spanner.Row) error {
		var w Worker
		err := row.Columns(&w.Name, &w.Epoch, &w.Started, &w.Seen)
		w.Started, w.Seen = w.Started.UTC(), w.Seen.UTC()
		h.Workers = append(h.Workers, w)
		return err
	})
}

// Pipelines implements Store.
func (s *Spanner) Pipelines(ctx context.Context) ([]string, error) {
	const op, all = "list", "*"
	if err := s.acquire(ctx, op, all); err != nil {
		return nil, err
	}
	defer s.release()
	var names []string
	err := s.single(time.Time{}).Read(ctx, pipelinesTable, spanner.AllKeys(), []string{"pipeline"}).Do(func(row *spanner.Row) error {
		var name string
		err := row.Columns(&name)
		names = append(names, name)
		return err
	})
	return names, s.explain(ctx, op, all, err)
}
