package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// dataService is google.spanner.v1.Spanner; methods it lacks answer UNIMPLEMENTED.
type dataService struct {
	sppb.UnimplementedSpannerServer
	s *Server
}

// session is a name under which transactions run: any number of them on a multiplexed session, one read-write
// transaction at a time on an ordinary one.
type session struct {
	db    *Database
	proto *sppb.Session // never changed
	used  time.Time     // under Database.mu
	// streams is how many change-stream queries run; latest is an ordinary session's open read-write transaction, aborted
	// the lineage of its last one, if that was aborted. All under Database.mu.
	streams int
	latest  *transaction
	aborted lineage
}

func micros(us int64) *timestamppb.Timestamp { return timestamppb.New(time.UnixMicro(us)) }

func (d *Database) newSession(template *sppb.Session) *sppb.Session {
	now := d.clock.Now()
	p := &sppb.Session{
		Name:       fmt.Sprintf("%s/sessions/%s", d.name, rand.Text()),
		Labels:     template.GetLabels(),
		CreateTime: timestamppb.New(now), ApproximateLastUseTime: timestamppb.New(now),
		CreatorRole: template.GetCreatorRole(), Multiplexed: template.GetMultiplexed(),
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sessions[p.Name] = &session{db: d, proto: p, used: now}
	return p
}

// describe is the session as clients see it. The caller holds Database.mu.
func (ses *session) describe() *sppb.Session {
	p := proto.Clone(ses.proto).(*sppb.Session)
	p.ApproximateLastUseTime = timestamppb.New(ses.used)
	return p
}

// session finds a session by name.
func (s *Server) session(name string) (*session, error) { return s.lookup(name, false) }

// using finds the session that a request works on, and what its role may do now.
func (s *Server) using(name string) (*session, *store.Access, error) {
	ses, err := s.lookup(name, true)
	if err != nil {
		return nil, nil, err
	}
	access, err := ses.db.store.Schema().Access(ses.proto.GetCreatorRole())
	return ses, access, err
}

func (s *Server) lookup(name string, use bool) (*session, error) {
	m := sessionName.FindStringSubmatch(name)
	if m == nil {
		return nil, errorf(codes.InvalidArgument, "invalid session name %q", name)
	}
	d := s.catalog.database(m[1])
	if d == nil {
		return nil, missingDatabase(m[1])
	}
	now := d.clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	ses := d.sessions[name]
	if ses == nil || ses.expired(now) {
		return nil, missingSession(name)
	}
	if use {
		ses.used = now
	}
	return ses, nil
}

// stream counts a change-stream query in, whose session is not idle while it runs, until the function returned is called.
func (ses *session) stream() (end func()) {
	count := func(by int) {
		ses.db.mu.Lock()
		defer ses.db.mu.Unlock()
		ses.streams += by
		ses.used = ses.db.clock.Now()
	}
	count(1)
	return func() { count(-1) }
}

func (a *dataService) CreateSession(_ context.Context, r *sppb.CreateSessionRequest) (*sppb.Session, error) {
	d := a.s.catalog.database(r.GetDatabase())
	if d == nil {
		return nil, missingDatabase(r.GetDatabase())
	}
	if _, err := d.store.Schema().Access(r.GetSession().GetCreatorRole()); err != nil {
		return nil, err
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
	if r.GetSessionTemplate().GetMultiplexed() {
		return nil, errorf(codes.InvalidArgument, "multiplexed sessions are made one by one, with CreateSession")
	}
	if _, err := d.store.Schema().Access(r.GetSessionTemplate().GetCreatorRole()); err != nil {
		return nil, err
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
	ses.db.mu.Lock()
	defer ses.db.mu.Unlock()
	return ses.describe(), nil
}

// ListSessions lists the ordinary sessions; Spanner does not list multiplexed ones.
func (a *dataService) ListSessions(_ context.Context, r *sppb.ListSessionsRequest) (*sppb.ListSessionsResponse, error) {
	d := a.s.catalog.database(r.GetDatabase())
	if d == nil {
		return nil, missingDatabase(r.GetDatabase())
	}
	f, err := parseFilter(r.GetFilter())
	if err != nil {
		return nil, err
	}
	now := d.clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	found := slices.DeleteFunc(childrenOf(d.sessions, d.name), func(n string) bool {
		p := d.sessions[n].proto
		return p.GetMultiplexed() || d.sessions[n].expired(now) || !f.matches(map[string]string{"name": n}, p.GetLabels())
	})
	names, next, err := page(found, r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &sppb.ListSessionsResponse{NextPageToken: next}
	for _, n := range names {
		out.Sessions = append(out.Sessions, d.sessions[n].describe())
	}
	return out, nil
}

// DeleteSession ends an ordinary session and its open transactions.
func (a *dataService) DeleteSession(_ context.Context, r *sppb.DeleteSessionRequest) (*emptypb.Empty, error) {
	ses, err := a.s.session(r.GetName())
	if err != nil {
		return nil, err
	}
	if ses.proto.GetMultiplexed() {
		return nil, errorf(codes.InvalidArgument, "the session %s is multiplexed: such sessions cannot be deleted", r.GetName())
	}
	d := ses.db
	d.mu.Lock()
	delete(d.sessions, r.GetName())
	t := ses.latest
	if t != nil {
		delete(d.txns, t.id)
	}
	d.mu.Unlock()
	if t != nil {
		rollback(t)
	}
	return &emptypb.Empty{}, nil
}
