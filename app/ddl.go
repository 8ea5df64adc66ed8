package app

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/archive"
	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/pipeline"
	"github.com/spanledger/spanledger/sinks"
)

const (
	// ddlEvery is how often the database is asked for its schema where no change tells of another.
	ddlEvery = time.Minute
	// ddlTimeout bounds one look: its failure costs nothing but another.
	ddlTimeout = 30 * time.Second
)

// archiver is a sink that writes an archive. Its bucket is there while the sink is open.
type archiver interface{ Bucket() archive.Bucket }

// ddlKeeper stores the source database's schema in the pipeline's archives: when the pipeline starts, when a change shows
// another shape of a table, and when a look each minute finds another. Segments explain themselves; the DDL is what a
// restored database is made of. So it never stops a pipeline: what fails is tried again.
type ddlKeeper struct {
	endpoints Endpoints
	config    PipelineConfig
	sinks     []pipeline.NamedSink
	every     time.Duration
	log       *slog.Logger

	// changed holds a token when a change has shown a new shape.
	changed chan struct{}
	// stored are the statements last known to be in each sink's archive, by the sink's place.
	stored map[int][]string
	// denied says that the missing permission has been told.
	denied bool
}

func newDDLKeeper(e Endpoints, c PipelineConfig, list []pipeline.NamedSink, log *slog.Logger) *ddlKeeper {
	return &ddlKeeper{endpoints: e, config: c, sinks: list, every: ddlEvery, log: log.With("pipeline", c.Name, "database", c.Database),
		changed: make(chan struct{}, 1), stored: map[int][]string{}}
}

// tableChanged asks for another look; it never blocks.
func (k *ddlKeeper) tableChanged(*change.Table) {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// run keeps until ctx ends. The sinks must be open meanwhile.
func (k *ddlKeeper) run(ctx context.Context) {
	if !slices.ContainsFunc(k.sinks, func(s pipeline.NamedSink) bool { return bucketOf(s.Sink) != nil }) {
		return
	}
	for {
		k.look(ctx)
		timer := time.NewTimer(k.every)
		select {
		case <-timer.C:
		case <-k.changed:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

func bucketOf(s sinks.Sink) archive.Bucket {
	if a, ok := s.(archiver); ok {
		return a.Bucket()
	}
	return nil
}

// look stores the schema in the archives that have another.
func (k *ddlKeeper) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, ddlTimeout)
	defer cancel()
	statements, seen, err := k.endpoints.ddl(ctx, k.config)
	switch {
	case ctx.Err() != nil && err != nil: // the pipeline stops, or the next look will be better
	case status.Code(err) == codes.PermissionDenied:
		if !k.denied {
			k.log.Warn("the archive goes without the database's DDL: reading it needs the permission spanner.databases.getDdl "+
				"(roles/spanner.databaseReader has it)", "error", err)
		}
		k.denied = true
		return
	case err != nil:
		k.log.Warn("the database's DDL could not be read for the archive; the next look will try again", "error", err)
	}
	if err != nil {
		return
	}
	k.denied = false
	for i, s := range k.sinks {
		bucket := bucketOf(s.Sink)
		if bucket == nil || slices.Equal(k.stored[i], statements) && k.stored[i] != nil {
			continue
		}
		stored, err := archive.StoreNewDDL(ctx, bucket, seen, statements)
		if err != nil {
			if ctx.Err() == nil {
				k.log.Warn("the database's DDL could not be stored in the archive; the next look will try again", "sink", s.Name, "error", err)
			}
			continue
		}
		k.stored[i] = statements
		if stored {
			k.log.Info("the database's DDL is stored in the archive", "sink", s.Name, "object", archive.DDLName(seen))
		}
	}
}

// ddl answers the statements that make the source database, and an instant by which they were in force, of Spanner's clock.
func (e Endpoints) ddl(ctx context.Context, c PipelineConfig) ([]string, change.Timestamp, error) {
	admin, err := e.databaseAdmin(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("connect to Spanner's administration: %w", err)
	}
	defer admin.Close()
	answer, err := admin.GetDatabaseDdl(ctx, &databasepb.GetDatabaseDdlRequest{Database: c.Database})
	if err != nil {
		return nil, 0, err
	}
	seen, err := e.now(ctx, c.Database, c.Reader.Role) // I9: after the answer, so that it says no more than is known
	if err != nil {
		return nil, 0, err
	}
	return answer.GetStatements(), change.TimestampOf(seen), nil
}
