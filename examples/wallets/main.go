// Command wallets is a program that knows Spanner by its official client only: it moves money between wallets in concurrent
// transactions, reads the change stream of the database to its end, and compares the two. Run it on an embedded Spanner:
//
//	spanledger emulator --only spanner --churn 50ms -- go run ./examples/wallets
//
// On Google Cloud give it an instance with -instance; it makes a database and drops it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"strings"
	"time"

	"cloud.google.com/go/spanner"
	database "cloud.google.com/go/spanner/admin/database/apiv1"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instance "cloud.google.com/go/spanner/admin/instance/apiv1"
	"cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	wallets   = 20
	opening   = 1000 // cents
	clerks    = 4
	transfers = 100 // of each clerk
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("wallets: ")
	in := flag.String("instance", "projects/shop/instances/main", "the Spanner instance; on an emulator it is made")
	flag.Parse()
	if err := run(context.Background(), *in); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, in string) (err error) {
	name, drop, err := create(ctx, in)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	client, err := spanner.NewClientWithConfig(ctx, name, spanner.ClientConfig{DisableNativeMetrics: true})
	if err != nil {
		return err
	}
	defer client.Close()

	var opened []*spanner.Mutation
	for id := range int64(wallets) {
		opened = append(opened, spanner.Insert("wallets", []string{"id", "cents"}, []any{id, opening}))
	}
	start, err := client.Apply(ctx, opened)
	if err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for range clerks {
		group.Go(func() error { return clerk(groupCtx, client) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return compare(ctx, client, start)
}

// create makes a database and answers how it is dropped.
func create(ctx context.Context, in string) (name string, drop func() error, err error) {
	instances, err := instance.NewInstanceAdminClient(ctx)
	if err != nil {
		return "", nil, err
	}
	defer instances.Close()
	databases, err := database.NewDatabaseAdminClient(ctx)
	if err != nil {
		return "", nil, err
	}
	project, id, ok := strings.Cut(in, "/instances/")
	if !ok {
		return "", nil, fmt.Errorf("-instance %s: want projects/PROJECT/instances/INSTANCE", in)
	}
	if _, err := instances.GetInstance(ctx, &instancepb.GetInstanceRequest{Name: in}); status.Code(err) == codes.NotFound {
		making, err := instances.CreateInstance(ctx, &instancepb.CreateInstanceRequest{Parent: project, InstanceId: id,
			Instance: &instancepb.Instance{Config: project + "/instanceConfigs/emulator-config", DisplayName: "Main", NodeCount: 1}})
		if err != nil {
			return "", nil, err
		}
		if _, err := making.Wait(ctx); err != nil {
			return "", nil, err
		}
	} else if err != nil {
		return "", nil, err
	}
	short := fmt.Sprintf("wallets-%d", time.Now().UnixMilli())
	making, err := databases.CreateDatabase(ctx, &databasepb.CreateDatabaseRequest{
		Parent: in, CreateStatement: "CREATE DATABASE `" + short + "`",
		ExtraStatements: []string{
			"CREATE TABLE wallets (id INT64 NOT NULL, cents INT64 NOT NULL, CONSTRAINT funded CHECK (cents >= 0)) PRIMARY KEY (id)",
			"CREATE CHANGE STREAM everything FOR ALL OPTIONS (value_capture_type = 'NEW_ROW_AND_OLD_VALUES')",
		},
	})
	if err != nil {
		return "", nil, err
	}
	db, err := making.Wait(ctx)
	if err != nil {
		return "", nil, err
	}
	return db.Name, func() error {
		defer databases.Close()
		return databases.DropDatabase(ctx, &databasepb.DropDatabaseRequest{Database: db.Name})
	}, nil
}

// clerk moves money from one wallet to another, again and again.
func clerk(ctx context.Context, client *spanner.Client) error {
	for range transfers {
		from, to := rand.Int64N(wallets), rand.Int64N(wallets-1)
		if to >= from {
			to++
		}
		_, err := client.ReadWriteTransaction(ctx, func(ctx context.Context, txn *spanner.ReadWriteTransaction) error {
			var balance [2]int64
			for i, id := range []int64{from, to} {
				row, err := txn.ReadRow(ctx, "wallets", spanner.Key{id}, []string{"cents"})
				if err != nil {
					return err
				}
				if err := row.Column(0, &balance[i]); err != nil {
					return err
				}
			}
			amount := min(balance[0], 1+rand.Int64N(100))
			columns := []string{"id", "cents"}
			return txn.BufferWrite([]*spanner.Mutation{
				spanner.Update("wallets", columns, []any{from, balance[0] - amount}), spanner.Update("wallets", columns, []any{to, balance[1] + amount}),
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}
