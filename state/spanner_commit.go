package state

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"cloud.google.com/go/spanner"
	"github.com/spanledger/spanledger/change"
)

// Commit implements Store. An update larger than one transaction is a *TooLargeError; by mutations it is found before
// anything is stored. After another error some of the updates may be stored, each whole: committing them again is harmless.
func (s *Spanner) Commit(ctx context.Context, lease Lease, updates []Update) (fenced []string, err error) {
	for i := range updates {
		if err := updates[i].check(lease); err != nil {
			return nil, err
		}
		if n := updates[i].mutations(); n > s.maxMutations {
			return nil, &TooLargeError{lease.Pipeline, updates[i].Token, n, s.maxMutations, "mutations"}
		}
	}
	if len(updates) == 0 {
		return nil, begin(ctx, "commit", lease.Pipeline)
	}
	for len(updates) > 0 {
		n := s.fit(updates)
		dropped, err := s.commitAll(ctx, lease, updates[:n])
		fenced = append(fenced, dropped...)
		if err != nil {
			return fenced, err
		}
		updates = updates[n:]
	}
	return fenced, nil
}

// fit is how many of the updates go into one transaction, by the most they can take: at least one.
func (s *Spanner) fit(updates []Update) int {
	mutations, size := 0, 0
	for i := range updates {
		mutations += updates[i].mutations()
		size += updates[i].size()
		if i > 0 && (mutations > s.maxMutations || size > s.maxBytes) {
			return i
		}
	}
	return len(updates)
}

// commitAll stores the updates in one transaction, or in two of half of them each where the chains that are stored already
// make it too large.
func (s *Spanner) commitAll(ctx context.Context, lease Lease, updates []Update) (fenced []string, err error) {
	err = s.transact(ctx, "commit", lease.Pipeline, func(ctx context.Context, txn *spanner.ReadWriteTransaction) error {
		fenced = fenced[:0]
		r, err := readRows(ctx, txn, lease, updates)
		if err != nil {
			return err
		}
		for i := range updates {
			dropped, err := r.apply(lease, &updates[i])
			if err != nil {
				return err
			}
			if dropped {
				fenced = append(fenced, updates[i].Token)
			}
		}
		w, err := r.writes(lease)
		if err != nil {
			return err
		}
		if w.bytes > s.maxBytes {
			return &TooLargeError{lease.Pipeline, updates[0].Token, w.bytes, s.maxBytes, "bytes"}
		}
		return txn.BufferWrite(w.mutations)
	})
	if _, large := errors.AsType[*TooLargeError](err); !large || len(updates) == 1 {
		if err != nil {
			fenced = nil // What a transaction found that was not committed says nothing.
		}
		return fenced, err
	}
	half := len(updates) / 2
	fenced, err = s.commitAll(ctx, lease, updates[:half])
	if err != nil {
		return fenced, err
	}
	rest, err := s.commitAll(ctx, lease, updates[half:])
	return append(fenced, rest...), err
}

// readRows reads, inside the transaction, the rows that the updates touch. Of a lease that cannot be current it reads only
// the pipeline's row, which says so.
func readRows(ctx context.Context, txn *spanner.ReadWriteTransaction, lease Lease, updates []Update) (*rows, error) {
	r := newRows()
	var err error
	if r.head, err = readHead(ctx, txn, lease.Pipeline); err != nil {
		return nil, err
	}
	if lease.Incarnation != r.head.incarnation || lease.Epoch < r.head.claimEpoch || lease.Epoch > r.head.epoch {
		return r, nil
	}
	tokens, progress, segments, names := map[string]bool{}, map[progressKey]bool{}, map[segmentKey]bool{}, map[string]bool{}
	for i := range updates {
		u := &updates[i]
		if u.Token != "" {
			tokens[u.Token] = true
		}
		for _, c := range u.Children {
			tokens[c.Token] = true
		}
		for _, p := range u.Progress {
			progress[progressKey{u.Token, p.Sink}] = true
		}
		for _, g := range u.Segments {
			segments[segmentKey{g.Sink, g.Chain, g.First}] = true
		}
		for _, t := range u.Tables {
			names[t.Name] = true
		}
	}
	pipeline, incarnation := lease.Pipeline, lease.Incarnation
	err = read(ctx, txn, partitionsTable, partitionColumns, tokens,
		func(token string) spanner.Key { return spanner.Key{pipeline, incarnation, token} },
		func(row *spanner.Row) error {
			p, err := decodePartition(row)
			r.partitions[p.Token] = &partitionRow{Partition: p}
			return err
		})
	if err != nil {
		return nil, err
	}
	err = read(ctx, txn, progressTable, progressColumns, progress,
		func(k progressKey) spanner.Key { return spanner.Key{pipeline, incarnation, k.token, k.sink} },
		func(row *spanner.Row) error {
			p, err := decodeProgress(row)
			r.progress[progressKey{p.Token, p.Sink}] = &progressRow{through: p.Through, chains: p.Chains}
			return err
		})
	if err != nil {
		return nil, err
	}
	err = read(ctx, txn, segmentsTable, []string{"sink", "token", "table_name", "first_position"}, segments,
		func(k segmentKey) spanner.Key {
			return spanner.Key{pipeline, k.sink, incarnation, k.chain.Token, k.chain.Table, k.first.String()}
		},
		func(row *spanner.Row) error {
			var sink, first string
			chain := change.Chain{Pipeline: pipeline, Incarnation: incarnation}
			if err := row.Columns(&sink, &chain.Token, &chain.Table, &first); err != nil {
				return err
			}
			p, err := change.ParsePosition(first)
			r.segments[segmentKey{sink, chain, p}] = &segmentRow{}
			return err
		})
	if err != nil {
		return nil, err
	}
	if err := readUpdated(ctx, txn, lease, updates, r); err != nil {
		return nil, err
	}
	return r, read(ctx, txn, schemasTable, schemaColumns, names,
		func(name string) spanner.Key { return spanner.Key{pipeline, name} },
		func(row *spanner.Row) error {
			t, err := decodeTable(row)
			if err == nil {
				r.tables[t.Name] = &tableRow{table: t}
			}
			return err
		})
}

