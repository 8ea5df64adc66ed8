package changes

import (
	"time"
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
