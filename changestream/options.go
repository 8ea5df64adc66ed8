package changestream

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
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
	// Window is how far ahead of Spanner's clock one query of a stream with mutable key ranges reaches, whose queries must have
	// an end: 20 min by default, at least 2 heartbeats, at most 30 min. The next one goes on behind what the one before proved.
	Window time.Duration
	// End is the last commit timestamp to read, inclusive; 0 reads on for ever.
	End change.Timestamp
	// Tables are the schema unions stored by an earlier run, oldest version first where a table has several.
	Tables []*change.Table
	// Open are the tokens of the partitions that an earlier run has left unfinished; nil for a first one. New finds out by them
	// whether a stream with a read function for each placement has got new ones since.
	Open []string
	// PlacementsEvery is how often such a stream is looked at for new placements: 1 min by default.
	PlacementsEvery time.Duration
	// ClientOptions are passed to every connection. With option.WithGRPCConn all partitions share that connection and its
	// limit of concurrent streams.
	ClientOptions []option.ClientOption
	// StreamsPerConnection is how many partitions one connection carries before another is opened: 90 by default, below
	// the 100 concurrent streams Spanner allows, past which queries wait without an error.
	StreamsPerConnection int
	// RequestTag marks the queries in Spanner's statistics; "" for none.
	RequestTag string
	// Priority is Spanner's for the queries; unset means its default, which is high.
	Priority sppb.RequestOptions_Priority
	// DirectedReads chooses the replicas that answer the queries, for example read-only ones near the reader; nil leaves it
	// to Spanner. It must not be changed afterwards.
	DirectedReads *sppb.DirectedReadOptions
	// DatabaseRole is the fine-grained access role of the session; "" for none. It needs SELECT on the change stream and
	// EXECUTE on its read function. Of the database's schema it sees the tables that it has privileges on; membership in
	// spanner_info_reader shows it all.
	DatabaseRole string
	// SilentHeartbeats is after how many heartbeats without a row a query counts as dead and is asked again: 10 by default,
	// at least 2. Time in which the reader itself did not listen, because its caller or the Budget held it up, is no silence.
	SilentHeartbeats int
	// MinBackoff and MaxBackoff bound the wait between two attempts, 100 ms and 30 s by default. Spanner may ask for longer
	// waits, which are kept up to 5 min.
	MinBackoff, MaxBackoff time.Duration
	// Budget bounds what is received and not handed over yet, over all partitions; nil bounds each partition alone, by
	// MaxFrameBytes and MaxTimestampBytes.
	Budget Budget
	// MaxFrameBytes is about how much a Frame holds at most: 1 MiB by default. A commit timestamp is never torn, so a
	// frame may be larger by one timestamp's changes.
	MaxFrameBytes int
	// MaxTimestampBytes is how much the changes of one partition at one commit timestamp may take in memory: 256 MiB by
	// default. More is a TooLargeError.
	MaxTimestampBytes int
	// PassUnknown carries on at operations, capture types and record kinds this version has no name for: the changes are
	// handed over with UnknownOp or UnknownCapture, the records are logged and skipped. The default is to stop.
	PassUnknown bool
	// RefuseUnknownFields stops at fields of known records that this version has no name for, which are passed over by
	// default: Spanner adds such fields without changing what the others mean.
	RefuseUnknownFields bool
	// OnRetry is called before each wait that precedes a new attempt: attempt counts from 1 since the last progress. It
	// may be called concurrently and must not block.
	OnRetry func(token string, attempt int, err error)
	// OnTable is called when a change shows a new version of a table's schema union, before the change is handed over; not for
	// those that New seeds. It must not block, nor call the Reader.
	OnTable func(*change.Table)
	// Logger receives retries, at a bounded rate, and schema changes; slog.Default() if nil.
	Logger *slog.Logger
}

const (
	defaultHeartbeat         = time.Second
	minHeartbeat             = 100 * time.Millisecond
	maxHeartbeat             = 5 * time.Minute
	defaultWindow            = 20 * time.Minute
	maxWindow                = 30 * time.Minute
	defaultPlacementsEvery   = time.Minute
	defaultSilentHeartbeats  = 10
	defaultMinBackoff        = 100 * time.Millisecond
	defaultMaxBackoff        = 30 * time.Second
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
	if o.Heartbeat <= maxHeartbeat && (o.Window < 2*o.Heartbeat || o.Window > maxWindow) {
		bad("window %v: want two heartbeats of %v, or nothing might prove a partition's last change, to %v, which is what Spanner takes", o.Window, o.Heartbeat, maxWindow)
	}
	if o.PlacementsEvery == 0 {
		o.PlacementsEvery = defaultPlacementsEvery
	}
	if o.PlacementsEvery < 0 {
		bad("placements every %v: must be positive", o.PlacementsEvery)
	}
	if o.End < 0 || o.End > change.MaxTimestamp {
		bad("end %d µs: it lies outside 1970..9999", int64(o.End))
	}
	for _, n := range []struct {
		name  string
		value *int
		def   int
	}{
		{"silent heartbeats", &o.SilentHeartbeats, defaultSilentHeartbeats},
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
	if o.SilentHeartbeats == 1 {
		bad("silent heartbeats 1: want at least 2, or each late heartbeat would start the query anew")
	}
	if o.MinBackoff == 0 {
		o.MinBackoff = min(defaultMinBackoff, cmp.Or(o.MaxBackoff, defaultMaxBackoff))
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = max(defaultMaxBackoff, o.MinBackoff)
	}
	if o.MinBackoff < time.Millisecond || o.MaxBackoff < o.MinBackoff {
		bad("backoff from %v to %v: want at least 1ms, and the longest not below the shortest", o.MinBackoff, o.MaxBackoff)
	}
	if _, ok := sppb.RequestOptions_Priority_name[int32(o.Priority)]; !ok {
		bad("priority %v: want low, medium or high", o.Priority)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, errors.Join(errs...)
}
