package changes

import "github.com/spanledger/spanledger/emulator/spanner/store"

// Clock is the time a Log lives by: the database's.
type Clock = store.Clock

// SystemClock is the real time; inside testing/synctest it is the bubble's.
type SystemClock = store.SystemClock
