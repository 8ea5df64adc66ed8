package state

import (
	"strings"
	"testing"
)

// What Room says there is place for can be stored, and nothing more.
func TestSnapshotRoom(t *testing.T) {
	s := TableSnapshot{Number: 1, Table: "carts", State: SnapshotRunning, Cursor: `["k"]`, Chunks: []SnapshotChunk{{At: 1, Through: `["k"]`, Dropped: []string{`["j"]`}}}}
	room := s.Room()
	key := strings.Repeat("x", 1000)
	var dropped []string
	for left := room - 128; left >= len(key)+8; left -= len(key) + 8 {
		dropped = append(dropped, key)
	}
	s.Chunks = append(s.Chunks, SnapshotChunk{At: 2, Dropped: dropped})
	if err := s.check(); err != nil || s.Room() < 0 || len(dropped) < 7000 {
		t.Errorf("%d keys, room for %d more bytes: %v", len(dropped), s.Room(), err)
	}
	s.Chunks[1].Dropped = append(dropped, key)
	if err := s.check(); err == nil || !strings.Contains(err.Error(), "make the chunks smaller") {
		t.Errorf("more than there is room for: %v", err)
	}
}
