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
	r.unions.onVersion, r.clock.ask = opts.OnTable, r.Now
	if err := r.describe(ctx); err != nil {
		if closeErr := c.close(); closeErr != nil {
			opts.Logger.Warn("closing the connection to Spanner", "error", closeErr)
		}
		return nil, err
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
func (r *Reader) Close() error { return r.conns.close() }
