package changes

import (
	"context"
	"errors"
	"time"

	"cloud.google.com/go/spanner/apiv1/spannerpb"
	"github.com/spanledger/spanledger/emulator/spanner/store"
)

type stream struct{ created int64 }
type options struct{ retention time.Duration }
type dataRecord struct{}

var errSkeleton = errors.New("changes: not written yet")

func (l *Log) startChurn()                                    {}
func parseOptions(*store.ChangeStream) (o options, err error) { return }
func (d *dataRecord) encoded() []byte                         { return nil }

// Query runs q.
func (l *Log) Query(ctx context.Context, q Query, send func(Record) error) error { return errSkeleton }

// Split ends the partition.
func (l *Log) Split(stream, token string, n int, cuts []Point, at int64) (Redraw, error) {
	return Redraw{}, errSkeleton
}

// Merge ends the partitions.
func (l *Log) Merge(stream string, tokens []string, at int64) (Redraw, error) {
	return Redraw{}, errSkeleton
}

// Move moves.
func (l *Log) Move(stream, token string, at int64) (Redraw, error) { return Redraw{}, errSkeleton }

// Reassign moves ranges.
func (l *Log) Reassign(stream string, shifts []Shift, at int64) (Redraw, error) {
	return Redraw{}, errSkeleton
}

// RowType is the type of the read function's result.
func (l *Log) RowType(stream string) (*spannerpb.StructType, error) { return nil, errSkeleton }

// CheckOptions validates.
func CheckOptions(def *store.ChangeStream) error { return nil }

func (s *stream) drop()                                            {}
func (s *stream) redefine(*store.ChangeStream, options)            {}
func (s *stream) expire(int64)                                     {}
func (s *stream) observe(*store.Commit)                            {}
func newStream(*Log, *store.ChangeStream, options, uint64) *stream { return &stream{} }
