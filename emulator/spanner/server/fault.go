package server

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/spanledger/spanledger/emulator/spanner/changes"
	"github.com/spanledger/spanledger/emulator/spanner/fault"
)

// How long faults last that do not say it.
const (
	defaultStall         = time.Second
	defaultSlowHeartbeat = 10 * time.Second
)

// Interceptors carry out Options.Faults: the gRPC server must be made with them for any but a change stream's own faults.
func (s *Server) Interceptors() []grpc.ServerOption {
	if s.opts.Faults == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(s.faultyCall), grpc.ChainStreamInterceptor(s.faultyStream)}
}

func bareMethod(full string) string { return full[strings.LastIndexByte(full, '/')+1:] }

func (s *Server) faultyCall(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method := bareMethod(info.FullMethod)
	if err := s.strikeBefore(ctx, method, req); err != nil {
		return nil, err
	}
	res, err := handler(ctx, req)
	if err == nil && len(s.opts.Faults.Strike(fault.After, method, "")) > 0 {
		return nil, errorf(codes.Unavailable, "injected: the answer of %s was lost", method)
	}
	return res, err
}

func (s *Server) faultyStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	method := bareMethod(info.FullMethod)
	if err := s.strikeBefore(stream.Context(), method, nil); err != nil {
		return err
	}
	fs := &faultyServerStream{ServerStream: stream, method: method, rows: rowFaults{s: s, ctx: stream.Context()}}
	return fs.rows.result(handler(srv, fs))
}

// strikeBefore carries out what strikes a call before any effect.
func (s *Server) strikeBefore(ctx context.Context, method string, req any) error {
	for _, h := range s.opts.Faults.Strike(fault.Before, method, "") {
		switch h.Kind {
		case fault.Abort:
			return retryLater(codes.Aborted, h, "injected: the transaction was aborted")
		case fault.Unavailable:
			return errorf(codes.Unavailable, "injected: %s is unavailable", method)
		case fault.Exhausted:
			return retryLater(codes.ResourceExhausted, h, "injected: resources are exhausted")
		case fault.Stall:
			if err := s.wait(ctx, cmp.Or(h.For, defaultStall)); err != nil {
				return err
			}
		case fault.Alter:
			// Which database a call is for stands in its session.
			named, ok := req.(interface{ GetSession() string })
			if !ok {
				continue
			}
			ses, err := s.session(named.GetSession())
			if err != nil {
				return err
			}
			if err := ses.db.alterNow(h); err != nil {
				return err
			}
		}
	}
	return nil
}

func retryLater(code codes.Code, h fault.Hit, message string) error {
	if h.For == 0 {
		return errorf(code, "%s", message)
	}
	return withDetail(code, message, &errdetails.RetryInfo{RetryDelay: durationpb.New(h.For)})
}

// alterNow runs a schema statement. That it does not fit the schema, or has been run before, is the plan's mistake: the call
// it strikes fails with INTERNAL.
func (d *Database) alterNow(h fault.Hit) error {
	if _, err := d.applyDDL([]string{h.DDL}, nil); err != nil {
		return errorf(codes.Internal, "injected: %s: %v", h.Rule, err)
	}
	return nil
}

func (s *Server) wait(ctx context.Context, d time.Duration) error {
	fired, stop := s.catalog.clock.NewTimer(d)
	defer stop()
	select {
	case <-fired:
		return nil
	case <-ctx.Done():
		return wire(ctx.Err())
	}
}

// errEnd ends a stream early, with OK.
var errEnd = errors.New("injected: the stream ends early")

// rowFaults are the faults that wait for rows of one stream.
type rowFaults struct {
	s    *Server
	ctx  context.Context
	hits []fault.Hit
	do   func(fault.Hit) error // carries out what does not end the stream
	sent int
	err  error // what ended the stream
}

