package changes

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Bounds of the read function's arguments.
const (
	// MinHeartbeat and MaxHeartbeat bound heartbeat_milliseconds. The documentation's lower bound is 1,000, but clients
	// in wide use ask for 100 and production answers them.
	MinHeartbeat = 100 * time.Millisecond
	MaxHeartbeat = 300 * time.Second
	// MaxFutureStart is how far ahead of now a query may start.
	MaxFutureStart = 10 * time.Minute
	// MaxMutableWindow is how far ahead of the later of now and its start a query of a stream with mutable key ranges may
	// end.
	MaxMutableWindow = 30 * time.Minute
	// MaxReaders is how many queries may read one partition at a time.
	MaxReaders = 20
)

// Query is one call of a stream's read function. A nil pointer is SQL NULL.
type Query struct {
	// Stream is the change stream's name, exactly as in DDL.
	Stream string
	// Start and End are start_timestamp and end_timestamp, both inclusive.
	Start, End *time.Time
	// Token is partition_token; nil makes this the initial query.
	Token *string
	// HeartbeatMillis is heartbeat_milliseconds.
	HeartbeatMillis *int64
	// ReadOptions says that read_options is not NULL, which is refused.
	ReadOptions bool
	// Resume is empty, or the Resume of a Record of an earlier query with the same other fields: the query then goes on
	// exactly after that record.
	Resume string
}

// Query runs one call of the read function and hands every row to send, in order, from this goroutine. It returns nil
// when the result is complete, send's error as it is, the context's as a status, and otherwise a gRPC status:
//
//	INVALID_ARGUMENT   a required argument is NULL, end before start, or a foreign token or resume position
//	OUT_OF_RANGE       start, end or heartbeat out of bounds, start outside the partition's life, or records expired
//	NOT_FOUND          no such stream, or it was dropped while the query ran
//	UNIMPLEMENTED      read_options given
//	RESOURCE_EXHAUSTED the partition has MaxReaders readers
//	UNAVAILABLE        the Log was closed
//
// Only an error about start and one partition's life begins with "Specified start_timestamp is invalid": readers take it
// to mean that they are past this partition.
func (l *Log) Query(ctx context.Context, q Query, send func(Record) error) error {
	pos, err := parsePosition(q.Resume)
	if err != nil {
		return err
	}
	l.mu.Lock()
	s, err := l.stream(q.Stream)
	if err == nil {
		// A clock that has gone back makes no start too early that was right before.
		now := time.UnixMicro(max(l.clock.Now().UnixMicro(), l.last))
		err = s.validate(q, now, q.Resume != "")
	}
	if err != nil {
		l.mu.Unlock()
		return err
	}
	r := &reader{ctx: ctx, log: l, stream: s, form: s.form(), query: q, send: send, pos: pos}
	r.start = ceilMicros(*q.Start)
	r.end = never
	if q.End != nil {
		r.end = q.End.UnixMicro()
	}
	r.heartbeat = time.Duration(*q.HeartbeatMillis) * time.Millisecond
	if q.Token == nil {
		l.mu.Unlock()
		return r.initial()
	}
	p, err := s.partition(*q.Token)
	if err == nil {
		err = r.open(p)
	}
	l.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() {
		l.mu.Lock()
		p.readers--
		l.mu.Unlock()
	}()
	return r.partition()
}

// validate checks the arguments but the token, in the order production does. A resumed query is not held to the start's
// retention: its position is newer.
func (s *stream) validate(q Query, now time.Time, resumed bool) error {
	if q.Start == nil {
		return status.Error(codes.InvalidArgument, "start_timestamp must not be NULL in a change stream query")
	}
	if earliest := micros(s.earliest(now.UnixMicro())); !resumed && q.Start.Before(earliest) {
		return status.Errorf(codes.OutOfRange, "start_timestamp %s is too far in the past: the earliest that change stream %s can be read at is %s", stamp(*q.Start), s.name, stamp(earliest))
	}
	if latest := now.Add(MaxFutureStart); q.Start.After(latest) {
		return status.Errorf(codes.OutOfRange, "start_timestamp %s is too far in the future: it must lie between %s and %s", stamp(*q.Start), stamp(micros(s.earliest(now.UnixMicro()))), stamp(latest))
	}
	if q.End != nil && q.End.Before(*q.Start) {
		return status.Errorf(codes.InvalidArgument, "start_timestamp %s must not be after end_timestamp %s", stamp(*q.Start), stamp(*q.End))
	}
	if s.mutable {
		if q.End == nil {
			return status.Errorf(codes.InvalidArgument, "end_timestamp must not be NULL for change stream %s, which has mutable key ranges", s.name)
		}
		latest := now
		if q.Start.After(now) {
			latest = *q.Start
		}
		latest = latest.Add(MaxMutableWindow)
		// A resumed query was within bounds when it began, and now has only come nearer.
		if q.End.After(latest) {
			return status.Errorf(codes.OutOfRange, "end_timestamp %s is too far in the future: for a change stream with mutable key ranges it must not be after %s", stamp(*q.End), stamp(latest))
		}
	}
	if q.HeartbeatMillis == nil {
		return status.Error(codes.InvalidArgument, "heartbeat_milliseconds must not be NULL in a change stream query")
	}
	if hb := *q.HeartbeatMillis; hb < MinHeartbeat.Milliseconds() || hb > MaxHeartbeat.Milliseconds() {
		return status.Errorf(codes.OutOfRange, "heartbeat_milliseconds must be between %d and %d, got %d", MinHeartbeat.Milliseconds(), MaxHeartbeat.Milliseconds(), hb)
	}
	if q.ReadOptions {
		return status.Error(codes.Unimplemented, "read_options must be NULL in a change stream query")
	}
	return nil
}

// ceilMicros is the first microsecond at or after t: commit timestamps have no finer digits.
func ceilMicros(t time.Time) int64 {
	us := t.UnixMicro()
	if t.Nanosecond()%1000 != 0 {
		us++
	}
	return us
}
