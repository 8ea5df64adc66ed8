package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cloud.google.com/go/spanner"
	"cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
)

// Stream is what the package asks of a stream's reader, which a *changestream.Reader is.
type Stream interface {
	Watched(ctx context.Context) ([]changestream.WatchedTable, error)
	Table(name string, columns []change.Column) *change.Table
}

// Range is the rows of a chunk. Keys are canonical (see Reader.Bounds); "" is no bound.
type Range struct {
	Table string
	// From is the first key, and To the key behind the last; either may be of fewer columns than the primary key.
	From, To string
	// After is a whole key behind which the chunk begins, in place of From; Through one that it does not pass, in place of To.
	After, Through string
	// At is the timestamp to read at; 0 reads at the present, later than Floor.
	At, Floor change.Timestamp
	// MaxRows and MaxBytes bound the chunk where it is read at the present, MaxBytes by one row more or less.
	MaxRows, MaxBytes int
}

// Chunk is what was read.
type Chunk struct {
	// At is the timestamp: every change committed at or below it is in the rows, none above is.
	At change.Timestamp
	// Rows are in key order, as inserts at the position (At, table, key). Their memory is the chunk's.
	Rows []change.Change
	// Keys are the rows' keys, canonical.
	Keys []string
	// More says that the range has rows behind the last.
	More bool
	// Bytes is the memory that the rows hold.
	Bytes int
}

// ErrExpired is wrapped by the error of a reading at a timestamp whose versions the database does not keep any more, or
// under a schema that it does not have any more: the chunk must be read at the present.
var ErrExpired = errors.New("the database does not keep the versions of that time any more")

// Reader reads tables. It is safe for concurrent use, and keeps no transaction open.
type Reader struct {
	client *spanner.Client
	stream Stream
	tag    string
}

// New makes a reader on a client of the stream's database that nothing else uses: Google's emulator serves one transaction of
// a client at a time. The client stays the caller's. tag is the request tag, "" for none.
func New(client *spanner.Client, stream Stream, tag string) *Reader {
	return &Reader{client: client, stream: stream, tag: tag}
}

// Tables lists the tables that the stream watches, by name.
func (r *Reader) Tables(ctx context.Context) ([]string, error) {
	watched, err := r.stream.Watched(ctx)
	var list []string
	for _, t := range watched {
		list = append(list, t.Name)
	}
	return list, err
}

// NotWatchedError says that the stream does not watch a table, or that there is none of the name.
type NotWatchedError struct {
	Table string
	// Watched are those it watches.
	Watched []string
}

// Error names the tables there are.
func (e *NotWatchedError) Error() string {
	have := "it watches no table"
	if len(e.Watched) > 0 {
		have = "it watches " + strings.Join(e.Watched, ", ")
	}
	return fmt.Sprintf("the change stream does not watch a table %s: %s", e.Table, have)
}

func (r *Reader) table(ctx context.Context, name string) (changestream.WatchedTable, error) {
	watched, err := r.stream.Watched(ctx)
	if err != nil {
		return changestream.WatchedTable{}, err
	}
	var have []string
	for _, t := range watched {
		if t.Name == name {
			return t, nil
		}
		have = append(have, t.Name)
	}
	return changestream.WatchedTable{}, &NotWatchedError{name, have}
}

// Bounds checks the bounds of a range as people write them: a JSON array with the values of the first columns of the primary
// key, or the bare value of its first column; "" for none. It answers their canonical form. A table that the stream does not
// watch is a *NotWatchedError.
func (r *Reader) Bounds(ctx context.Context, table, from, to string) (canonicalFrom, canonicalTo string, err error) {
	t, err := r.table(ctx, table)
	if err != nil {
		return "", "", err
	}
	key := make([]change.Column, len(t.PrimaryKey))
	for i, at := range t.PrimaryKey {
		key[i] = t.Columns[at]
	}
	if canonicalFrom, err = parseKey(from, key); err != nil {
		return "", "", fmt.Errorf("table %s: from: %w", table, err)
	}
	if canonicalTo, err = parseKey(to, key); err != nil {
		return "", "", fmt.Errorf("table %s: to: %w", table, err)
	}
	return canonicalFrom, canonicalTo, nil
}

