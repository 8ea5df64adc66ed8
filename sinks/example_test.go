package sinks_test

import (
	"context"
	"fmt"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// counter is a whole sink: it counts the changes of each table. The engine batches, retries, orders and checkpoints.
type counter struct{ counts map[string]int }

func (s *counter) Spec() sinks.Spec {
	return sinks.Spec{LaneBy: sinks.LaneByKey, Lanes: 1, MaxChanges: 1000, MaxBytes: 1 << 20}
}

func (s *counter) Open(context.Context) error {
	s.counts = make(map[string]int)
	return nil
}

func (s *counter) Write(_ context.Context, batch *sinks.Batch) error {
	for i := range batch.Changes {
		s.counts[batch.Changes[i].Table.Name]++
	}
	return nil // all of the batch is durable now
}

func (s *counter) Close(context.Context) error {
	fmt.Println(s.counts)
	return nil
}

// A sink of one's own: a type with four methods, registered under a name that configuration can use. Its author then
// runs sinktest.Run on it.
func Example() {
	sinks.Register(sinks.Type{
		Name: "counter",
		New: func(name string, decode func(any) error) (sinks.Sink, error) {
			var none struct{}
			return new(counter), decode(&none)
		},
	})

	// What the engine does with it:
	ctx := context.Background()
	s, err := sinks.New("counter", "my-counter", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := s.Open(ctx); err != nil {
		fmt.Println(err)
		return
	}
	carts := change.NewTable("carts", 1, nil)
	err = s.(sinks.Writer).Write(ctx, &sinks.Batch{Changes: []change.Change{{Table: carts}, {Table: carts}}})
	fmt.Println(err, s.Close(ctx))
	// Output:
	// map[carts:2]
	// <nil> <nil>
}
