package spanner_test

import (
	"context"
	"fmt"
	"log"

	cloudspanner "cloud.google.com/go/spanner"
	database "cloud.google.com/go/spanner/admin/database/apiv1"
	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instance "cloud.google.com/go/spanner/admin/instance/apiv1"
	instancepb "cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/spanledger/spanledger/emulator/spanner"
)

// A server in the process, and the official client on it. A program of your own only needs SPANNER_EMULATOR_HOST set to
// the server's address.
func Example() {
	ctx := context.Background()
	srv, err := spanner.Start(ctx, spanner.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	dial := []option.ClientOption{
		option.WithEndpoint("passthrough:///" + srv.Addr()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}

	instances, err := instance.NewInstanceAdminClient(ctx, dial...)
	if err != nil {
		log.Fatal(err)
	}
	defer instances.Close()
	if _, err := instances.CreateInstance(ctx, &instancepb.CreateInstanceRequest{Parent: "projects/shop", InstanceId: "main"}); err != nil {
		log.Fatal(err)
	}
	databases, err := database.NewDatabaseAdminClient(ctx, dial...)
	if err != nil {
		log.Fatal(err)
	}
	defer databases.Close()
	if _, err := databases.CreateDatabase(ctx, &databasepb.CreateDatabaseRequest{
		Parent: "projects/shop/instances/main", CreateStatement: "CREATE DATABASE orders",
		ExtraStatements: []string{
			"CREATE TABLE wallets (id STRING(20) NOT NULL, cents INT64 NOT NULL) PRIMARY KEY (id)",
			"CREATE CHANGE STREAM everything FOR ALL",
		},
	}); err != nil {
		log.Fatal(err)
	}

	client, err := cloudspanner.NewClientWithConfig(ctx, "projects/shop/instances/main/databases/orders", cloudspanner.ClientConfig{DisableNativeMetrics: true}, dial...)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Apply(ctx, []*cloudspanner.Mutation{cloudspanner.Insert("wallets", []string{"id", "cents"}, []any{"ann", 500})}); err != nil {
		log.Fatal(err)
	}
	row, err := client.Single().ReadRow(ctx, "wallets", cloudspanner.Key{"ann"}, []string{"cents"})
	if err != nil {
		log.Fatal(err)
	}
	var cents int64
	if err := row.Columns(&cents); err != nil {
		log.Fatal(err)
	}
	fmt.Println("ann has", cents)
	// Output: ann has 500
}
