package state

import (
	"context"
	"errors"
	"time"

	"cloud.google.com/go/spanner"
)

// SpannerOptions tunes a Spanner store. The zero value is good.
type SpannerOptions struct {
	// Parallel is how many transactions and reads may run at once; 0 means 1. One is enough for an engine that commits many
	// partitions at a time, and all that Google's emulator allows a client (its sessions hold one transaction).
	Parallel int
	// MaxMutations bounds the mutations, counted as Spanner does by cells, of one transaction; 0 means 60,000. Spanner
	// refuses more than 80,000; the rest is room for index entries that it counts in its own way.
	MaxMutations int
	// MaxBytes bounds the bytes written by one transaction; 0 means 32 MiB. Spanner refuses more than 100 MiB.
	MaxBytes int
}

// Spanner is a Store in the tables that DDL makes, in a GoogleSQL database that need not be the one that is read. Workers
// share nothing else.
//
// Fencing costs one row: every commit reads the pipeline's row, in its own transaction, and compares its lease with the
// claim there; a claim writes that row, so it aborts or follows every commit under way, and it costs the same with ten
// thousand partitions as with one. A partition's own owner and epoch, which a commit reads as well, count where they are
// above the claim: that is how a single partition is handed over once several workers share a pipeline.
//
// On a client that other code uses too, Google's emulator mixes up transactions: give the store its own.
type Spanner struct {
	client       *spanner.Client
	slots        chan struct{}
	maxMutations int
	maxBytes     int
}

var _ Store = (*Spanner)(nil)

// NewSpanner makes a store on client's database. It does not connect: the first call reports what is wrong with the
// database. The client stays the caller's, who closes it after the last call.
func NewSpanner(client *spanner.Client, opts SpannerOptions) *Spanner {
	s := &Spanner{client: client, maxMutations: opts.MaxMutations, maxBytes: opts.MaxBytes}
	s.slots = make(chan struct{}, max(opts.Parallel, 1))
	if s.maxMutations <= 0 {
		s.maxMutations = 60_000
	}
	if s.maxBytes <= 0 {
		s.maxBytes = 32 << 20
	}
	return s
}

// Open implements Store.
func (s *Spanner) Open(ctx context.Context, c Config) (Pipeline, error) {
	if err := c.check(); err != nil {
		return Pipeline{}, err
	}
	var p Pipeline
	err := s.transact(ctx, "open", c.Pipeline, func(ctx context.Context, txn *spanner.ReadWriteTransaction) error {
		row, err := txn.ReadRow(ctx, pipelinesTable, spanner.Key{c.Pipeline}, headColumns)
		if errors.Is(err, spanner.ErrRowNotFound) {
			p = Pipeline{Config: c, Incarnation: 1, Created: true}
			return txn.BufferWrite([]*spanner.Mutation{
				spanner.InsertMap(pipelinesTable, map[string]any{
					"pipeline": c.Pipeline, "incarnation": 1, "epoch": 0, "claim_worker": "", "claim_epoch": 0,
					"created_at": spanner.CommitTimestamp,
				}),
				spanner.InsertMap(incarnationsTable, map[string]any{
					"pipeline": c.Pipeline, "incarnation": 1, "source_database": c.Database, "stream": c.Stream, "identity": c.Identity,
					"config_digest": c.Digest, "start_time": c.Start.Time(), "start_snapshot": c.Snapshot, "reason": "first", "opened_at": spanner.CommitTimestamp,
				}),
			})
		}
		if err != nil {
			return err
		}
		h, err := decodeHead(row)
		if err != nil {
			return err
		}
		p, err = readIncarnation(ctx, txn, c.Pipeline, h)
		if err != nil {
			return err
		}
		return match(p.Config, c)
	})
	if err != nil {
		return Pipeline{}, err
	}
	return p, nil
}

