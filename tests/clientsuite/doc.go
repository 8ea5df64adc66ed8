// Package clientsuite runs the integration tests of the official Go client of Spanner against the embedded one and holds
// the outcome to the table in emulator/spanner/CLIENT_TESTS.md: a test that begins or ceases to pass is an error until the
// table says so.
//
//	go test ./tests/clientsuite                  # the table lists exactly the tests of the client in go.mod
//	go test ./tests/clientsuite -suite           # build and run them: half a minute, most of it the compiler's
//	go test ./tests/clientsuite -suite -update   # and write the outcome into the table; reasons stay as they are
//
// The tests are those of the module in the Go module cache. They are compiled from a copy in the temporary folder with one
// change: the client skips 26 of its tests where SPANNER_EMULATOR_HOST is set, for what Google's emulator lacks, and the
// copy does not.
//
// The package has tests only.
package clientsuite
