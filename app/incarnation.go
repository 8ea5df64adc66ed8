package app

import (
	"context"
	"errors"
	"time"

	"cloud.google.com/go/spanner"
	"cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/pipeline"
	"github.com/spanledger/spanledger/state"
)

// lostBefore is err, found before a pipeline that has begun could be opened: where it says that the stream or the database it
// read is gone, a gap is recorded and the error is a *pipeline.BrokenError.
func (e Endpoints) lostBefore(ctx context.Context, store state.Store, c PipelineConfig, err error) error {
	if !errors.Is(err, errNoStream) && spanner.ErrCode(err) != codes.NotFound {
		return err
	}
	snap, lerr := store.Load(ctx, c.Name)
	if lerr != nil {
		return errors.Join(err, lerr)
	}
	if p := snap.Pipeline; p.Database != c.Database || p.Stream != c.Stream {
		return err // the configuration names something else than what was read
	}
	g := state.Gap{Reason: e.diagnose(ctx, state.Dropped, snap.Pipeline), From: snap.Through() + 1, Detail: err.Error()}
	return pipeline.Break(ctx, store, snap.Pipeline, g, err)
}

// diagnose refines why a stream cannot be read on: by the times at which the database, and on an emulator its instance, were
// made. Where a server does not tell them, r stands.
func (e Endpoints) diagnose(ctx context.Context, r state.Reason, p state.Pipeline) state.Reason {
	if r == state.Expired {
		return r // the retention belongs to the stream there is
	}
	n, err := parseDatabase(p.Database)
	if err != nil {
		return r
	}
	identity, err := e.identity(ctx, n)
	switch {
	case err != nil && status.Code(err) != codes.NotFound:
		return r
	case err == nil && identity == p.Identity:
		return r // the same database: its stream was dropped, or made again
	case e.Spanner != "" && e.lostInstance(ctx, n, p.Identity):
		return state.Restarted
	case err == nil && identity != "" && p.Identity != "":
		return state.Restored
	}
	return r
}

// lostInstance reports whether an emulator's instance is gone, or was made after the database that was read.
func (e Endpoints) lostInstance(ctx context.Context, n databaseName, identity string) bool {
	admin, err := e.instanceAdmin(ctx)
	if err != nil {
		return false
	}
	defer admin.Close()
	in, err := admin.GetInstance(ctx, &instancepb.GetInstanceRequest{Name: n.parent()})
	if err != nil {
		return status.Code(err) == codes.NotFound
	}
	read, err := time.Parse(time.RFC3339Nano, identity)
	return err == nil && in.GetCreateTime().IsValid() && in.GetCreateTime().AsTime().After(read)
}
