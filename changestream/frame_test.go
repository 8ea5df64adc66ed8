package changestream

import (
	"testing"

	"github.com/spanledger/spanledger/change"
)

// TestHeartbeatBehindChildrenProvesNothing checks I5: a checkpoint at or past the partition's end would make the next start
// look like lost data.
func TestHeartbeatBehindChildrenProvesNothing(t *testing.T) {
	f := newFramer("p", 10, 1<<20)
	if err := f.child(100, []change.Partition{{Token: "c", Start: 100}}); err != nil {
		t.Fatal(err)
	}
	f.heartbeat(150)
	if frame := f.cut(); frame == nil || frame.Through != 99 {
		t.Errorf("the frame behind the children is %+v, want one through 99", frame)
	}
	if frame, err := f.finish(); err != nil || frame.Through != 99 || !frame.Ended || len(frame.Children) != 1 {
		t.Errorf("the last frame is %+v: %v", frame, err)
	}
}
