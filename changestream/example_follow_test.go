package changestream_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"cloud.google.com/go/spanner"
	database "cloud.google.com/go/spanner/admin/database/apiv1"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instance "cloud.google.com/go/spanner/admin/instance/apiv1"
	"cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
)

const (
	shopInstance = "projects/shop/instances/shop"
	shopDatabase = shopInstance + "/databases/shop"
)

// shop serves an embedded Spanner, and makes a database with a table and a change stream in it.
func shop(ctx context.Context) (*spanner.Client, func()) {
	server, err := embedded.Start(ctx, embedded.Options{})
	check(err)
	check(os.Setenv("SPANNER_EMULATOR_HOST", server.Addr()))
	instances, err := instance.NewInstanceAdminClient(ctx)
	check(err)
	defer instances.Close()
	made, err := instances.CreateInstance(ctx, &instancepb.CreateInstanceRequest{
		Parent: "projects/shop", InstanceId: "shop", Instance: &instancepb.Instance{DisplayName: "shop", NodeCount: 1},
	})
	check(err)
	_, err = made.Wait(ctx)
	check(err)
	databases, err := database.NewDatabaseAdminClient(ctx)
	check(err)
	defer databases.Close()
	op, err := databases.CreateDatabase(ctx, &databasepb.CreateDatabaseRequest{Parent: shopInstance, CreateStatement: "CREATE DATABASE shop", ExtraStatements: []string{
		"CREATE TABLE Stock (Item STRING(20) NOT NULL, Amount INT64) PRIMARY KEY (Item)",
		"CREATE CHANGE STREAM Everything FOR ALL",
	}})
	check(err)
	_, err = op.Wait(ctx)
	check(err)
	client, err := spanner.NewClientWithConfig(ctx, shopDatabase, spanner.ClientConfig{DisableNativeMetrics: true})
	check(err)
	return client, func() {
		client.Close()
		check(server.Close())
		check(os.Unsetenv("SPANNER_EMULATOR_HOST"))
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func put(ctx context.Context, client *spanner.Client, item string, amount int64) change.Timestamp {
	at, err := client.Apply(ctx, []*spanner.Mutation{spanner.InsertOrUpdate("Stock", []string{"Item", "Amount"}, []any{item, amount})})
	check(err)
	return change.TimestampOf(at)
}

// All changes from the stream's creation through a commit timestamp, each key's in order. With an end of 0 the loop goes on
// until its context ends.
func ExampleReader_Changes() {
	ctx := context.Background()
	client, stop := shop(ctx)
	defer stop()
	put(ctx, client, "pen", 5)
	last := put(ctx, client, "pen", 4)

	r, err := changestream.New(ctx, changestream.Options{Database: shopDatabase, Stream: "Everything"})
	check(err)
	defer r.Close()
	start, err := r.Earliest(ctx)
	check(err)
	for c, err := range r.Changes(ctx, start, last) {
		check(err)
		fmt.Printf("%s %s%s: %s\n", c.Op, c.Table.Name, c.AppendKey(nil), c.After.At(1))
	}
	// Output:
	// INSERT Stock["pen"]: "5"
	// UPDATE Stock["pen"]: "4"
}

// Frame by frame the promises show too: through which commit timestamp a partition has been handed over. Where Follow ends
// it says how far the whole stream was, and another goes on there.
func ExampleReader_Follow() {
	ctx := context.Background()
	client, stop := shop(ctx)
	defer stop()
	r, err := changestream.New(ctx, changestream.Options{Database: shopDatabase, Stream: "Everything", Heartbeat: 100 * time.Millisecond})
	check(err)
	defer r.Close()
	start, err := r.Now(ctx)
	check(err)
	first := put(ctx, client, "pen", 5)
	last := put(ctx, client, "ink", 1)

	show := func(f *change.Frame) error {
		for i := range f.Changes {
			fmt.Println(f.Changes[i].Op, string(f.Changes[i].Key[0]), f.Changes[i].Position.Commit <= f.Through)
		}
		return nil
	}
	through, err := r.Follow(ctx, start, first, show)
	check(err)
	fmt.Println(through == first)
	_, err = r.Follow(ctx, through+1, last, show)
	check(err)
	// Output:
	// INSERT "pen" true
	// true
	// INSERT "ink" true
}
