package changestream

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	embedded "github.com/spanledger/spanledger/emulator/spanner"
)

// childVariable makes the test program an embedded Spanner with that many partitions, which is then in no one's heap.
const childVariable = "SPANLEDGER_TEST_SPANNER"

func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv(childVariable)); err == nil {
		os.Exit(serve(n))
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
		// It also asks for a metadata server, and keeps the connection idle for a while.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// serve serves until standard input ends, which it does with the parent.
func serve(partitions int) int {
	s, err := embedded.Start(context.Background(), embedded.Options{Partitions: partitions})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.Addr())
	if _, err = io.Copy(io.Discard, os.Stdin); err == nil {
		err = s.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
