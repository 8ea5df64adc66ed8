// Package row is the embedded BigQuery's rows: the columns a table declares, the values they hold, and the two forms rows
// travel in: protobuf messages on the way in (Decoder), JSON cells on the way out (JSON).
//
// It knows neither tables nor requests: package store keeps rows, package sql compares them, the package above serves them.
// Every text that enters here, a schema, a descriptor, a row, may be hostile: the answer is an error, never a panic.
package row
