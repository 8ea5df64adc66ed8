package pipeline

import "testing"

// TestLaneGroupsKeepOrder holds few groups and many against the definition: one group a lane, items in the order they came.
func TestLaneGroupsKeepOrder(t *testing.T) {
	for _, n := range []int{1, fewGroups, fewGroups + 1, 10 * fewGroups} {
		lanes := make([]*lane, n)
		for i := range lanes {
			lanes[i] = newLane(nil)
		}
		var groups laneGroups
		for round := range 3 {
			for i, l := range lanes {
				c := tapeChange(0, 1)
				c.Position.Mod = int32(round*n + i)
				groups.add(l, item{change: &c})
			}
		}
		if len(groups.list) != n {
			t.Fatalf("%d lanes have %d groups", n, len(groups.list))
		}
		for i, g := range groups.list {
			for round, it := range g.items {
				if g.lane != lanes[i] || len(g.items) != 3 || it.change.Position.Mod != int32(round*n+i) {
					t.Fatalf("%d lanes: group %d has %d items, number %d is change %d", n, i, len(g.items), round, it.change.Position.Mod)
				}
			}
		}
	}
}
