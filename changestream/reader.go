package changestream

import (
	"context"
	"sync"
	"time"

	"github.com/spanledger/spanledger/change"
)

// Reader reads one change stream. It is safe for concurrent use; one Reader serves all partitions of a pipeline and grows
// its connections with them.
type Reader struct {
	opts    Options
	source  source
	conns   *conns // nil when a test scripts the source
	unions  *unions
	dialect dialect
	// stream is the change stream's name in its own spelling.
	stream string
	info   Info
	clock  clock

	// life ends, with end, when the Reader is closed or nothing may be read any more.
	life context.Context
	end  context.CancelCauseFunc
	own  sync.WaitGroup // watchPlacements
	// looked is when the placements were looked for last, by Spanner's clock.
	looked change.Timestamp

	logMu    sync.Mutex
	lastLog  time.Time
	unlogged int
}

// New connects to the database, finds out its dialect and the stream's partition mode, and seeds the schema unions from
// Options.Tables and the database's schema. A database without the stream is an error that names the streams it has.
//
// When SPANNER_EMULATOR_HOST is set, New connects there, without transport security and authentication.
func New(ctx context.Context, opts Options) (*Reader, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	c := newConns(opts)
	r := &Reader{opts: opts, source: c, conns: c, unions: newUnions(opts.Tables, opts.Logger)}
	r.life, r.end = context.WithCancelCause(context.WithoutCancel(ctx))
	r.unions.onVersion, r.clock.ask = opts.OnTable, r.Now
	if err := r.describe(ctx); err != nil {
		r.end(errClosed)
		if closeErr := c.close(); closeErr != nil {
			opts.Logger.Warn("closing the connection to Spanner", "error", closeErr)
		}
		return nil, err
	}
	if r.info.PerPlacement {
		if len(r.info.Placements) > 1 {
			opts.Logger.Warn("the change stream has a read function for each placement: the changes of a row that moves to another placement "+
				"come in order only with the order commit", "stream", r.stream, "placements", r.info.Placements)
		}
		r.own.Go(r.watchPlacements)
	}
	return r, nil
}

// Info answers what New found out about the stream.
func (r *Reader) Info() Info { return r.info }

// Tables answers the newest version of every table's schema union, by name: what a later Reader takes in Options.Tables.
// The tables seen in changes so far and those seeded by New are in it.
func (r *Reader) Tables() []*change.Table { return r.unions.newest() }

// Table answers the version of a table's schema union that rows read in another way than by the stream belong to: the
// newest that has all these columns with their types and this key, made if there is none.
func (r *Reader) Table(name string, columns []change.Column) *change.Table {
	return r.unions.table(name, columns)
}

// Close ends the connections. Reads still running fail.
func (r *Reader) Close() error {
	r.end(errClosed)
	r.own.Wait()
	return r.conns.close()
}

// within is ctx, which ends as well when placements come that are not read.
func (r *Reader) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if !r.info.PerPlacement {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(r.life, func() { cancel(context.Cause(r.life)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}