// Claim implements Store.
func (s *Spanner) Claim(ctx context.Context, pipeline, worker string) (Lease, error) {
	if err := checkWorker(worker); err != nil {
		return Lease{}, err
	}
	var lease Lease
	err := s.transact(ctx, "claim", pipeline, func(ctx context.Context, txn *spanner.ReadWriteTransaction) error {
		r := newRows()
		var err error
		if r.head, err = readHead(ctx, txn, pipeline); err != nil {
			return err
		}
		r.claim(worker)
		lease = Lease{Pipeline: pipeline, Incarnation: r.head.incarnation, Worker: worker, Epoch: r.head.claimEpoch}
		mutations := []*spanner.Mutation{
			spanner.UpdateMap(pipelinesTable, map[string]any{
				"pipeline": pipeline, "epoch": r.head.epoch, "claim_worker": worker, "claim_epoch": r.head.claimEpoch,
			}),
			spanner.InsertOrUpdateMap(workersTable, map[string]any{
				"pipeline": pipeline, "worker": worker, "epoch": lease.Epoch,
				"started_at": spanner.CommitTimestamp, "renewed_at": spanner.CommitTimestamp,
			}),
		}
		// The workers before own nothing any more; without this, names made up at each start would pile up.
		err = txn.Read(ctx, workersTable, spanner.Key{pipeline}.AsPrefix(), []string{"worker"}).Do(func(row *spanner.Row) error {
			var other string
			if err := row.Columns(&other); err != nil {
				return err
			}
			if other != worker {
				mutations = append(mutations, spanner.Delete(workersTable, spanner.Key{pipeline, other}))
			}
			return nil
		})
		if err != nil {
			return err
		}
		return txn.BufferWrite(mutations)
	})
	if err != nil {
		return Lease{}, err
	}
	return lease, nil
}

// reader is what both kinds of transaction can do.
type reader interface {
	ReadRow(ctx context.Context, table string, key spanner.Key, columns []string) (*spanner.Row, error)
	Read(ctx context.Context, table string, keys spanner.KeySet, columns []string) *spanner.RowIterator
}

func readHead(ctx context.Context, txn reader, pipeline string) (head, error) {
	row, err := txn.ReadRow(ctx, pipelinesTable, spanner.Key{pipeline}, headColumns)
	if errors.Is(err, spanner.ErrRowNotFound) {
		return head{}, unknownPipeline(pipeline)
	}
	if err != nil {
		return head{}, err
	}
	return decodeHead(row)
}

func readIncarnation(ctx context.Context, txn reader, pipeline string, h head) (Pipeline, error) {
	row, err := txn.ReadRow(ctx, incarnationsTable, spanner.Key{pipeline, h.incarnation}, incarnationColumns)
	if err != nil {
		return Pipeline{}, err
	}
	c, err := decodeIncarnation(row)
	c.Pipeline = pipeline
	return Pipeline{Config: c, Incarnation: h.incarnation}, err
}

// transact runs fn in a read-write transaction, again when it is aborted.
func (s *Spanner) transact(ctx context.Context, op, pipeline string, fn func(context.Context, *spanner.ReadWriteTransaction) error) error {
	if err := s.acquire(ctx, op, pipeline); err != nil {
		return err
	}
	defer s.release()
	_, err := s.client.ReadWriteTransactionWithOptions(ctx, fn, spanner.TransactionOptions{TransactionTag: "spanledger-" + op})
	return s.explain(ctx, op, pipeline, err)
}

func (s *Spanner) acquire(ctx context.Context, op, pipeline string) error {
	if err := begin(ctx, op, pipeline); err != nil {
		return err
	}
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return begin(ctx, op, pipeline)
	}
}

func (s *Spanner) release() { <-s.slots }

// single is a read of its own at one instant, or a strong one where at is zero. Reads of one snapshot are made of these, not
// of one read-only transaction, which Google's emulator ends as soon as the session begins another.
func (s *Spanner) single(at time.Time) *spanner.ReadOnlyTransaction {
	if at.IsZero() {
		return s.client.Single()
	}
	return s.client.Single().WithTimestampBound(spanner.ReadTimestamp(at))
}
