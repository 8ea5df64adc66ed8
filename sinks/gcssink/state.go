package gcssink

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spanledger/spanledger/archive"
	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// stateVersion is the version of chainState this release writes and reads.
const stateVersion = 1

// chainState is what End.State holds: the chain's last segment, whose digest the next one must name. The position is in
// End.Through: it may be larger than a state.
type chainState struct {
	Version int    `json:"v"`
	Name    string `json:"name"`
	SHA256  string `json:"sha256"`
}

func endOf(last archive.Segment, segments ...change.Segment) (sinks.End, error) {
	state, err := json.Marshal(chainState{stateVersion, last.Name, last.SHA256})
	if err != nil {
		return sinks.End{}, err
	}
	return sinks.End{Through: last.Last, State: state, Segments: segments}, nil
}

// errNoState says that an end has a position without the note that belongs to it: someone set the checkpoint.
var errNoState = errors.New("the checkpoint does not say which segment is the chain's last")

// lastOf is the segment an end tells of: its name, last position and digest; the zero Segment before the first.
func lastOf(end sinks.End) (archive.Segment, error) {
	var last archive.Segment
	if len(end.State) == 0 {
		if end.Through.IsZero() {
			return last, nil
		}
		return last, errNoState
	}
	var state chainState
	if err := json.Unmarshal(end.State, &state); err != nil {
		return last, fmt.Errorf("the sink's state in the checkpoint cannot be read: %w", err)
	}
	if state.Version != stateVersion {
		return last, fmt.Errorf("the sink's state in the checkpoint has version %d, this release reads version %d: use the release that wrote it or a newer one", state.Version, stateVersion)
	}
	digest, err := hex.DecodeString(state.SHA256)
	if err != nil || len(digest) != 32 || state.Name == "" || end.Through.IsZero() {
		return last, fmt.Errorf("the sink's state in the checkpoint names segment %.200q with SHA-256 %.80q through %s, which cannot be", state.Name, state.SHA256, end.Through)
	}
	last.Name, last.SHA256, last.Last = state.Name, state.SHA256, end.Through
	return last, nil
}
