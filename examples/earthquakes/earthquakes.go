// Package earthquakes is a week of real events to try Spanledger with: 1,703 seismic events as one GeoJSON document, from
// the USGS real-time feed (all_week, February 2018; U.S. public domain), as kept in the vega-datasets collection.
package earthquakes

import (
	"bytes"
	"compress/gzip"
	_ "embed" // the data
	"io"
)

//go:embed earthquakes.geojson.gz
var packed []byte

// Name is the document's name, for messages and for the events' source.
const Name = "earthquakes.geojson"

// Map is the jq map that turns the document into events: one stream a seismic network.
const Map = `.features[] | {
  stream: ("quake/" + .properties.net),
  id,
  type: "earthquake.recorded",
  time: (.properties.time | (. / 1000 | floor | todate | rtrimstr("Z")) + "." + ("00\(. % 1000)"[-3:]) + "Z"),
  data: .
}`

// Open returns the document.
func Open() (io.ReadCloser, error) { return gzip.NewReader(bytes.NewReader(packed)) }
