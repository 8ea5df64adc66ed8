package ingest

import (
	"context"
	"fmt"

	"cloud.google.com/go/spanner"
)

// readPage is how many events are held at once while a stream is read.
const readPage = 500

// Read calls fn with the events of a stream in order, from fromVersion (values
// below 1 mean 1) to the end the stream has then. A stream without events is no
// error. An error of fn ends the reading and is returned as it is. Events are
// read in pages of one strong read each, so fn may take its time and may append;
// what is appended meanwhile is seen.
func (s *Store) Read(ctx context.Context, stream string, fromVersion int64, fn func(Recorded) error) error {
	next := max(fromVersion, 1)
	for {
		page, err := s.readPage(ctx, stream, next)
		if err != nil {
			return s.explain(ctx, fmt.Sprintf("read stream %q from version %d", stream, next), err)
		}
		for _, event := range page {
			if err := fn(event); err != nil {
				return err
			}
			next = event.Version + 1
		}
		if len(page) < readPage {
			return nil
		}
	}
}

func (s *Store) readPage(ctx context.Context, stream string, from int64) ([]Recorded, error) {
	release, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	keys := spanner.KeyRange{Start: spanner.Key{stream, from}, End: spanner.Key{stream}, Kind: spanner.ClosedClosed}
	var page []Recorded
	err = s.client.Single().ReadWithOptions(ctx, Table, keys, columns, &spanner.ReadOptions{Limit: readPage}).
		Do(func(row *spanner.Row) error {
			r, err := decodeRow(row)
			if err == nil {
				page = append(page, r)
			}
			return err
		})
	return page, err
}
