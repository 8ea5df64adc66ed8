package changestream

import (
	"context"
	"sync"
	"time"

	"github.com/spanledger/spanledger/change"
)

// clockAge is how long Spanner's answer is counted on from.
const clockAge = 10 * time.Minute

// clock is Spanner's, whatever the one here says: asked now and then, and counted on from in between.
type clock struct {
	ask func(context.Context) (change.Timestamp, error)

	mu   sync.Mutex
	said change.Timestamp // 0: it must be asked
	at   time.Time
}

func (c *clock) now(ctx context.Context) (change.Timestamp, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	passed := time.Since(c.at)
	if c.said == 0 || passed > clockAge {
		var err error
		if c.said, err = c.ask(ctx); err != nil {
			c.said = 0
			return 0, err
		}
		c.at, passed = time.Now(), 0
	}
	return c.said + change.Timestamp(passed.Microseconds()), nil
}

// forget has it asked again: while the machine slept no time passed here.
func (c *clock) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = 0
}
