package app

import (
	"fmt"
	"io"

	"github.com/spanledger/spanledger/examples/earthquakes"
	"github.com/spanledger/spanledger/ingest"
)

// openExample makes the options load an example that comes with the program, with its own map unless there is one
// already. It returns what to give ingest.Load for files, and what to close afterwards.
func openExample(name string, o *ingest.LoadOptions) ([]string, io.Closer, error) {
	if name != "earthquakes" {
		return nil, nil, fmt.Errorf("unknown example %q: there is earthquakes", name)
	}
	doc, err := earthquakes.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("open the example %s: %w", name, err)
	}
	o.Stdin, o.Source, o.Format = doc, earthquakes.Name, ingest.FormatJSON
	if o.Map == "" {
		o.Map = earthquakes.Map
	}
	return []string{"-"}, doc, nil
}
