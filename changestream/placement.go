package changestream

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spanledger/spanledger/change"
)

// A stream with per_placement_tvf has a read function for each placement, and each of those partitions of its own. They are
// read as one graph: the initial query is asked of every function, and a partition's token is led by its placement, as in
// "eu:AbC…", so that it stays with its function wherever it is stored. A move of keys from another placement names a token that
// is then known to nobody, and holds until the low watermark is there, as every unknown source does (I3).
//
// A placement added later has a function that nobody reads, and no record tells of it. So they are looked for, and at a start
// each must have a partition among those stored: else reading ends with a *PlacementError. To take it in is not sound: the
// watermark may have passed its first changes already (I5).

// placementMark ends the placement that leads a token. Neither has it in itself.
const placementMark = ":"

// PlacementError says that a stream with a read function for each placement has got placements that are not read.
type PlacementError struct {
	Stream     string
	Placements []string
	// Since is when there were none of them yet, by Spanner's clock: nothing in them was committed at or before it. It is 0
	// where they have come since an earlier run.
	Since change.Timestamp
}

// Error says what is not read and what to do.
func (e *PlacementError) Error() string {
	since := "since the pipeline was last running"
	if e.Since != 0 {
		since = "after " + e.Since.String()
	}
	return fmt.Sprintf("changestream: change stream %s has a read function for each placement, and %s came %s: its changes are not read, "+
		"which only a new incarnation does, from before that or with a snapshot", e.Stream, strings.Join(e.Placements, ", "), since)
}

// functions are the names of the stream's read functions behind the dialect's prefix, with the placement that each is for;
// "" is the one function of a stream without them.
func (r *Reader) functions() []string {
	if !r.info.PerPlacement {
		return []string{""}
	}
	return r.info.Placements
}

// function is a read function's name behind the dialect's prefix.
func (r *Reader) function(placement string) string {
	if placement == "" {
		return r.stream
	}
	return r.stream + "_" + placement
}

// placed divides a token into its placement, "" for none, and what Spanner knows it as.
func (r *Reader) placed(token string) (placement, raw string) {
	if !r.info.PerPlacement {
		return "", token
	}
	placement, raw, ok := strings.Cut(token, placementMark)
	if !ok {
		return "", token // of a stream that had not the option then: Spanner does not know it
	}
	return placement, raw
}

// findPlacements lists the placements that the stream has read functions for, by name. A function may also be another
// stream's whose name is longer: it belongs to the longest that fits.
func (r *Reader) findPlacements(ctx context.Context, streams []string) ([]string, error) {
	rows, err := r.rows(ctx, "SELECT routine_name FROM information_schema.routines")
	if err != nil {
		return nil, err
	}
	prefix := r.dialect.functionPrefix(r.info.Mutable)
	var out []string
	for _, row := range rows {
		name, ok := cutPrefixFold(row[0], prefix)
		if !ok {
			continue
		}
		owner, placement := "", ""
		for _, s := range streams {
			if rest, ok := cutPrefixFold(name, s+"_"); ok && len(s) > len(owner) {
				owner, placement = s, rest
			} else if strings.EqualFold(name, s) {
				owner, placement = s, ""
				break
			}
		}
		if owner == r.stream && placement != "" {
			out = append(out, placement)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func cutPrefixFold(s, prefix string) (rest string, ok bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// checkPlacements is an error if a placement has no partition among those that an earlier run left open: every placement
// has one at any time, so it has come since.
func (r *Reader) checkPlacements(open []string) error {
	if !r.info.PerPlacement || len(open) == 0 {
		return nil
	}
	missing := slices.DeleteFunc(slices.Clone(r.info.Placements), func(placement string) bool {
		return slices.ContainsFunc(open, func(token string) bool { return strings.HasPrefix(token, placement+placementMark) })
	})
	if len(missing) == 0 {
		return nil
	}
	return &PlacementError{Stream: r.stream, Placements: missing}
}

// watchPlacements looks for new placements until the Reader is closed, and ends all reading when there is one.
func (r *Reader) watchPlacements() {
	tick := time.NewTicker(r.opts.PlacementsEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-r.life.Done():
			return
		}
		now, added, err := r.addedPlacements(r.life)
		switch {
		case r.life.Err() != nil:
			return
		case err != nil:
			r.opts.Logger.Warn("looking for new placements of the change stream, trying again", "stream", r.opts.Stream, "error", err)
			continue
		case len(added) > 0:
			r.end(&PlacementError{Stream: r.stream, Placements: added, Since: r.looked})
			return
		}
		r.looked = now
	}
}

// addedPlacements lists the placements that are not read, and the time before it was asked.
func (r *Reader) addedPlacements(ctx context.Context) (now change.Timestamp, added []string, err error) {
	if now, err = r.Now(ctx); err != nil {
		return 0, nil, err
	}
	streams, err := r.streams(ctx)
	if err != nil {
		return 0, nil, err
	}
	all, err := r.findPlacements(ctx, streams)
	if err != nil {
		return 0, nil, err
	}
	return now, slices.DeleteFunc(all, func(p string) bool { return slices.Contains(r.info.Placements, p) }), nil
}
