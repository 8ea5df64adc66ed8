package changestream_test

import (
	"fmt"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/changestream"
)

// A merge is announced by both its parents and starts when both are finished.
func ExampleGraph() {
	g := changestream.NewGraph()
	g.Add(change.Partition{Token: "left", Start: 100})
	g.Add(change.Partition{Token: "right", Start: 100})
	for _, p := range g.Startable() {
		fmt.Println("start", p.Token)
	}
	merged := change.Partition{Token: "merged", Start: 200, Parents: []string{"left", "right"}}
	for _, token := range merged.Parents {
		g.Promise(token, merged.Start-1)
		g.Add(merged) // stored before the parent is finished
		if err := g.Finish(token); err != nil {
			fmt.Println(err)
		}
		fmt.Println(token, "finished; startable:", len(g.Startable()))
	}
	// Output:
	// start left
	// start right
	// left finished; startable: 0
	// right finished; startable: 1
}
