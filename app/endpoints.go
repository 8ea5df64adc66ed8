package app

import (
	"context"
	"fmt"
	"os"
	"strings"

	"cloud.google.com/go/bigquery"
	pubsub "cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/spanner"
	database "cloud.google.com/go/spanner/admin/database/apiv1"
	instance "cloud.google.com/go/spanner/admin/instance/apiv1"
	"cloud.google.com/go/storage"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/spanledger/spanledger/emulator"
)

// Endpoints says where Google's services are. An empty one is Google Cloud itself, with application default credentials.
type Endpoints struct {
	// Spanner and PubSub are host:port of emulators, spoken to without TLS and credentials.
	Spanner, PubSub string
	// Storage is the base URL of a Cloud Storage emulator, such as http://127.0.0.1:4443.
	Storage string
	// BigQuery is the base URL of a BigQuery emulator's REST API, BigQueryStorage host:port of its Storage API, over gRPC.
	BigQuery, BigQueryStorage string
}

// Variable is an environment variable with its value.
type Variable struct{ Name, Value string }

// Variables are the environment variables that lead to these endpoints, those of emulators only.
func (e Endpoints) Variables() []Variable {
	var list []Variable
	for _, v := range []Variable{
		{emulator.SpannerVariable, e.Spanner}, {emulator.PubSubVariable, e.PubSub}, {emulator.StorageVariable, e.Storage},
		{emulator.BigQueryVariable, e.BigQuery}, {emulator.BigQueryStorageVariable, e.BigQueryStorage},
	} {
		if v.Value != "" {
			list = append(list, v)
		}
	}
	return list
}

// String lists the emulators as NAME=value; "" if there are none.
func (e Endpoints) String() string {
	var list []string
	for _, v := range e.Variables() {
		list = append(list, v.Name+"="+v.Value)
	}
	return strings.Join(list, " ")
}

// EndpointsFromEnv reads the variables; an address without a scheme is one of http where a URL is wanted.
func EndpointsFromEnv() Endpoints { return endpoints(os.Getenv) }

func endpoints(env func(string) string) Endpoints {
	return Endpoints{
		Spanner: hostPort(env(emulator.SpannerVariable)), PubSub: hostPort(env(emulator.PubSubVariable)),
		Storage:  baseURL(env(emulator.StorageVariable)),
		BigQuery: baseURL(env(emulator.BigQueryVariable)), BigQueryStorage: hostPort(env(emulator.BigQueryStorageVariable)),
	}
}

func hostPort(s string) string { return strings.TrimPrefix(s, "http://") }

func baseURL(s string) string {
	if s != "" && !strings.Contains(s, "://") {
		s = "http://" + s
	}
	return strings.TrimSuffix(s, "/")
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
	return e.spannerClientAs(ctx, db, "")
}

// spannerClientAs is spannerClient with a database role.
func (e Endpoints) spannerClientAs(ctx context.Context, db, role string) (*spanner.Client, error) {
	c, err := spanner.NewClientWithConfig(ctx, db, spanner.ClientConfig{DisableNativeMetrics: e.Spanner != "", DatabaseRole: role}, plaintext(e.Spanner)...)
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

func (e Endpoints) bigqueryClient(ctx context.Context, project string) (*bigquery.Client, error) {
	var opts []option.ClientOption
	if e.BigQuery != "" {
		opts = append(opts, option.WithEndpoint(e.BigQuery+"/bigquery/v2/"), option.WithoutAuthentication())
	}
	c, err := bigquery.NewClient(ctx, project, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to BigQuery project %s: %w", project, err)
	}
	return c, nil
}