// read calls fn for the rows of a table with the given keys, and does nothing for no keys.
func read[K comparable](ctx context.Context, txn reader, table string, columns []string, keys map[K]bool,
	key func(K) spanner.Key, fn func(*spanner.Row) error) error {
	if len(keys) == 0 {
		return nil
	}
	list := make([]spanner.Key, 0, len(keys))
	for k := range maps.Keys(keys) {
		list = append(list, key(k))
	}
	return txn.Read(ctx, table, spanner.KeySetFromKeys(list...), columns).Do(fn)
}

// writes are a transaction's mutations and about how many bytes they have.
type writes struct {
	mutations []*spanner.Mutation
	bytes     int
}

func (w *writes) add(how write, table string, columns []string, values []any) {
	if how == insert {
		w.mutations = append(w.mutations, spanner.Insert(table, columns, values))
	} else {
		w.mutations = append(w.mutations, spanner.Update(table, columns, values))
	}
	for i, v := range values {
		w.bytes += len(columns[i]) + 8
		switch v := v.(type) {
		case string:
			w.bytes += len(v)
		case jsonText:
			w.bytes += len(v)
		case []string:
			for _, s := range v {
				w.bytes += len(s)
			}
		}
	}
}

// writes are the rows that changed, and no others. Partitions come first: progress rows need theirs.
func (r *rows) writes(l Lease) (*writes, error) {
	w := &writes{}
	now := spanner.CommitTimestamp
	for _, token := range slices.Sorted(maps.Keys(r.partitions)) {
		switch p := r.partitions[token]; p.write {
		case insert:
			columns := []string{"pipeline", "incarnation", "token", "parents", "start_time", "state", "owner", "epoch", "created_at"}
			values := []any{l.Pipeline, l.Incarnation, token, append([]string{}, p.Parents...), p.Start.Time(), string(p.State), p.Owner, p.Epoch, now}
			if p.State == Finished {
				columns, values = append(columns, "end_time", "finished_at"), append(values, p.End.Time(), now)
			}
			w.add(insert, partitionsTable, columns, values)
		case update:
			w.add(update, partitionsTable,
				[]string{"pipeline", "incarnation", "token", "state", "end_time", "owner", "epoch", "finished_at"},
				[]any{l.Pipeline, l.Incarnation, token, string(p.State), p.End.Time(), p.Owner, p.Epoch, now})
		}
	}
	for k, p := range r.progress {
		if p.write == unchanged {
			continue
		}
		chains, err := encodeChains(p.chains)
		if err != nil {
			return nil, err
		}
		w.add(p.write, progressTable,
			[]string{"pipeline", "incarnation", "token", "sink", "through_time", "chains", "updated_at"},
			[]any{l.Pipeline, l.Incarnation, k.token, k.sink, p.through.Time(), chains, now})
	}
	for k, s := range r.segments {
		if s.write == unchanged {
			continue
		}
		w.add(insert, segmentsTable,
			[]string{"pipeline", "sink", "incarnation", "token", "table_name", "first_position", "last_position", "object", "generation",
				"changes", "size_bytes", "sha256", "fingerprint", "previous_sha256", "created_at"},
			[]any{l.Pipeline, k.sink, l.Incarnation, k.chain.Token, k.chain.Table, k.first.String(), s.Last.String(), s.Name, s.Generation,
				s.Count, s.Bytes, s.SHA256, s.Fingerprint, s.Previous, now})
	}
	for _, n := range slices.Sorted(maps.Keys(r.snapshots)) {
		if s := r.snapshots[n]; s.write != unchanged {
			if err := s.add(w, l.Pipeline, l.Incarnation); err != nil {
				return nil, err
			}
		}
	}
	for name, t := range r.tables {
		if t.write == unchanged {
			continue
		}
		text, err := json.Marshal(t.table.Columns)
		if err != nil {
			return nil, err
		}
		w.add(t.write, schemasTable, []string{"pipeline", "table_name", "version", "columns", "updated_at"},
			[]any{l.Pipeline, name, t.table.Version, jsonText(text), now})
	}
	return w, nil
}

// mutations is the most mutations an update takes, counted as Spanner counts them: one for each cell, and for each cell of
// the index's entries that are made and deleted.
func (u *Update) mutations() int {
	const child, finish, progress, segment, snapshot, table = 9 + 4, 8 + 8, 7, 15, 17, 5
	n := child*len(u.Children) + progress*len(u.Progress) + segment*len(u.Segments) + snapshot*len(u.Snapshots) + table*len(u.Tables)
	if u.Finished {
		n += finish
	}
	return n
}

// size is about the bytes an update brings; chains stored already come on top, see commitAll.
func (u *Update) size() int {
	n := len(u.Token)
	for _, c := range u.Children {
		n += 128 + len(c.Token)
		for _, p := range c.Parents {
			n += len(p)
		}
	}
	for _, p := range u.Progress {
		n += 128
		for _, c := range p.Chains {
			n += 96 + len(c.Table) + 4*len(c.State)/3
		}
	}
	for _, s := range u.Segments {
		n += 512 + len(s.Chain.Token) + len(s.Name)
	}
	for i := range u.Snapshots {
		n += 512 + u.Snapshots[i].size()
	}
	for _, t := range u.Tables {
		n += 128 * len(t.Columns)
	}
	return n
}
