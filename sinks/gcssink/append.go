package gcssink

import (
	"context"
	"errors"
	"fmt"

	"github.com/spanledger/spanledger/archive"
	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
)

// Append implements sinks.Appender: it writes one segment behind the end, cut at an hour of commit time or where the
// schema changes beyond a new column.
func (s *Sink) Append(ctx context.Context, batch *sinks.Batch, end sinks.End) (sinks.End, error) {
	if batch.Chain == nil || len(batch.Changes) == 0 {
		return sinks.End{}, sinks.Stop(fmt.Errorf("gcs sink %s: a batch without a chain or changes (a fault of the engine)", s.name))
	}
	chain := *batch.Chain
	last, err := lastOf(end)
	if errors.Is(err, errNoState) {
		found, err := s.find(ctx, chain, end.Through)
		if err != nil || found.Through != end.Through {
			return found, err
		}
		last, err = lastOf(found)
		if err != nil {
			return sinks.End{}, s.broken(chain, err)
		}
	} else if err != nil {
		return sinks.End{}, s.broken(chain, err)
	}
	if err := s.prove(ctx, chain, last); err != nil {
		return sinks.End{}, err
	}
	// A segment never leaves its hour and has one schema; both are cut between commit timestamps.
	n, schema, err := archive.Run(batch.Changes, s.schemaOf)
	if err != nil {
		return sinks.End{}, sinks.Stop(fmt.Errorf("gcs sink %s: %w", s.name, err))
	}
	segment, object, data, err := archive.Encode(chain, last.Link(), schema, s.codec, batch.Changes[:n])
	if err != nil {
		return sinks.End{}, sinks.Stop(fmt.Errorf("gcs sink %s: %w", s.name, err))
	}
	if err := s.storeSchema(ctx, schema); err != nil {
		return sinks.End{}, s.fault("store the schema of table "+chain.Table, err)
	}
	// I6, I7: created only if there is none at this place; whoever was first decided how far the segment reaches.
	created, err := s.bucket.Create(ctx, object, data)
	if errors.Is(err, archive.ErrExists) {
		return s.existing(ctx, segment)
	}
	if err != nil {
		return sinks.End{}, s.fault("create "+segment.Name, err)
	}
	segment.Generation = created.Generation
	s.hasProved(chain)
	return endOf(segment, segment.Segment)
}

// existing is the end behind the segment that stands where ours should: an earlier attempt's or another worker's.
func (s *Sink) existing(ctx context.Context, ours archive.Segment) (sinks.End, error) {
	have, err := archive.Stat(ctx, s.bucket, ours.Name)
	if err != nil {
		return sinks.End{}, s.fault("read what stands at "+ours.Name, err)
	}
	if have.Chain != ours.Chain || have.First != ours.First {
		return sinks.End{}, s.fault("append", &archive.CorruptError{Name: ours.Name, Reason: errors.New("another chain's segment stands in this place")})
	}
	if have.PreviousLast != ours.PreviousLast || have.Previous != ours.Previous {
		return sinks.End{}, s.fault("append", &archive.ChainError{Name: ours.Name, Reason: fmt.Sprintf("it says the one before it ends at %s with SHA-256 %q; the checkpoint says %s and %q",
			have.PreviousLast, have.Previous, ours.PreviousLast, ours.Previous)})
	}
	if have.SHA256 == ours.SHA256 && have.Bytes != ours.Bytes {
		return sinks.End{}, s.fault("append", &archive.CorruptError{Name: ours.Name, Reason: fmt.Errorf("it has %d bytes, but a file of its SHA-256 has %d", have.Bytes, ours.Bytes)})
	}
	s.hasProved(ours.Chain)
	return endOf(have, have.Segment)
}