// Count counts a table's rows, a moment ago. It reads the whole table: bound it by ctx, and do without it where that ends.
func (r *Reader) Count(ctx context.Context, table string) (n int64, err error) {
	quote := "`"
	if info, ok := r.stream.(interface{ Info() changestream.Info }); ok && info.Info().Dialect == "PostgreSQL" {
		quote = `"`
	}
	name := quote + strings.ReplaceAll(table, ".", quote+"."+quote) + quote
	err = r.client.Single().QueryWithOptions(ctx, spanner.NewStatement("SELECT COUNT(*) FROM "+name),
		spanner.QueryOptions{Priority: spannerpb.RequestOptions_PRIORITY_LOW, RequestTag: r.tag}).
		Do(func(row *spanner.Row) error { return row.Column(0, &n) })
	return n, err
}

// errFull ends a reading that has enough.
var errFull = errors.New("the chunk is full")

// Read reads a chunk. At the present that is what comes first in the range, within the bounds; at a given timestamp it is
// the whole range, which then must be that of an earlier chunk.
func (r *Reader) Read(ctx context.Context, q Range) (*Chunk, error) {
	if q.At != 0 {
		q.MaxRows, q.MaxBytes = 0, 0
	}
	chunk, err := r.read(ctx, q)
	if err == nil && q.At == 0 && chunk.At <= q.Floor {
		// A strong read sees all that was committed before it began, but may call that by an earlier time than one that a
		// change stream has promised since. Nothing was committed in between that was seen, so reading a little later is right.
		later := q
		later.At = q.Floor + 1
		if chunk, err = r.read(ctx, later); err == nil {
			chunk.At = later.At
		}
	}
	if err != nil {
		if q.At != 0 && isPast(spanner.ErrCode(err)) {
			err = fmt.Errorf("%w: %w", ErrExpired, err)
		}
		return nil, fmt.Errorf("read rows of table %s: %w", q.Table, err)
	}
	return chunk, nil
}

// isPast reports whether an answer to a read at an earlier time says that it cannot be answered any more: its versions are gone,
// or a column of now was not there then.
func isPast(c codes.Code) bool {
	return c == codes.FailedPrecondition || c == codes.NotFound || c == codes.InvalidArgument || c == codes.OutOfRange
}

func (r *Reader) read(ctx context.Context, q Range) (*Chunk, error) {
	t, err := r.table(ctx, q.Table)
	if err != nil {
		return nil, err
	}
	keys, err := q.keys()
	if err != nil {
		return nil, err
	}
	limit := 0
	if q.MaxRows > 0 {
		limit = q.MaxRows + 1
	}
	columns := make([]string, len(t.Columns))
	for i := range t.Columns {
		columns[i] = t.Columns[i].Name
	}
	txn := r.client.Single()
	if q.At != 0 {
		txn = txn.WithTimestampBound(spanner.ReadTimestamp(q.At.Time()))
	}
	b := builder{reader: r, table: t, chunk: &Chunk{At: q.At}}
	err = txn.ReadWithOptions(ctx, q.Table, keys, columns, &spanner.ReadOptions{
		Limit: limit, Priority: spannerpb.RequestOptions_PRIORITY_LOW, RequestTag: r.tag,
	}).Do(func(row *spanner.Row) error {
		if q.MaxRows > 0 && len(b.chunk.Rows) >= q.MaxRows || q.MaxBytes > 0 && b.chunk.Bytes >= q.MaxBytes {
			b.chunk.More = true
			return errFull
		}
		return b.add(row)
	})
	if err != nil && !errors.Is(err, errFull) {
		return nil, err
	}
	if q.At == 0 {
		at, err := txn.Timestamp()
		if err != nil {
			return nil, fmt.Errorf("the read does not tell its timestamp: %w", err)
		}
		b.chunk.At = change.TimestampOf(at) // commits are at whole microseconds: none lies between the two
	}
	for i := range b.chunk.Rows {
		b.chunk.Rows[i].Position = change.SnapshotPosition(b.chunk.At, q.Table, b.chunk.Keys[i])
	}
	return b.chunk, nil
}

