package changestream

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/spanledger/spanledger/change"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
)

// recorder is what a server was asked, as it came over the wire, and what it is told to answer instead.
type recorder struct {
	mu       sync.Mutex
	sessions []*sppb.CreateSessionRequest // of a database role
	queries  []*sppb.ExecuteSqlRequest    // of the change stream
	headers  []metadata.MD                // theirs
	deadline bool                         // whether one of them had a deadline
	fail     []error                      // for the next queries
}

func (r *recorder) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if s, ok := req.(*sppb.CreateSessionRequest); ok && s.GetSession().GetCreatorRole() != "" { // the test's own client has none
				r.mu.Lock()
				r.sessions = append(r.sessions, proto.CloneOf(s))
				r.mu.Unlock()
			}
			return next(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return next(srv, &recordedStream{ServerStream: s, recorder: r})
		}),
	}
}

type recordedStream struct {
	grpc.ServerStream
	recorder *recorder
}

func (s *recordedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	req, ok := m.(*sppb.ExecuteSqlRequest)
	if !ok || req.GetParams().GetFields()["heartbeat"] == nil {
		return nil
	}
	r := s.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	md, _ := metadata.FromIncomingContext(s.Context())
	_, deadline := s.Context().Deadline()
	r.queries, r.headers, r.deadline = append(r.queries, proto.CloneOf(req)), append(r.headers, md), r.deadline || deadline
	if len(r.fail) > 0 {
		err := r.fail[0]
		r.fail = r.fail[1:]
		return err
	}
	return nil
}

// readSome reads the stream's one partition until a frame comes.
func readSome(t *testing.T, r *Reader) {
	t.Helper()
	start, err := r.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	partitions, err := r.Partitions(t.Context(), start)
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	if err := r.Read(t.Context(), partitions[0], start-1, func(*change.Frame) error { return enough }); !errors.Is(err, enough) {
		t.Fatal(err)
	}
}

// roleDDL makes the schema with a role that may read the stream.
var roleDDL = append(slices.Clip(testDDL), "CREATE ROLE reader", "GRANT SELECT ON CHANGE STREAM Everything TO ROLE reader", "GRANT EXECUTE ON TABLE FUNCTION READ_Everything TO ROLE reader")

func TestQueryOnTheWire(t *testing.T) {
	var seen recorder
	w := startEmbedded(t, embedded.Options{GRPC: seen.options()}, roleDDL...)
	directed := &sppb.DirectedReadOptions{Replicas: &sppb.DirectedReadOptions_IncludeReplicas_{IncludeReplicas: &sppb.DirectedReadOptions_IncludeReplicas{
		ReplicaSelections:    []*sppb.DirectedReadOptions_ReplicaSelection{{Location: "us-east1", Type: sppb.DirectedReadOptions_ReplicaSelection_READ_ONLY}},
		AutoFailoverDisabled: true,
	}}}
	readSome(t, w.open(Options{
		Stream: "Everything", Heartbeat: 250 * time.Millisecond, RequestTag: "spanledger=test", Priority: sppb.RequestOptions_PRIORITY_LOW,
		DirectedReads: directed, DatabaseRole: "reader",
	}))
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if len(seen.sessions) != 1 || !seen.sessions[0].GetSession().GetMultiplexed() || seen.sessions[0].GetSession().GetCreatorRole() != "reader" {
		t.Errorf("sessions: %v; want one, multiplexed, of the role", seen.sessions)
	}
	if len(seen.queries) != 2 {
		t.Fatalf("%d queries, want the initial one and the partition's", len(seen.queries))
	}
	for i, q := range seen.queries {
		if q.GetRequestOptions().GetRequestTag() != "spanledger=test" || q.GetRequestOptions().GetPriority() != sppb.RequestOptions_PRIORITY_LOW {
			t.Errorf("query %d has the request options %v", i, q.GetRequestOptions())
		}
		if diff := cmp.Diff(directed, q.GetDirectedReadOptions(), protocmp.Transform()); diff != "" {
			t.Errorf("query %d, directed reads: %s", i, diff)
		}
		if got := q.GetParams().GetFields()["heartbeat"].GetStringValue(); got != "250" {
			t.Errorf("query %d asks for a heartbeat of %s ms", i, got)
		}
		if ro := q.GetTransaction().GetSingleUse().GetReadOnly(); !ro.GetStrong() || ro.GetReturnReadTimestamp() {
			t.Errorf("query %d is not a single-use strong read: %v", i, q.GetTransaction())
		}
		if got := seen.headers[i].Get("google-cloud-resource-prefix"); len(got) != 1 || got[0] != testDatabase {
			t.Errorf("query %d is routed by %q", i, got)
		}
	}
	if seen.deadline {
		t.Error("a query has a deadline: a partition may live for days")
	}
}

// A session that Spanner no longer knows is replaced at once, by one with the same role.
func TestQueryReplacesLostSession(t *testing.T) {
	lost := status.Error(codes.NotFound, "Session not found: projects/p/instances/i/databases/d/sessions/s")
	seen := recorder{fail: []error{lost, lost}} // of the initial query and again
	w := startEmbedded(t, embedded.Options{GRPC: seen.options()}, roleDDL...)
	readSome(t, w.open(Options{Stream: "Everything", DatabaseRole: "reader"}))
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if len(seen.sessions) != 3 || seen.sessions[2].GetSession().GetCreatorRole() != "reader" {
		t.Fatalf("%d sessions: %v", len(seen.sessions), seen.sessions)
	}
	if a, b := seen.queries[0].GetSession(), seen.queries[len(seen.queries)-1].GetSession(); a == b {
		t.Errorf("both queries were asked in session %s", a)
	}
}

// The server cancels a partition's query: that is not our own context's end, so the partition must not be left unread.
func TestPitfallCancelledByTheServer(t *testing.T) {
	seen := recorder{}
	w := startEmbedded(t, embedded.Options{GRPC: seen.options()}, testDDL...)
	r := w.open(Options{Stream: "Everything"})
	seen.mu.Lock()
	seen.fail = []error{nil, status.Error(codes.Canceled, "context canceled")}
	seen.mu.Unlock()
	readSome(t, r)
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if len(seen.queries) != 3 {
		t.Fatalf("%d queries", len(seen.queries))
	}
}
