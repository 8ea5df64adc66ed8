package state

import (
	"context"
	"slices"
	"time"

	"cloud.google.com/go/spanner"
	"github.com/spanledger/spanledger/change"
)

// loadChunk is how many keys one read of a load asks for, and segmentPage how many segments one read of a listing returns.
const (
	loadChunk   = 1000
	segmentPage = 1000
)

// Load implements Store. It reads the unfinished partitions by an index, so its cost is that of the live graph, however
// many partitions have come and gone.
func (s *Spanner) Load(ctx context.Context, pipeline string) (Snapshot, error) {
	if err := s.acquire(ctx, "load", pipeline); err != nil {
		return Snapshot{}, err
	}
	defer s.release()
	snapshot, err := s.load(ctx, pipeline)
	if err != nil {
		return Snapshot{}, s.explain(ctx, "load", pipeline, err)
	}
	return snapshot, nil
}

func (s *Spanner) load(ctx context.Context, pipeline string) (Snapshot, error) {
	r := newRows()
	var err error
	strong := s.single(time.Time{})
	if r.head, err = readHead(ctx, strong, pipeline); err != nil {
		return Snapshot{}, err
	}
	at, err := strong.Timestamp()
	if err != nil {
		return Snapshot{}, err
	}
	p, err := readIncarnation(ctx, s.single(at), pipeline, r.head)
	if err != nil {
		return Snapshot{}, err
	}
	prefix := spanner.Key{pipeline, r.head.incarnation}
	var open []string
	err = s.single(at).ReadUsingIndex(ctx, partitionsTable, partitionsByState, append(slices.Clone(prefix), string(Open)).AsPrefix(), []string{"token"}).
		Do(func(row *spanner.Row) error {
			var token string
			err := row.Columns(&token)
			open = append(open, token)
			return err
		})
	if err != nil {
		return Snapshot{}, err
	}
	if err := s.loadPartitions(ctx, at, prefix, open, r); err != nil {
		return Snapshot{}, err
	}
	missing := map[string]bool{}
	for _, token := range open {
		for _, parent := range r.partitions[token].Parents {
			if r.partitions[parent] == nil {
				missing[parent] = true
			}
		}
	}
	var parents []string
	for token := range missing {
		parents = append(parents, token)
	}
	if err := s.loadPartitions(ctx, at, prefix, parents, r); err != nil {
		return Snapshot{}, err
	}
	err = s.single(at).Read(ctx, schemasTable, spanner.Key{pipeline}.AsPrefix(), schemaColumns).Do(func(row *spanner.Row) error {
		t, err := decodeTable(row)
		if err == nil {
			r.tables[t.Name] = &tableRow{table: t}
		}
		return err
	})
	if err != nil {
		return Snapshot{}, err
	}
	if err := readSnapshots(ctx, s.single(at), prefix.AsPrefix(), r); err != nil {
		return Snapshot{}, err
	}
	return r.snapshot(p), nil
}

// loadPartitions reads partitions with their progress into r.
func (s *Spanner) loadPartitions(ctx context.Context, at time.Time, prefix spanner.Key, tokens []string, r *rows) error {
	for chunk := range slices.Chunk(tokens, loadChunk) {
		var keys, ranges []spanner.KeySet
		for _, token := range chunk {
			key := append(slices.Clone(prefix), token)
			keys, ranges = append(keys, key), append(ranges, key.AsPrefix())
		}
		err := s.single(at).Read(ctx, partitionsTable, spanner.KeySets(keys...), partitionColumns).Do(func(row *spanner.Row) error {
			p, err := decodePartition(row)
			r.partitions[p.Token] = &partitionRow{Partition: p}
			return err
		})
		if err != nil {
			return err
		}
		err = s.single(at).Read(ctx, progressTable, spanner.KeySets(ranges...), progressColumns).Do(func(row *spanner.Row) error {
			p, err := decodeProgress(row)
			r.progress[progressKey{p.Token, p.Sink}] = &progressRow{through: p.Through, chains: p.Chains}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Segments implements Store. The list is that of one instant, read page by page; fn is called between the reads and may use
// the store. It must not take longer over all than the database keeps versions (an hour if not set otherwise).
func (s *Spanner) Segments(ctx context.Context, pipeline, sink string, fn func(change.Segment) error) error {
	var at time.Time
	var keys spanner.KeySet = spanner.Key{pipeline, sink}.AsPrefix()
	for {
		page, err := s.segmentPage(ctx, pipeline, keys, &at)
		if err != nil {
			return err
		}
		for _, segment := range page {
			if err := begin(ctx, "list segments of", pipeline); err != nil {
				return err
			}
			if err := fn(segment); err != nil {
				return err
			}
		}
		if len(page) < segmentPage {
			return nil
		}
		last := page[len(page)-1]
		keys = spanner.KeyRange{
			Start: spanner.Key{pipeline, sink, last.Chain.Incarnation, last.Chain.Token, last.Chain.Table, last.First.String()},
			End:   spanner.Key{pipeline, sink},
			Kind:  spanner.OpenClosed,
		}
	}
}

// segmentPage reads a page at *at, which it sets at the first.
func (s *Spanner) segmentPage(ctx context.Context, pipeline string, keys spanner.KeySet, at *time.Time) ([]change.Segment, error) {
	const op = "list segments of"
	if err := s.acquire(ctx, op, pipeline); err != nil {
		return nil, err
	}
	defer s.release()
	if at.IsZero() {
		strong := s.single(time.Time{})
		if _, err := readHead(ctx, strong, pipeline); err != nil {
			return nil, s.explain(ctx, op, pipeline, err)
		}
		t, err := strong.Timestamp()
		if err != nil {
			return nil, s.explain(ctx, op, pipeline, err)
		}
		*at = t
	}
	var page []change.Segment
	options := &spanner.ReadOptions{Limit: segmentPage}
	err := s.single(*at).ReadWithOptions(ctx, segmentsTable, keys, segmentColumns, options).Do(func(row *spanner.Row) error {
		segment, err := decodeSegment(row)
		segment.Chain.Pipeline = pipeline
		page = append(page, segment)
		return err
	})
	return page, s.explain(ctx, op, pipeline, err)
}
