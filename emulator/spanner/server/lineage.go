package server

import (
	"strconv"
	"strings"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// lineage is a transaction together with the aborted ones that it tries again. On a multiplexed session the client names
// the last of them when it begins; on an ordinary one it is the session's last, if that was aborted. A transaction's id
// carries the lineage, so there is nothing to remember of those that are never tried again.
type lineage struct {
	born   int64 // the number of the first; 0 if there is none
	aborts int
}

const (
	// patience is how often a lineage is aborted before it gets the right of way.
	patience = 3
	// firstRight is how long others let it pass at first, and each time twice as long, up to maxIdle.
	firstRight = time.Second
)

// id makes the id of the lineage's transaction number n.
func (l lineage) id(n int64) string {
	id := readWritePrefix + strconv.FormatInt(n, 36)
	if l.aborts == 0 {
		return id
	}
	return id + "/" + strconv.FormatInt(l.born, 36) + "/" + strconv.Itoa(l.aborts)
}

// parseID reads an id: the transaction's number, which is 0 if it is not one, and its lineage.
func parseID(id string) (number int64, l lineage) {
	rest, ok := strings.CutPrefix(id, readWritePrefix)
	if !ok {
		return 0, lineage{}
	}
	parts := strings.Split(rest, "/")
	number, err := strconv.ParseInt(parts[0], 36, 64)
	l.born = number
	if len(parts) == 3 && err == nil {
		if l.born, err = strconv.ParseInt(parts[1], 36, 64); err == nil {
			l.aborts, err = strconv.Atoi(parts[2])
		}
	}
	if err != nil || number <= 0 || l.born <= 0 || l.aborts < 0 || len(parts) != 1 && len(parts) != 3 {
		return 0, lineage{}
	}
	return number, l
}

// again is the lineage of the transaction number n that tries the last one of l again, or of one that tries nothing again.
func (l lineage) again(n int64) lineage {
	if l.born == 0 || l.born >= n {
		return lineage{born: n}
	}
	// More aborts than these change nothing.
	return lineage{born: l.born, aborts: min(l.aborts, 1000) + 1}
}

// options are those of the store for a transaction of the lineage.
func (l lineage) options(o *sppb.TransactionOptions) store.TxnOptions {
	out := store.TxnOptions{RepeatableRead: o.GetIsolationLevel() == sppb.TransactionOptions_REPEATABLE_READ, Age: l.born}
	if more := l.aborts - patience; more >= 0 {
		out.RightOfWay = min(firstRight<<min(more, 10), maxIdle)
	}
	return out
}
