package changestream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	spannerapi "cloud.google.com/go/spanner/apiv1"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
	"google.golang.org/api/option/internaloption"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// source opens queries: Spanner's in life, a script in tests.
type source interface {
	// open starts a query; the stream ends when ctx does.
	open(ctx context.Context, req *sppb.ExecuteSqlRequest) (messages, error)
}

// messages is a running query. recv answers the next PartialResultSet's bytes, which the caller may keep for ever, or
// io.EOF at the query's good end. close gives up the query's place on its connection; a silence above zero says that
// nothing came from the query for that long, so that the connection itself may be dead.
type messages interface {
	recv() ([]byte, error)
	close(silence time.Duration)
}

// conns is a growing set of connections with a multiplexed session.
type conns struct {
	database, role string
	perConn        int
	options        []option.ClientOption
	// request and directed are what every query is asked with.
	request  *sppb.RequestOptions
	directed *sppb.DirectedReadOptions

	mu     sync.Mutex
	conns  []*conn
	closed bool

	sessionMu sync.Mutex
	session   string
	born      time.Time
}

type conn struct {
	client *spannerapi.Client
	grpc   *grpc.ClientConn
	// heard is when a message last came, in nanoseconds since 1970.
	heard atomic.Int64
	// Guarded by conns.mu: the streams open now, and whether no more may come.
	streams int
	retired bool
}

// sessionLife is when a session is renewed: Spanner drops multiplexed sessions after 28 days.
const sessionLife = 7 * 24 * time.Hour

var errClosed = errors.New("changestream: the reader is closed")

func newConns(opts Options) *conns {
	c := &conns{
		database: opts.Database, role: opts.DatabaseRole, perConn: opts.StreamsPerConnection,
		options: clientOptions(opts.ClientOptions), directed: opts.DirectedReads,
	}
	if opts.RequestTag != "" || opts.Priority != sppb.RequestOptions_PRIORITY_UNSPECIFIED {
		c.request = &sppb.RequestOptions{RequestTag: opts.RequestTag, Priority: opts.Priority}
	}
	return c
}

const (
	// streamWindow is what Spanner may send on a stream before the reader takes it: gRPC's least. Left alone, gRPC would let
	// every stream of a busy connection grow to megabytes, which no budget sees. An idle stream holds none of it.
	streamWindow = 64 << 10
	// connWindow is the same for all streams of a connection together. It bounds their speed and not their memory: gRPC
	// opens it again before the reader has taken anything.
	connWindow = 4 << 20
)

var emulatorScheme = regexp.MustCompile("^(http://|https://|passthrough:///)")

// clientOptions puts what SPANNER_EMULATOR_HOST asks for before the user's options, as the official client does.
func clientOptions(user []option.ClientOption) []option.ClientOption {
	var out []option.ClientOption
	if host := os.Getenv("SPANNER_EMULATOR_HOST"); host != "" {
		out = append(out,
			option.WithEndpoint("passthrough:///"+emulatorScheme.ReplaceAllString(host, "")),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
			option.WithoutAuthentication(),
			internaloption.SkipDialSettingsValidation(),
		)
	}
	out = append(out,
		option.WithGRPCConnectionPool(1), // conns counts the streams on every connection itself
		option.WithGRPCDialOption(grpc.WithInitialWindowSize(streamWindow)),
		option.WithGRPCDialOption(grpc.WithInitialConnWindowSize(connWindow)),
	)
	return append(out, user...)
}

// acquire answers a connection with room for one more stream.
func (c *conns) acquire(ctx context.Context) (*conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	for _, k := range c.conns {
		if !k.retired && k.streams < c.perConn {
			k.streams++
			return k, nil
		}
	}
	// A stream past the server's limit would wait without an error, so a new connection is opened before it is reached.
	client, err := spannerapi.NewClient(context.WithoutCancel(ctx), c.options...)
	if err != nil {
		return nil, fmt.Errorf("changestream: connecting to Spanner: %w", err)
	}
	//nolint:staticcheck // a pool of one connection, so it is always the same
	k := &conn{client: client, grpc: client.Connection(), streams: 1}
	k.heard.Store(time.Now().UnixNano())
	c.conns = append(c.conns, k)
	return k, nil
}

// release gives a stream's place back; retire lets the connection die with its last stream.
//
// New streams go to the oldest connection with room, so that the youngest empty first when partitions become fewer. An
// empty one is kept while the others have little room: the next few partitions would need it again.
func (c *conns) release(k *conn, retire bool) {
	c.mu.Lock()
	k.streams--
	k.retired = k.retired || retire
	room := 0
	for _, other := range c.conns {
		if other != k && !other.retired {
			room += c.perConn - other.streams
		}
	}
	dead := k.streams == 0 && !c.closed && (k.retired || 2*room >= c.perConn)
	if dead {
		c.conns = slices.DeleteFunc(c.conns, func(other *conn) bool { return other == k })
		dead = !c.shared(k)
	}
	c.mu.Unlock()
	if dead {
		k.client.Close() // it is not used any more; its error says nothing new
	}
}

// shared says that another conn uses the same connection, as all do with option.WithGRPCConn.
func (c *conns) shared(k *conn) bool {
	return slices.ContainsFunc(c.conns, func(other *conn) bool { return other != k && other.grpc == k.grpc })
}

