package changestream

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"google.golang.org/api/option"

	"github.com/spanledger/spanledger/change"
)

// Options configure a Reader. Database and Stream are required, everything else has a default.
type Options struct {
	// Database is the database's full name: projects/P/instances/I/databases/D.
	Database string
	// Stream is the change stream's name, in its own spelling.
	Stream string
	// Heartbeat is how often an idle partition reports its progress: 100 ms to 5 min, 1 s by default. A change at T is
	// handed over once something later than T has come, so the heartbeat also bounds the delay of the last change before
	// a pause. Each heartbeat is a row per partition.
	Heartbeat time.Duration
	// Window is how much time one query of a stream with mutable key ranges covers, whose queries must have an end: 20 min by
	// default, at most 30. The next one goes on where the one before ended.
	Window time.Duration
	// End is the last commit timestamp to read, inclusive; 0 reads on for ever.
	End change.Timestamp
	// Tables are the schema unions stored by an earlier run, oldest version first where a table has several.
	Tables []*change.Table
	// ClientOptions are passed to every connection. With option.WithGRPCConn all partitions share that connection and its
	// limit of concurrent streams.
	ClientOptions []option.ClientOption
	// StreamsPerConnection is how many partitions one connection carries before another is opened: 90 by default, below
	// the 100 concurrent streams Spanner allows, past which queries wait without an error.
	StreamsPerConnection int
	// RequestTag marks the queries in Spanner's statistics; "" for none.
	RequestTag string
	// DatabaseRole is the fine-grained access role of the session; "" for none.
	DatabaseRole string
	// MaxFrameBytes is about how much a Frame holds at most: 1 MiB by default. A commit timestamp is never torn, so a
	// frame may be larger by one timestamp's changes.
	MaxFrameBytes int
	// MaxTimestampBytes is how much the changes of one partition at one commit timestamp may take in memory: 256 MiB by
	// default. More is a TooLargeError.
	MaxTimestampBytes int
	// PassUnknown carries on at operations, capture types and record kinds this version has no name for: the changes are
	// handed over with UnknownOp or UnknownCapture, the records are logged and skipped. The default is to stop.
	PassUnknown bool
	// OnRetry is called before each wait that precedes a new attempt: attempt counts from 1 since the last progress. It
	// may be called concurrently and must not block.
	OnRetry func(token string, attempt int, err error)
	// Logger receives retries, at a bounded rate, and schema changes; slog.Default() if nil.
	Logger *slog.Logger
}

const (
	defaultHeartbeat         = time.Second
	minHeartbeat             = 100 * time.Millisecond
	maxHeartbeat             = 5 * time.Minute
	defaultWindow            = 20 * time.Minute
	minWindow                = 10 * time.Millisecond
	maxWindow                = 30 * time.Minute
	defaultStreamsPerConn    = 90
	defaultMaxFrameBytes     = 1 << 20
	defaultMaxTimestampBytes = 256 << 20
)

var (
	databasePattern = regexp.MustCompile(`^projects/[^/]+/instances/[^/]+/databases/[^/]+$`)
	// streamPattern keeps the name safe inside the query's text, where it cannot be a parameter.
	streamPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
)

// withDefaults checks o and fills in what is not set.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("changestream: "+format, args...)) }
	if !databasePattern.MatchString(o.Database) {
		bad("database %q: want projects/PROJECT/instances/INSTANCE/databases/DATABASE", o.Database)
	}
	if !streamPattern.MatchString(o.Stream) {
		bad("change stream %q: want the name of a change stream, letters, digits and underscores", o.Stream)
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = defaultHeartbeat
	}
	if o.Heartbeat < minHeartbeat || o.Heartbeat > maxHeartbeat {
		bad("heartbeat %v: Spanner takes %v to %v", o.Heartbeat, minHeartbeat, maxHeartbeat)
	}
	if o.Window == 0 {
		o.Window = defaultWindow
	}
	if o.Window < minWindow || o.Window > maxWindow {
		bad("window %v: want %v to %v, which is what Spanner takes", o.Window, minWindow, maxWindow)
	}
	if o.End < 0 || o.End > change.MaxTimestamp {
		bad("end %d µs: it lies outside 1970..9999", int64(o.End))
	}
	for _, n := range []struct {
		name  string
		value *int
		def   int
	}{
		{"streams per connection", &o.StreamsPerConnection, defaultStreamsPerConn},
		{"max frame bytes", &o.MaxFrameBytes, defaultMaxFrameBytes},
		{"max timestamp bytes", &o.MaxTimestampBytes, defaultMaxTimestampBytes},
	} {
		if *n.value < 0 {
			bad("%s %d: must be positive", n.name, *n.value)
		}
		if *n.value == 0 {
			*n.value = n.def
		}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, errors.Join(errs...)
}
