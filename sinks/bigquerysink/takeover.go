package bigquerysink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/api/iterator"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

func (s *core) createStream(ctx context.Context, chain change.Chain) (string, error) {
	stream, err := s.writes.CreateWriteStream(ctx, &storagepb.CreateWriteStreamRequest{
		Parent:      s.tableName(TableID(s.config.TablePrefix, chain.Table)),
		WriteStream: &storagepb.WriteStream{Type: storagepb.WriteStream_COMMITTED},
	})
	if err != nil {
		if streamGone(err) {
			s.forget(chain.Table)
			return "", fmt.Errorf("bigquery sink %s: make a write stream for table %s: BigQuery does not show the table to its writers yet, or it was dropped: %w",
				s.name, chain.Table, err)
		}
		return "", s.fault("make a write stream for table "+chain.Table, err)
	}
	return stream.GetName(), nil
}

// takeOver makes the caller the chain's writer, and says where the chain ends. end is what the caller knew; stream is a
// stream made for the purpose, or "".
//
// First the chain's present stream is finalized, so nothing can be added by whoever has it. Then, and only then, the rows
// are looked at: their end is final. The claim then passes to the new stream, on the condition that it is still the one
// read at the beginning. If it is not, another writer has taken over meanwhile, and all is done again.
func (s *Appends) takeOver(ctx context.Context, chain change.Chain, end sinks.End, stream string) (place, change.Position, error) {
	for range takeovers {
		c, err := s.readClaim(ctx, chain)
		if err != nil {
			return place{}, end.Through, err
		}
		through, err := s.finalEnd(ctx, chain, end, c)
		if errors.Is(err, errClaimed) {
			continue
		}
		if err != nil {
			return place{}, end.Through, err
		}
		if stream == "" {
			if stream, err = s.createStream(ctx, chain); err != nil {
				return place{}, end.Through, err
			}
		}
		err = s.writeClaim(ctx, chain, c, stream, through)
		if err == nil {
			return place{Stream: stream}, through, nil
		}
		if !errors.Is(err, errClaimed) {
			return place{}, end.Through, err
		}
	}
	return place{}, end.Through, sinks.Retry(fmt.Errorf("bigquery sink %s: several writers contend for a chain of table %s (partition %.40s): "+
		"if that lasts, two workers believe they own it", s.name, chain.Table, chain.Token), time.Second)
}

// finalEnd finalizes the chain's stream and finds the position of its last row.
func (s *Appends) finalEnd(ctx context.Context, chain change.Chain, end sinks.End, c *claim) (change.Position, error) {
	// What is known of the stream: that it had offset rows when the chain ended at base.
	known, _ := placeOf(end)
	stream, base, offset, counted := known.Stream, end.Through, known.Offset, false
	switch {
	case c == nil: // dropped by hand or by age: only the table can tell
	case c.Stream == known.Stream:
		counted = true
	default: // a later writer's, or the state is lost
		stream, base, offset, counted = c.Stream, c.Base, 0, !c.Unknown
	}
	rows, gone := int64(0), true
	if stream != "" {
		var err error
		if rows, gone, err = s.finalize(ctx, stream); err != nil {
			return base, err
		}
	}
	counted = counted && !gone
	if counted && rows == offset {
		return later(base, end.Through), nil
	}
	found, err := s.lastRow(ctx, chain, base)
	if err != nil {
		return base, err
	}
	if counted {
		switch want := rows - offset; {
		case found.rows > want:
			return base, errClaimed // rows of a stream after this one: the claim we read is old
		case found.rows < want:
			return base, sinks.Retry(fmt.Errorf("bigquery sink %s: %d rows were appended to the table of %s behind %s, but a query sees only %d of them: "+
				"if that lasts, rows were deleted or have expired with their partition; drop the table %s to go on behind the last row there is",
				s.name, want, chain.Table, base, found.rows, claimID(s.config.TablePrefix, chain)), schemaRetry)
		}
	}
	// Rows may have expired since they were written; what a checkpoint or claim knew to be there was.
	return later(found.last, later(base, end.Through)), nil
}

func later(a, b change.Position) change.Position {
	if a.After(b) {
		return a
	}
	return b
}

// finalize closes a write stream for ever and says how many rows it has. A stream that is gone takes no rows either.
func (s *Appends) finalize(ctx context.Context, stream string) (rows int64, gone bool, err error) {
	answer, err := s.writes.FinalizeWriteStream(ctx, &storagepb.FinalizeWriteStreamRequest{Name: stream})
	switch {
	case err == nil:
		return answer.GetRowCount(), false, nil
	case streamGone(err):
		return 0, true, nil
	case storageCode(err) == storagepb.StorageError_STREAM_FINALIZED:
		return 0, true, nil // closed, and it does not say with how many rows
	}
	return 0, false, s.fault("finalize write stream "+stream, err)
}

// lastRow is what a query sees of a chain behind a position.
type lastRow struct {
	rows int64
	last change.Position
}

func (s *Appends) lastRow(ctx context.Context, chain change.Chain, base change.Position) (lastRow, error) {
	id := TableID(s.config.TablePrefix, chain.Table)
	// Every part is of a form that cannot end a literal: hex digits, a time, a position's text.
	where := "_chain = '" + chainID(chain) + "'"
	if !base.IsZero() {
		where += " AND _commit_timestamp >= TIMESTAMP '" + base.Commit.String() + "' AND _position > '" + base.String() + "'"
	}
	q := s.client.Query("SELECT COUNT(*) AS n, MAX(_position) AS last FROM `" + s.config.Project + "." + s.config.Dataset + "." + id + "` WHERE " + where)
	q.DisableQueryCache = true
	q.Labels = map[string]string{label: "end"}
	fail := func(err error) (lastRow, error) {
		return lastRow{}, s.fault("ask for the last row of a chain of table "+chain.Table, err)
	}
	it, err := q.Read(ctx)
	if err != nil {
		return fail(err)
	}
	var row struct {
		N    int64               `bigquery:"n"`
		Last bigquery.NullString `bigquery:"last"`
	}
	if err := it.Next(&row); err != nil {
		if errors.Is(err, iterator.Done) {
			err = errors.New("the query has no result")
		}
		return fail(err)
	}
	found := lastRow{rows: row.N}
	if row.Last.Valid {
		if found.last, err = change.ParsePosition(row.Last.StringVal); err != nil {
			return fail(err)
		}
	}
	return found, nil
}
