package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"cloud.google.com/go/spanner"
	"github.com/spanledger/spanledger/ingest"
)

func Example() {
	ctx := context.Background()
	client, err := spanner.NewClient(ctx, "projects/p/instances/i/databases/d")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	store := ingest.New(client, ingest.Options{})

	opened := ingest.Event{ID: "order-17", Source: "/checkout", Type: "cart.opened", Data: []byte(`{"items":[]}`)}
	result, err := store.Append(ctx, "cart/17", ingest.None, opened)
	var conflict *ingest.VersionError
	switch {
	case errors.As(err, &conflict):
		fmt.Println("someone was faster: the cart is at version", conflict.Actual)
	case err != nil:
		log.Fatal(err)
	default:
		fmt.Println("version", result.Last(), "committed at", result.CommittedAt)
	}

	err = store.Read(ctx, "cart/17", 1, func(e ingest.Recorded) error {
		fmt.Println(e.Version, e.Type, string(e.Data))
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}

// A file of one document, whose features become events.
func ExampleLoad() {
	ctx := context.Background()
	client, err := spanner.NewClient(ctx, "projects/p/instances/i/databases/d")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	summary, err := ingest.Load(ctx, ingest.New(client, ingest.Options{}), []string{"earthquakes.geojson"}, ingest.LoadOptions{
		Map: `.features[] | {stream: "quake/\(.properties.net)", id, type: "earthquake.recorded",
			time: (.properties.time / 1000 | todate), data: .}`,
		Reject: "rejects.jsonl",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(summary)
}
