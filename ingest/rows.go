package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"cloud.google.com/go/spanner"
	"google.golang.org/protobuf/types/known/structpb"
)

// reader is the part of a transaction that reads.
type reader interface {
	Read(ctx context.Context, table string, keys spanner.KeySet, columns []string) *spanner.RowIterator
	ReadUsingIndex(ctx context.Context, table, index string, keys spanner.KeySet, columns []string) *spanner.RowIterator
	Query(ctx context.Context, statement spanner.Statement) *spanner.RowIterator
}

var idColumns = []string{"stream", "source", "id", "version"}

// readStored reads the events among the batches' that the table has already:
// their places by the index, then, only if there are any, their rows.
func readStored(ctx context.Context, txn reader, batches []Batch) (map[eventKey]storedEvent, error) {
	var ids []spanner.KeySet
	asked := make(map[eventKey]bool)
	for i := range batches {
		b := &batches[i]
		for j := range b.Events {
			key := eventKey{b.Stream, b.Events[j].Source, b.Events[j].ID}
			if !asked[key] {
				asked[key] = true
				ids = append(ids, spanner.Key{key.stream, key.source, key.id})
			}
		}
	}
	stored := make(map[eventKey]storedEvent)
	var places []spanner.KeySet
	err := txn.ReadUsingIndex(ctx, Table, IDIndex, spanner.KeySets(ids...), idColumns).Do(func(row *spanner.Row) error {
		var key eventKey
		var version int64
		if err := row.Columns(&key.stream, &key.source, &key.id, &version); err != nil {
			return err
		}
		places = append(places, spanner.Key{key.stream, version})
		return nil
	})
	if err != nil || len(places) == 0 {
		return stored, err
	}
	err = txn.Read(ctx, Table, spanner.KeySets(places...), columns).Do(func(row *spanner.Row) error {
		r, err := decodeRow(row)
		if err != nil {
			return err
		}
		stored[eventKey{r.Stream, r.Source, r.ID}] = storedEvent{version: r.Version, committedAt: r.CommittedAt, event: r.Event}
		return nil
	})
	return stored, err
}

// readHeads returns the last version of each stream of the batches; 0 for those
// without events.
//
// A scan for MAX(version) touches the whole stream, so it is only for streams
// never seen: from a known version on, reading the few rows after it is enough,
// because versions have no gaps.
func (s *Store) readHeads(ctx context.Context, txn reader, batches []Batch) (map[string]int64, error) {
	ends := make(map[string]int64, len(batches))
	hints := make(map[string]int64)
	var ranges []spanner.KeySet
	var unknown []string
	for i := range batches {
		stream := batches[i].Stream
		if _, ok := ends[stream]; ok {
			continue
		}
		ends[stream] = 0
		hint := max(s.heads.hint(stream), int64(batches[i].Expected))
		if hint <= 0 {
			unknown = append(unknown, stream)
			continue
		}
		hints[stream] = hint
		ranges = append(ranges, spanner.KeyRange{
			Start: spanner.Key{stream, hint}, End: spanner.Key{stream}, Kind: spanner.ClosedClosed,
		})
	}
	if len(ranges) > 0 {
		found := make(map[string]bool)
		err := txn.Read(ctx, Table, spanner.KeySets(ranges...), []string{"stream", "version"}).Do(func(row *spanner.Row) error {
			var stream string
			var version int64
			if err := row.Columns(&stream, &version); err != nil {
				return err
			}
			found[stream] = found[stream] || version == hints[stream]
			ends[stream] = max(ends[stream], version)
			return nil
		})
		if err != nil {
			return nil, err
		}
		for stream := range hints {
			if !found[stream] { // a wrong guess, or a stream deleted whole
				s.heads.forget(stream)
				ends[stream] = 0
				unknown = append(unknown, stream)
			}
		}
	}
	if len(unknown) == 0 {
		return ends, nil
	}
	err := txn.Query(ctx, spanner.Statement{
		SQL:    "SELECT stream, MAX(version) AS version FROM events WHERE stream IN UNNEST(@streams) GROUP BY stream",
		Params: map[string]any{"streams": unknown},
	}).Do(func(row *spanner.Row) error {
		var stream string
		var version int64
		if err := row.Columns(&stream, &version); err != nil {
			return err
		}
		ends[stream] = version
		return nil
	})
	return ends, err
}

// decodeRow decodes a row of all columns. JSON is taken as the text Spanner
// sent: decoding it to Go values would lose digits of large integers.
func decodeRow(row *spanner.Row) (Recorded, error) {
	var (
		r                            Recorded
		subject, contentType, schema spanner.NullString
		when                         spanner.NullTime
		data, metadata               spanner.GenericColumnValue
	)
	err := row.Columns(&r.Stream, &r.Version, &r.ID, &r.Source, &r.Type, &subject, &when,
		&contentType, &schema, &data, &r.DataBytes, &metadata, &r.CommittedAt)
	if err != nil {
		return Recorded{}, fmt.Errorf("decode a row of table %s: %w", Table, err)
	}
	r.Subject, r.ContentType, r.Schema = subject.StringVal, contentType.StringVal, schema.StringVal
	if when.Valid {
		r.Time = when.Time.UTC()
	} else {
		r.Time = time.Time{}
	}
	r.CommittedAt = r.CommittedAt.UTC()
	r.Data, r.Metadata = jsonText(data), jsonText(metadata)
	return r, nil
}

func jsonText(v spanner.GenericColumnValue) json.RawMessage {
	if text, ok := v.Value.GetKind().(*structpb.Value_StringValue); ok {
		return json.RawMessage(text.StringValue)
	}
	return nil
}
