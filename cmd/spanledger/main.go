// Command spanledger turns Cloud Spanner into an event-sourced system: it appends events, and carries every committed
// change, in order, to an archive on Cloud Storage, to Pub/Sub and to BigQuery.
package main

import "github.com/spanledger/spanledger/cli"

func main() { cli.Main() }