// keys is the range as Spanner's client takes it.
func (q *Range) keys() (spanner.KeySet, error) {
	start, end := q.From, q.To
	kind := spanner.ClosedOpen
	if q.After != "" {
		start, kind = q.After, spanner.OpenOpen
	}
	if q.Through != "" {
		end = q.Through
		if kind == spanner.OpenOpen {
			kind = spanner.OpenClosed
		} else {
			kind = spanner.ClosedClosed
		}
	}
	if start == "" && end == "" {
		return spanner.AllKeys(), nil
	}
	from, err := spannerKey(start)
	if err != nil {
		return nil, err
	}
	to, err := spannerKey(end)
	if err != nil {
		return nil, err
	}
	// The empty key is the prefix of all: as a bound it must be closed, or it would exclude everything.
	if len(from) == 0 {
		kind = map[spanner.KeyRangeKind]spanner.KeyRangeKind{spanner.ClosedOpen: spanner.ClosedOpen, spanner.ClosedClosed: spanner.ClosedClosed}[kind]
	}
	if len(to) == 0 {
		switch kind {
		case spanner.ClosedOpen:
			kind = spanner.ClosedClosed
		case spanner.OpenOpen:
			kind = spanner.OpenClosed
		}
	}
	return spanner.KeyRange{Start: from, End: to, Kind: kind}, nil
}

// builder makes changes of rows.
type builder struct {
	reader *Reader
	table  changestream.WatchedTable
	chunk  *Chunk

	union *change.Table
	types []*change.Type
	// at is each column's place in the union, or in the key where inKey says so.
	at    []int
	inKey []bool
	width int
}

// begin learns the columns from the first row: a result knows types that this version cannot read in the schema.
func (b *builder) begin(row *spanner.Row) {
	columns := slices.Clone(b.table.Columns)
	for i := range columns {
		columns[i].Type = typeOf(row.ColumnType(i))
		b.types = append(b.types, columns[i].Type)
	}
	b.union = b.reader.stream.Table(b.table.Name, columns)
	for _, c := range columns {
		at := b.union.Index(c.Name)
		if c.Key {
			at = slices.Index(b.union.Keys(), at)
		} else {
			b.width = max(b.width, at+1)
		}
		b.at, b.inKey = append(b.at, at), append(b.inKey, c.Key)
	}
}

func (b *builder) add(row *spanner.Row) error {
	if b.union == nil {
		b.begin(row)
	}
	c := change.Change{Table: b.union, Op: change.Insert, Capture: change.NewRow, Key: make([]change.Value, len(b.union.Keys())), After: make(change.Row, b.width)}
	var text []byte
	ends := make([]int, row.Size())
	for i := range ends {
		var err error
		if text, err = appendValue(text, b.types[i], row.ColumnValue(i)); err != nil {
			return fmt.Errorf("column %s: %w", row.ColumnName(i), err)
		}
		ends[i] = len(text)
	}
	values := make([]change.Value, len(ends))
	start := 0
	for i, end := range ends {
		values[i] = text[start:end:end]
		if start = end; b.inKey[i] {
			c.Key[b.at[i]] = values[i]
		} else {
			c.After[b.at[i]] = values[i]
		}
	}
	key := []byte{'['}
	for i, at := range b.table.PrimaryKey {
		if i > 0 {
			key = append(key, ',')
		}
		key = append(key, values[at]...)
	}
	b.chunk.Keys = append(b.chunk.Keys, string(append(key, ']')))
	b.chunk.Rows = append(b.chunk.Rows, c)
	b.chunk.Bytes += c.Size() + len(key)
	return nil
}
