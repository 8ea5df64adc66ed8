package app

import (
	"bytes"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/archive"
	"github.com/spanledger/spanledger/change"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
)

// The archive has the database's schema as it was when the pipeline began, again when a change shows another, and again when
// a look without such a change finds one. A pipeline that begins again stores nothing twice.
func TestArchiveKeepsTheDDL(t *testing.T) {
	d := newDrifting(t, embedded.Options{}, "CREATE TABLE Carts (Id STRING(9) NOT NULL, N INT64) PRIMARY KEY (Id)", "CREATE CHANGE STREAM Everything FOR ALL")
	d.config.Sinks = d.config.Sinks[1:2]
	kept := func(n int) (names, texts []string) {
		t.Helper()
		for late := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
			if names, texts = d.stored("ddl"); len(names) >= n {
				return names, texts
			}
			if time.Now().After(late) {
				t.Fatalf("stored %q, want %d", names, n)
			}
		}
	}
	d.run(func() {
		kept(1)
		d.ddl("ALTER TABLE Carts ADD COLUMN Note STRING(MAX)")
		d.put(spanner.InsertMap("Carts", map[string]any{"Id": "x", "Note": "n"}))
		kept(2)
	})
	d.run(func() {})
	d.ddlLook = 20 * time.Millisecond
	d.run(func() {
		d.ddl("CREATE INDEX ByNote ON Carts (Note)")
		kept(3)
	})
	names, texts := kept(3)
	first, last := archive.DDLName(change.TimestampOf(d.start)), archive.DDLName(change.TimestampOf(d.now()))
	if len(names) != 3 || !slices.IsSorted(append(append([]string{first}, names...), last)) {
		t.Fatalf("stored %q, want three between %s and %s", names, first, last)
	}
	for i, text := range texts {
		for part, from := range map[string]int{"CREATE TABLE Carts": 0, "CREATE CHANGE STREAM Everything": 0, "Note STRING(MAX)": 1, "CREATE INDEX ByNote": 2} {
			if strings.Contains(text, part) != (i >= from) {
				t.Errorf("%s and %q:\n%s", names[i], part, text)
			}
		}
	}
}

// Without the permission the pipeline does without, and says so once.
func TestDDLDenied(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		asked++
		return status.Error(codes.PermissionDenied, "Caller is missing IAM permission spanner.databases.getDdl")
	}))
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	var log bytes.Buffer
	k := newDDLKeeper(Endpoints{Spanner: listener.Addr().String()}, PipelineConfig{Name: "p", Database: driftResources.Database}, nil, slog.New(slog.NewTextHandler(&log, nil)))
	for range 3 {
		k.look(t.Context())
	}
	server.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if asked != 3 || strings.Count(log.String(), "level=WARN") != 1 || !strings.Contains(log.String(), "needs the permission spanner.databases.getDdl") {
		t.Errorf("asked %d times, logged\n%s", asked, &log)
	}
}
