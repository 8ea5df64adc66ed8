package changestream

import (
	"fmt"
	"slices"
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
	if got := finished(t, f); len(got) != 1 || got[0].Through != 99 || !got[0].Ended || len(got[0].Children) != 1 {
		t.Errorf("the last frames are %+v", got)
	}
}

func finished(t *testing.T, f *framer) (frames []*change.Frame) {
	t.Helper()
	if err := f.finish(func(frame *change.Frame) error { frames = append(frames, frame); return nil }); err != nil {
		t.Fatal(err)
	}
	return frames
}

// TestMoveInClosesTheFrame checks I3 at the framer: a frame ends exactly at a move-in, with the rows of that timestamp on both
// sides of it, and a partition's end closes the last one.
func TestMoveInClosesTheFrame(t *testing.T) {
	f := newFramer("p", 9, 1<<20)
	row := func(commit change.Timestamp) {
		t.Helper()
		must(t, f.begin(commit))
		f.held = append(f.held, change.Change{Position: change.Position{Commit: commit, Sequence: fmt.Sprint(len(f.held))}})
		must(t, f.end(1))
	}
	log := func(frames ...*change.Frame) (out []string) {
		for _, frame := range frames {
			out = append(out, logFrame(frame))
		}
		return out
	}
	row(10)
	must(t, f.moved(20, nil, true)) // only out: nothing waits here
	row(30)
	must(t, f.moved(30, []string{"s"}, false))
	must(t, f.moved(30, []string{"t"}, true))
	row(30)
	must(t, f.start(40, []change.Partition{part("c", 40)}))
	if got := log(f.cut(), f.cut()); !slices.Equal(got, []string{"@10 @30 @30 <=30 +c out <-s <-t", "<=39"}) {
		t.Fatalf("frames %q", got)
	}
	must(t, f.moved(50, []string{"u"}, false))
	row(50)
	must(t, f.endAt(50))
	f.heartbeat(60)
	if got := log(f.cut()); !slices.Equal(got, []string{"<=49"}) {
		t.Fatalf("I5: a frame before the query has ended well: %q", got)
	}
	if got := log(finished(t, f)...); !slices.Equal(got, []string{"@50 <=50 <-u end"}) {
		t.Fatalf("last frames %q", got)
	}
	for what, err := range map[string]error{
		"a move behind the end": f.moved(70, nil, true), "a start behind the end": f.start(70, nil), "an end behind the end": f.endAt(70), "a row behind the end": f.begin(70),
	} {
		if err == nil {
			t.Errorf("%s is no error", what)
		}
	}
	f.drop()
	if err := f.moved(50, nil, true); err == nil {
		t.Error("a move at a timestamp that was complete is no error")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