// find asks the archive for the end of a chain whose checkpoint was set to through, without the state that belongs to it.
func (s *Sink) find(ctx context.Context, chain change.Chain, through change.Position) (sinks.End, error) {
	found, err := s.End(ctx, chain)
	if err != nil {
		return sinks.End{}, err
	}
	if through.After(found.Through) {
		return sinks.End{}, s.missing(chain, through, fmt.Sprintf("the archive ends at %s", found.Through))
	}
	for len(found.Segments) > 0 && !found.Segments[0].Last.After(through) {
		found.Segments = found.Segments[1:]
	}
	return found, nil
}

// prove makes sure, once for each chain, that the segment a stored end tells of is in this archive. A sink that was
// pointed at another bucket or prefix would else begin an archive in the middle of a chain (I7).
func (s *Sink) prove(ctx context.Context, chain change.Chain, last archive.Segment) error {
	if last.Name == "" {
		return nil
	}
	s.mu.Lock()
	_, known := s.proved[chain]
	s.mu.Unlock()
	if known {
		return nil
	}
	have, err := archive.Stat(ctx, s.bucket, last.Name)
	switch {
	case errors.Is(err, archive.ErrNotFound):
		return s.missing(chain, last.Last, "there is no segment "+last.Name)
	case err != nil:
		return s.fault("find the segment the checkpoint tells of", err)
	case have.Chain != chain || have.Last != last.Last || have.SHA256 != last.SHA256:
		return s.fault("find the segment the checkpoint tells of", &archive.ChainError{Name: last.Name, Reason: fmt.Sprintf("it ends at %s with SHA-256 %s, while the checkpoint says %s and %s",
			have.Last, have.SHA256, last.Last, last.SHA256)})
	}
	s.hasProved(chain)
	return nil
}

// maxProved bounds how many chains are remembered: above the chains that live at one time, in all but the largest streams.
const maxProved = 1 << 17

func (s *Sink) hasProved(chain change.Chain) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.proved) >= maxProved {
		clear(s.proved) // partitions come and go for ever; proving a chain again costs one request
	}
	s.proved[chain] = struct{}{}
}

func (s *Sink) missing(chain change.Chain, through change.Position, but string) error {
	return sinks.Stop(fmt.Errorf("gcs sink %s: the checkpoint says table %s of partition %.40s is archived through %s, but in gs://%s/%s %s: "+
		"if the options bucket or prefix were changed, change them back or give the sink a new name; if objects were deleted, restore them or start a new incarnation",
		s.name, chain.Table, chain.Token, through, s.options.Bucket, s.options.Prefix, but))
}

func (s *Sink) broken(chain change.Chain, err error) error {
	return sinks.Stop(fmt.Errorf("gcs sink %s: the end of table %s in partition %.40s: %w; if the checkpoint was edited, undo that; with an empty state the sink asks the archive instead",
		s.name, chain.Table, chain.Token, err))
}

// listings is how often End lists a chain that grows beside it.
const listings = 4

// End implements sinks.Appender. It pages through the table's part of the archive: it is for writers that lost their
// state, not for every start.
func (s *Sink) End(ctx context.Context, chain change.Chain) (sinks.End, error) {
	segments, err := s.list(ctx, chain)
	if err != nil {
		return sinks.End{}, s.fault("find the end of a chain of table "+chain.Table, err)
	}
	if len(segments) == 0 {
		return sinks.End{}, nil
	}
	plain := make([]change.Segment, len(segments))
	for i := range segments {
		plain[i] = segments[i].Segment
	}
	s.hasProved(chain)
	return endOf(segments[len(segments)-1], plain...)
}

// list lists a chain. Beside a writer that is not fenced off yet, a page may be read before a segment that precedes one of
// the next page. The next listing shows that segment, so a break that two listings show in one place is real.
func (s *Sink) list(ctx context.Context, chain change.Chain) ([]archive.Segment, error) {
	var seen *archive.ChainError
	for range listings {
		segments, err := archive.ListChain(ctx, s.bucket, chain)
		e, broken := errors.AsType[*archive.ChainError](err)
		if !broken || seen != nil && *e == *seen {
			return segments, err
		}
		seen = e
	}
	return nil, fmt.Errorf("another worker appends faster than a listing ends: %s", seen.Reason) // not wrapped: it is no break yet
}
