package state

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"cloud.google.com/go/spanner"
)

var snapshotColumns = []string{"number", "table_name", "from_key", "to_key", "state", "error", "cursor_key", "read_all", "chunks",
	"total_rows", "handed_rows", "dropped_rows", "chunks_anew", "requested_at", "changed_at"}

func decodeSnapshot(row *spanner.Row) (s TableSnapshot, err error) {
	var chunks jsonText
	var state string
	err = row.Columns(&s.Number, &s.Table, &s.From, &s.To, &state, &s.Error, &s.Cursor, &s.Read, &chunks,
		&s.Total, &s.Rows, &s.Dropped, &s.Anew, &s.Requested, &s.Changed)
	if err != nil {
		return s, err
	}
	s.State, s.Requested, s.Changed = SnapshotState(state), s.Requested.UTC(), s.Changed.UTC()
	if chunks != nil {
		if err := json.Unmarshal(chunks, &s.Chunks); err != nil {
			return s, fmt.Errorf("chunks of snapshot %d of table %s: %w", s.Number, s.Table, err)
		}
	}
	return s, s.check()
}

// add adds the snapshot's row to a transaction.
func (s *snapshotRow) add(w *writes, pipeline string, incarnation int64) error {
	var chunks jsonText
	if len(s.Chunks) > 0 {
		text, err := json.Marshal(s.Chunks)
		if err != nil {
			return err
		}
		chunks = text
	}
	columns := append([]string{"pipeline", "incarnation"}, snapshotColumns...)
	values := []any{pipeline, incarnation, s.Number, s.Table, s.From, s.To, string(s.State), s.Error, s.Cursor, s.Read, chunks,
		s.Total, s.Rows, s.Dropped, s.Anew, spanner.CommitTimestamp, spanner.CommitTimestamp}
	if s.write == update { // when it was requested stays
		last := len(columns) - 1
		columns[last-1], values[last-1] = columns[last], values[last]
		columns, values = columns[:last], values[:last]
	}
	w.add(s.write, snapshotsTable, columns, values)
	return nil
}

// RequestSnapshot implements Store.
func (s *Spanner) RequestSnapshot(ctx context.Context, pipeline string, req TableSnapshot) (got TableSnapshot, isNew bool, err error) {
	if err := req.checkRequest(); err != nil {
		return TableSnapshot{}, false, err
	}
	const op = "request a snapshot of"
	if err := s.acquire(ctx, op, pipeline); err != nil {
		return TableSnapshot{}, false, err
	}
	defer s.release()
	committed, err := s.client.ReadWriteTransactionWithOptions(ctx, func(ctx context.Context, txn *spanner.ReadWriteTransaction) error {
		r := newRows()
		if r.head, err = readHead(ctx, txn, pipeline); err != nil {
			return err
		}
		if err := readSnapshots(ctx, txn, spanner.Key{pipeline, r.head.incarnation}.AsPrefix(), r); err != nil {
			return err
		}
		if got, isNew = r.request(req); !isNew {
			return nil
		}
		w := &writes{}
		if err := r.snapshots[got.Number].add(w, pipeline, r.head.incarnation); err != nil {
			return err
		}
		return txn.BufferWrite(w.mutations)
	}, spanner.TransactionOptions{TransactionTag: "spanledger-snapshot"})
	if err != nil {
		return TableSnapshot{}, false, s.explain(ctx, op, pipeline, err)
	}
	if isNew {
		got.Requested, got.Changed = committed.CommitTs.UTC(), committed.CommitTs.UTC()
	}
	return got, isNew, nil
}

// Snapshots implements Store.
func (s *Spanner) Snapshots(ctx context.Context, pipeline string, unfinished bool) ([]TableSnapshot, error) {
	const op = "list the snapshots of"
	if err := s.acquire(ctx, op, pipeline); err != nil {
		return nil, err
	}
	defer s.release()
	r := newRows()
	var err error
	if r.head, err = readHead(ctx, s.single(time.Time{}), pipeline); err == nil {
		err = readSnapshots(ctx, s.single(time.Time{}), spanner.Key{pipeline, r.head.incarnation}.AsPrefix(), r)
	}
	if err != nil {
		return nil, s.explain(ctx, op, pipeline, err)
	}
	return r.listSnapshots(unfinished), nil
}

func readSnapshots(ctx context.Context, txn reader, keys spanner.KeySet, r *rows) error {
	return txn.Read(ctx, snapshotsTable, keys, snapshotColumns).Do(func(row *spanner.Row) error {
		s, err := decodeSnapshot(row)
		if err == nil {
			r.snapshots[s.Number] = &snapshotRow{TableSnapshot: s}
		}
		return err
	})
}

// readUpdated reads the snapshots that updates touch: all of them where one is requested, which needs a number.
func readUpdated(ctx context.Context, txn reader, lease Lease, updates []Update, r *rows) error {
	var keys []spanner.KeySet
	for i := range updates {
		for _, s := range updates[i].Snapshots {
			if s.Number == 0 {
				return readSnapshots(ctx, txn, spanner.Key{lease.Pipeline, lease.Incarnation}.AsPrefix(), r)
			}
			keys = append(keys, spanner.Key{lease.Pipeline, lease.Incarnation, s.Number})
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return readSnapshots(ctx, txn, spanner.KeySets(keys...), r)
}