// due carries out what strikes after the rows sent so far. An error ends the stream.
func (f *rowFaults) due() error {
	for len(f.hits) > 0 && f.err == nil {
		i := slices.IndexFunc(f.hits, func(h fault.Hit) bool { return h.Rows == f.sent })
		if i < 0 {
			break
		}
		h := f.hits[i]
		f.hits = slices.Delete(f.hits, i, i+1)
		switch h.Kind {
		case fault.Cut:
			f.err = errorf(codes.Unavailable, "injected: the stream was cut after row %d", f.sent)
		case fault.Reset: // the text is the one that clients know it by
			f.err = errorf(codes.Internal, "stream terminated by RST_STREAM with error code: INTERNAL_ERROR")
		case fault.Cancel:
			f.err = errorf(codes.Canceled, "injected: the server cancelled the stream after row %d", f.sent)
		case fault.End:
			f.err = errEnd
		case fault.Stall:
			f.err = f.s.wait(f.ctx, cmp.Or(h.For, defaultStall))
		default:
			f.err = f.do(h)
		}
	}
	return f.err
}

// whole drops what would end the stream with OK from here on: the rest of what it announces would be lost to every reader, and
// no Spanner does that.
func (f *rowFaults) whole() {
	f.hits = slices.DeleteFunc(f.hits, func(h fault.Hit) bool { return h.Kind == fault.End })
}

// row counts a row that was sent.
func (f *rowFaults) row() error {
	f.sent++
	return f.due()
}

// result is what a call answers that ended with err by itself: what ended its stream goes first.
func (f *rowFaults) result(err error) error {
	if f.err != nil {
		err = f.err
	}
	if errors.Is(err, errEnd) {
		return nil
	}
	return err
}

// faultyServerStream counts the rows of reads and queries. Change-stream queries count their own: only they know that they
// are some.
type faultyServerStream struct {
	grpc.ServerStream
	method       string
	begun        bool
	changeStream bool
	rows         rowFaults
}

func (f *faultyServerStream) SendMsg(m any) error {
	part, ok := m.(*sppb.PartialResultSet)
	if !ok || f.changeStream {
		return f.ServerStream.SendMsg(m)
	}
	if !f.begun {
		f.begun = true
		f.rows.hits = f.rows.s.opts.Faults.Strike(fault.Rows, f.method, "")
		f.rows.do = func(h fault.Hit) error {
			return errorf(codes.Internal, "injected: %s cannot strike %s", h.Rule, f.method)
		}
		if err := f.rows.due(); err != nil {
			return err
		}
	}
	if err := f.ServerStream.SendMsg(m); err != nil || len(part.GetResumeToken()) == 0 {
		return err
	}
	return f.rows.row()
}

// streamKey finds the faultyServerStream of a call in its context.
type streamKey struct{}

func (f *faultyServerStream) Context() context.Context {
	return context.WithValue(f.ServerStream.Context(), streamKey{}, f)
}

// streamFaults are the faults of one change-stream query.
type streamFaults struct {
	rowFaults
	// mute leaves heartbeats out; replay gives all rows one resume token.
	mute, replay bool
}

// strikeStream decides what strikes a change-stream query, and may change its heartbeat.
func (d *Database) strikeStream(ctx context.Context, s *Server, q *changes.Query) *streamFaults {
	f := &streamFaults{rowFaults: rowFaults{s: s, ctx: ctx}}
	if fs, ok := ctx.Value(streamKey{}).(*faultyServerStream); ok {
		fs.changeStream = true
	}
	f.do = func(h fault.Hit) error {
		if h.Kind == fault.Expire {
			return d.log.Expire(q.Stream)
		}
		return d.alterNow(h)
	}
	for _, h := range s.opts.Faults.Strike(fault.Rows, fault.ChangeStream, q.Stream) {
		switch h.Kind {
		case fault.NoHeartbeat:
			f.mute = true
		case fault.Replay:
			f.replay = true
		case fault.SlowHeartbeat:
			slow := min(cmp.Or(h.For, defaultSlowHeartbeat), changes.MaxHeartbeat).Milliseconds()
			// What is out of bounds stays so, and is refused.
			if asked := q.HeartbeatMillis; asked != nil && *asked >= changes.MinHeartbeat.Milliseconds() && *asked < slow {
				q.HeartbeatMillis = &slow
			}
		default:
			f.hits = append(f.hits, h)
		}
	}
	return f
}
