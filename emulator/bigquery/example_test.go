package bigquery_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"cloud.google.com/go/bigquery"

	emulator "github.com/spanledger/spanledger/emulator/bigquery"
)

func Example() {
	ctx := context.Background()
	server, err := emulator.Start(ctx, emulator.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	client, err := bigquery.NewClient(ctx, "my-project", server.ClientOptions()...)
	if err != nil {
		log.Fatal(err)
	}
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	defer client.Close()

	if err := client.Dataset("shop").Create(ctx, nil); err != nil {
		log.Fatal(err)
	}
	orders := client.Dataset("shop").Table("orders")
	if err := orders.Create(ctx, &bigquery.TableMetadata{Schema: bigquery.Schema{{Name: "id", Type: bigquery.IntegerFieldType}}}); err != nil {
		log.Fatal(err)
	}
	it, err := client.Query("SELECT COUNT(*) FROM shop.orders").Read(ctx)
	if err != nil {
		log.Fatal(err)
	}
	var row []bigquery.Value
	if err := it.Next(&row); err != nil {
		log.Fatal(err)
	}
	fmt.Println(row)
	// Output: [0]
}
