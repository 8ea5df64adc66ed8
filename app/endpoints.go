package app

import (
	"context"
	"fmt"
	"os"
	"strings"

	pubsub "cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/spanner"
	database "cloud.google.com/go/spanner/admin/database/apiv1"
	instance "cloud.google.com/go/spanner/admin/instance/apiv1"
	"cloud.google.com/go/storage"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Endpoints says where Google's services are. An empty one is Google Cloud itself, with application default credentials.
type Endpoints struct {
	// Spanner and PubSub are host:port of emulators, spoken to without TLS and credentials.
	Spanner, PubSub string
	// Storage is the base URL of a Cloud Storage emulator, such as http://127.0.0.1:4443.
	Storage string
}

// EndpointsFromEnv reads SPANNER_EMULATOR_HOST, PUBSUB_EMULATOR_HOST and STORAGE_EMULATOR_HOST as Google's clients do.
func EndpointsFromEnv() Endpoints {
	e := Endpoints{
		Spanner: strings.TrimPrefix(os.Getenv("SPANNER_EMULATOR_HOST"), "http://"),
		PubSub:  os.Getenv("PUBSUB_EMULATOR_HOST"),
		Storage: os.Getenv("STORAGE_EMULATOR_HOST"),
	}
	if e.Storage != "" && !strings.Contains(e.Storage, "://") {
		e.Storage = "http://" + e.Storage
	}
	return e
}

func plaintext(endpoint string) []option.ClientOption {
	if endpoint == "" {
		return nil
	}
	return []option.ClientOption{
		option.WithEndpoint(endpoint),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

// spannerClient makes a client of a database. Each caller has its own: Google's emulator mixes up the transactions of users
// who share one.
func (e Endpoints) spannerClient(ctx context.Context, db string) (*spanner.Client, error) {
	c, err := spanner.NewClientWithConfig(ctx, db, spanner.ClientConfig{DisableNativeMetrics: e.Spanner != ""}, plaintext(e.Spanner)...)
	if err != nil {
		return nil, fmt.Errorf("connect to Spanner database %s: %w", db, err)
	}
	return c, nil
}

func (e Endpoints) databaseAdmin(ctx context.Context) (*database.DatabaseAdminClient, error) {
	return database.NewDatabaseAdminClient(ctx, plaintext(e.Spanner)...)
}

func (e Endpoints) instanceAdmin(ctx context.Context) (*instance.InstanceAdminClient, error) {
	return instance.NewInstanceAdminClient(ctx, plaintext(e.Spanner)...)
}

func (e Endpoints) pubsubClient(ctx context.Context, project string) (*pubsub.Client, error) {
	return pubsub.NewClient(ctx, project, plaintext(e.PubSub)...)
}

func (e Endpoints) storageClient(ctx context.Context) (*storage.Client, error) {
	if e.Storage == "" {
		return storage.NewClient(ctx)
	}
	return storage.NewClient(ctx, option.WithEndpoint(e.Storage+"/storage/v1/"), option.WithoutAuthentication(), storage.WithJSONReads())
}
