package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// dataService is google.spanner.v1.Spanner; methods it lacks answer UNIMPLEMENTED.
type dataService struct {
	sppb.UnimplementedSpannerServer
	s *Server
}

// session is a name under which transactions run. It has no state of its own: any number of transactions may be open.
type session struct {
	db    *Database
	proto *sppb.Session
}

func micros(us int64) *timestamppb.Timestamp { return timestamppb.New(time.UnixMicro(us)) }

func (d *Database) newSession(template *sppb.Session) *sppb.Session {
	now := timestamppb.New(d.clock.Now())
	p := &sppb.Session{
		Name:       fmt.Sprintf("%s/sessions/%s", d.name, rand.Text()),
		Labels:     template.GetLabels(),
		CreateTime: now, ApproximateLastUseTime: now,
		CreatorRole: template.GetCreatorRole(), Multiplexed: template.GetMultiplexed(),
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sessions[p.Name] = &session{db: d, proto: p}
	return p
}

// session finds a session by name.
func (s *Server) session(name string) (*session, error) {
	m := sessionName.FindStringSubmatch(name)
	if m == nil {
		return nil, errorf(codes.InvalidArgument, "invalid session name %q", name)
	}
	d := s.catalog.database(m[1])
	if d == nil {
		return nil, missingDatabase(m[1])
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if ses := d.sessions[name]; ses != nil {
		return ses, nil
	}
	return nil, missingSession(name)
}

func (a *dataService) CreateSession(_ context.Context, r *sppb.CreateSessionRequest) (*sppb.Session, error) {
	d := a.s.catalog.database(r.GetDatabase())
	if d == nil {
		return nil, missingDatabase(r.GetDatabase())
	}
	return d.newSession(r.GetSession()), nil
}

func (a *dataService) BatchCreateSessions(_ context.Context, r *sppb.BatchCreateSessionsRequest) (*sppb.BatchCreateSessionsResponse, error) {
	d := a.s.catalog.database(r.GetDatabase())
	if d == nil {
		return nil, missingDatabase(r.GetDatabase())
	}
	n := r.GetSessionCount()
	if n < 1 {
		return nil, errorf(codes.InvalidArgument, "session_count must be positive, not %d", n)
	}
	out := &sppb.BatchCreateSessionsResponse{}
	for range min(n, 100) {
		out.Session = append(out.Session, d.newSession(r.GetSessionTemplate()))
	}
	return out, nil
}

func (a *dataService) GetSession(_ context.Context, r *sppb.GetSessionRequest) (*sppb.Session, error) {
	ses, err := a.s.session(r.GetName())
	if err != nil {
		return nil, err
	}
	return proto.Clone(ses.proto).(*sppb.Session), nil
}

func (a *dataService) ListSessions(_ context.Context, r *sppb.ListSessionsRequest) (*sppb.ListSessionsResponse, error) {
	d := a.s.catalog.database(r.GetDatabase())
	if d == nil {
		return nil, missingDatabase(r.GetDatabase())
	}
	if r.GetFilter() != "" {
		return nil, errorf(codes.Unimplemented, "the embedded Spanner does not support filters in ListSessions")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	names, next, err := page(childrenOf(d.sessions, d.name), r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &sppb.ListSessionsResponse{NextPageToken: next}
	for _, n := range names {
		out.Sessions = append(out.Sessions, proto.Clone(d.sessions[n].proto).(*sppb.Session))
	}
	return out, nil
}

func (a *dataService) DeleteSession(_ context.Context, r *sppb.DeleteSessionRequest) (*emptypb.Empty, error) {
	ses, err := a.s.session(r.GetName())
	if err != nil {
		return nil, err
	}
	ses.db.mu.Lock()
	defer ses.db.mu.Unlock()
	delete(ses.db.sessions, r.GetName())
	return &emptypb.Empty{}, nil
}