func (c *conns) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	var errs []error
	for len(c.conns) > 0 {
		k := c.conns[0]
		if c.conns = c.conns[1:]; !c.shared(k) {
			errs = append(errs, k.client.Close())
		}
	}
	return errors.Join(errs...)
}

// outgoing adds the header by which Spanner routes calls.
func (c *conns) outgoing(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "google-cloud-resource-prefix", c.database)
}

// currentSession answers the session's name, making or renewing it when needed.
func (c *conns) currentSession(ctx context.Context, k *conn) (string, error) {
	c.sessionMu.Lock()
	defer c.sessionMu.Unlock()
	if c.session != "" && time.Since(c.born) < sessionLife {
		return c.session, nil
	}
	s, err := k.client.CreateSession(c.outgoing(ctx), &sppb.CreateSessionRequest{
		Database: c.database,
		Session:  &sppb.Session{Multiplexed: true, CreatorRole: c.role},
	})
	if err != nil {
		return "", err
	}
	c.session, c.born = s.GetName(), time.Now()
	return c.session, nil
}

// dropSession forgets a session that Spanner no longer knows.
func (c *conns) dropSession(name string) {
	c.sessionMu.Lock()
	defer c.sessionMu.Unlock()
	if c.session == name {
		c.session = ""
	}
}

// open starts a streaming query whose messages are not decoded by gRPC. It sets no deadline: a partition may live for hours.
func (c *conns) open(ctx context.Context, req *sppb.ExecuteSqlRequest) (messages, error) {
	k, err := c.acquire(ctx)
	if err != nil {
		return nil, err
	}
	session, err := c.currentSession(ctx, k)
	if err != nil {
		c.release(k, false)
		return nil, err
	}
	req = proto.CloneOf(req)
	req.Session, req.RequestOptions, req.DirectedReadOptions = session, c.request, c.directed
	codec := &rawCodec{}
	s, err := k.client.ExecuteStreamingSql(c.outgoing(ctx), req, gax.WithGRPCOptions(grpc.ForceCodecV2(codec)))
	if err != nil {
		c.release(k, false)
		return nil, c.sessionError(session, err)
	}
	return &queryStream{stream: s, conns: c, conn: k, session: session}, nil
}

// query runs a small query to its end, with the ordinary decoding.
func (c *conns) query(ctx context.Context, req *sppb.ExecuteSqlRequest) (*sppb.ResultSet, error) {
	k, err := c.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer c.release(k, false)
	for attempt := 0; ; attempt++ {
		session, err := c.currentSession(ctx, k)
		if err != nil {
			return nil, err
		}
		req = proto.CloneOf(req)
		req.Session, req.RequestOptions = session, c.request
		rs, err := k.client.ExecuteSql(c.outgoing(ctx), req)
		if err == nil {
			return rs, nil
		}
		var lost *sessionLostError
		if err = c.sessionError(session, err); !errors.As(err, &lost) || attempt > 2 {
			return nil, err
		}
	}
}

// sessionLostError says that Spanner dropped the session; a new one is made at the next attempt.
type sessionLostError struct{ err error }

func (e *sessionLostError) Error() string { return e.err.Error() }
func (e *sessionLostError) Unwrap() error { return e.err }

var sessionGone = regexp.MustCompile(`(?i)session not found`)

func (c *conns) sessionError(session string, err error) error {
	if status.Code(err) != codes.NotFound || !sessionGone.MatchString(err.Error()) {
		return err
	}
	c.dropSession(session)
	return &sessionLostError{err}
}

// queryStream is a running query.
type queryStream struct {
	stream  grpc.ClientStream
	conns   *conns
	conn    *conn
	session string
	once    sync.Once
}

func (s *queryStream) recv() ([]byte, error) {
	var m rawMessage
	if err := s.stream.RecvMsg(&m); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, s.conns.sessionError(s.session, err)
	}
	s.conn.heard.Store(time.Now().UnixNano())
	return m.data, nil
}

func (s *queryStream) close(silence time.Duration) {
	s.once.Do(func() {
		// A query may be silent alone; a connection on which all are gets no new ones.
		dead := silence > 0 && time.Since(time.Unix(0, s.conn.heard.Load())) >= silence
		s.conns.release(s.conn, dead)
	})
}

// rawMessage is a message left as bytes.
type rawMessage struct{ data []byte }

// rawCodec leaves received messages as they are and encodes requests as usual. Each stream has its own, because it holds
// the memory messages are copied to: gRPC takes its buffers back, and one copy into a chunk shared by several small
// messages costs less than one allocation each.
type rawCodec struct{ chunk []byte }

// A chunk has room for some messages like the first in it, so that idle partitions hold little.
const (
	minChunk = 512
	maxChunk = 4 << 10
)

func (c *rawCodec) Name() string { return "proto" }

func (c *rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("changestream: cannot send a %T", v)
	}
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (c *rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*rawMessage)
	if !ok {
		return fmt.Errorf("changestream: cannot receive a %T", v)
	}
	n := data.Len()
	if n > cap(c.chunk)-len(c.chunk) {
		c.chunk = make([]byte, 0, max(n, minChunk, min(8*n, maxChunk)))
	}
	at := len(c.chunk)
	c.chunk = c.chunk[:at+n]
	data.CopyTo(c.chunk[at:])
	m.data = c.chunk[at : at+n : at+n]
	return nil
}
