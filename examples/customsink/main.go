// Command customsink is spanledger, all of it, with one sink more.
package main

import "github.com/spanledger/spanledger/cli"

func main() { cli.Main(jsonLines) }
