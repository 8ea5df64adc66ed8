package emulator_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"cloud.google.com/go/spanner"
	"google.golang.org/api/iterator"

	"github.com/spanledger/spanledger/emulator"
	"github.com/spanledger/spanledger/emulator/spanner/fault"
)

// changeRecord is one row of a change stream, as far as this example looks at it.
type changeRecord struct {
	Data []*struct {
		Table   string `spanner:"table_name"`
		ModType string `spanner:"mod_type"`
		Tag     string `spanner:"transaction_tag"`
		Mods    []*struct {
			Keys spanner.NullJSON `spanner:"keys"`
			New  spanner.NullJSON `spanner:"new_values"`
		} `spanner:"mods"`
	} `spanner:"data_change_record"`
	Children []*struct {
		Partitions []*struct {
			Token string `spanner:"token"`
		} `spanner:"child_partitions"`
	} `spanner:"child_partitions_record"`
}

// readStream calls a change stream's read function and hands over its rows.
func readStream(ctx context.Context, client *spanner.Client, start, end time.Time, token *string, fn func(*changeRecord)) error {
	it := client.Single().Query(ctx, spanner.Statement{
		SQL:    "SELECT ChangeRecord FROM READ_everything(@start, @end, @token, 1000)",
		Params: map[string]any{"start": start, "end": end, "token": token},
	})
	defer it.Stop()
	for {
		row, err := it.Next()
		if err == iterator.Done {
			return nil
		}
		var column struct{ ChangeRecord []*changeRecord }
		if err == nil {
			err = row.ToStructLenient(&column) // there are more fields than this program asks for
		}
		if err != nil {
			return err
		}
		for _, r := range column.ChangeRecord {
			fn(r)
		}
	}
}

// A database with a change stream, a write, and what the stream says about it. In a test, t.Fatal stands for log.Fatal.
func Example() {
	ctx := context.Background()
	cloud, err := emulator.Start(ctx, emulator.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer cloud.Close()
	const name = "projects/shop/instances/main/databases/wallets"
	if _, err := cloud.Spanner.CreateDatabase(ctx, name,
		"CREATE TABLE wallets (id STRING(20) NOT NULL, cents INT64 NOT NULL) PRIMARY KEY (id)",
		"CREATE CHANGE STREAM everything FOR wallets",
	); err != nil {
		log.Fatal(err)
	}
	config := spanner.ClientConfig{DisableNativeMetrics: true}
	client, err := spanner.NewClientWithConfig(ctx, name, config, cloud.Spanner.ClientOptions()...)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	start, err := client.Apply(ctx, []*spanner.Mutation{spanner.Insert("wallets", []string{"id", "cents"}, []any{"ann", 500})})
	if err != nil {
		log.Fatal(err)
	}
	end, err := client.Apply(ctx, []*spanner.Mutation{spanner.Update("wallets", []string{"id", "cents"}, []any{"ann", 350})},
		spanner.TransactionTag("withdraw"))
	if err != nil {
		log.Fatal(err)
	}

	// Without a token the read function answers the partitions; with one, their changes. Both bounds are inclusive.
	var tokens []string
	if err := readStream(ctx, client, start, end, nil, func(r *changeRecord) {
		for _, c := range r.Children {
			for _, p := range c.Partitions {
				tokens = append(tokens, p.Token)
			}
		}
	}); err != nil {
		log.Fatal(err)
	}
	for _, token := range tokens {
		if err := readStream(ctx, client, start, end, &token, func(r *changeRecord) {
			for _, d := range r.Data {
				for _, m := range d.Mods {
					fmt.Printf("%s %s %v %v tag %q\n", d.ModType, d.Table, m.Keys, m.New, d.Tag)
				}
			}
		}); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// INSERT wallets {"id":"ann"} {"cents":"500"} tag ""
	// UPDATE wallets {"id":"ann"} {"cents":"350"} tag "withdraw"
}

// What a real Spanner does on a bad day, on command: the second commit succeeds, and its answer is lost.
func Example_faults() {
	ctx := context.Background()
	cloud, err := emulator.Start(ctx, emulator.Options{Without: []emulator.Service{emulator.PubSub, emulator.Storage, emulator.BigQuery}})
	if err != nil {
		log.Fatal(err)
	}
	defer cloud.Close()
	const name = "projects/shop/instances/main/databases/wallets"
	if _, err := cloud.Spanner.CreateDatabase(ctx, name, "CREATE TABLE t (k INT64) PRIMARY KEY (k)"); err != nil {
		log.Fatal(err)
	}
	client, err := spanner.NewClientWithConfig(ctx, name, spanner.ClientConfig{DisableNativeMetrics: true}, cloud.Spanner.ClientOptions()...)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	plan, err := fault.Parse("lost nth=2 method=Commit")
	if err != nil {
		log.Fatal(err)
	}
	if err := cloud.Spanner.Faults().Add(plan.Rules...); err != nil {
		log.Fatal(err)
	}
	for k := range 2 {
		_, err := client.Apply(ctx, []*spanner.Mutation{spanner.Insert("t", []string{"k"}, []any{k})}, spanner.ApplyAtLeastOnce())
		fmt.Println(k, spanner.ErrCode(err))
	}
	// Output:
	// 0 OK
	// 1 AlreadyExists
}
