package server

import (
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// outcome is how a transaction ended.
type outcome struct {
	result store.CommitResult
	err    error
}

// answer is the answer to a commit that ended so.
func (o *outcome) answer(r *sppb.CommitRequest) (*sppb.CommitResponse, error) {
	if o.err != nil {
		return nil, o.err
	}
	return commitResponse(o.result, r.GetReturnCommitStats()), nil
}

const (
	// maxOutcomes is how many outcomes are remembered: those of ten seconds or more, as fast as clients can commit.
	maxOutcomes = 100_000
	// outcomeLife is how long they are remembered.
	outcomeLife = time.Minute
)

// outcomes remembers how transactions ended, by their numbers, for clients that have lost an answer and ask again: what was
// committed must not seem aborted, or it would be done twice.
type outcomes struct {
	committed map[int64]store.CommitResult // without pointers, which the garbage collector would follow
	failed    map[int64]error
	order     []ending
}

type ending struct{ number, at int64 }

func (os *outcomes) add(number int64, o outcome, now time.Time) {
	if os.committed == nil {
		os.committed, os.failed = map[int64]store.CommitResult{}, map[int64]error{}
	}
	if os.find(number) == nil {
		os.order = append(os.order, ending{number, now.UnixMicro()})
	}
	if o.err != nil {
		os.failed[number] = o.err
	} else {
		os.committed[number] = o.result
		delete(os.failed, number)
	}
	if len(os.order) > maxOutcomes {
		os.drop(1)
	}
}

func (os *outcomes) find(number int64) *outcome {
	if res, ok := os.committed[number]; ok {
		return &outcome{result: res}
	}
	if err, ok := os.failed[number]; ok {
		return &outcome{err: err}
	}
	return nil
}

// forget drops what is older than outcomeLife.
func (os *outcomes) forget(now time.Time) {
	before := now.Add(-outcomeLife).UnixMicro()
	n := 0
	for n < len(os.order) && os.order[n].at < before {
		n++
	}
	os.drop(n)
}

func (os *outcomes) drop(n int) {
	for _, e := range os.order[:n] {
		delete(os.committed, e.number)
		delete(os.failed, e.number)
	}
	if os.order = os.order[n:]; len(os.order) == 0 {
		*os = outcomes{} // maps do not shrink
	}
}
