package check

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloud.google.com/go/spanner"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/spanledger/spanledger/change"
)

// longestWindow is how far a query of a stream with mutable key ranges reaches. Spanner allows 30 minutes, of its start or of
// the present: not all servers take the later of the two.
const longestWindow = 25 * time.Minute

// handover says that at an instant a partition gave keys away, or took them over.
type handover struct {
	at       change.Timestamp
	from, to string
}

// moving is the reading of one partition, or (p nil) of the initial query, of a stream with mutable key ranges.
type moving struct {
	walk    *walk
	p       *Partition
	decoder *decoder
	changes []Change
	// at is the timestamp of the last record of this query; only what lies above floor may follow.
	at    change.Timestamp
	floor change.Timestamp
	ended bool
}

// readMoving reads a partition to its end, or to that of the walk, in queries that follow one another.
func (w *walk) readMoving(ctx context.Context, p *Partition) ([]Change, error) {
	m := moving{walk: w, p: p, decoder: newDecoder()}
	token, start, last := spanner.NullString{}, w.o.Start, w.end()
	if p != nil {
		token, start = spanner.NullString{StringVal: p.Token, Valid: true}, p.Start.Time()
	}
	for {
		end := start.Add(w.window)
		if end.After(last) {
			end = last
		}
		m.at, m.floor = 0, 0
		err := w.query(ctx, token, start, end, m.row)
		if err != nil || m.ended || p == nil || end.Equal(last) {
			return m.changes, err
		}
		// The next query begins where this one ended, so that it never begins behind the partition's end. Both ends of a query
		// are inclusive: what lies exactly there comes again.
		for n := len(m.changes); n > 0 && m.changes[n-1].Position.Commit == change.TimestampOf(end); n-- {
			m.changes = m.changes[:n-1]
		}
		start = end
	}
}

// row takes one record. Records of all kinds come in order of their timestamps.
func (m *moving) row(cell spanner.GenericColumnValue) error {
	b, err := base64.StdEncoding.DecodeString(cell.Value.GetStringValue())
	if err != nil {
		return fmt.Errorf("a record is not base64: %w", err)
	}
	r := &sppb.ChangeStreamRecord{}
	if err := proto.Unmarshal(b, r); err != nil {
		return fmt.Errorf("a record is not a ChangeStreamRecord: %w", err)
	}
	if start := r.GetPartitionStartRecord(); start != nil {
		return m.began(start)
	}
	if m.p == nil {
		return fmt.Errorf("the initial query gave another record than the start of partitions: %T", r.GetRecord())
	}
	switch k := r.GetRecord().(type) {
	case *sppb.ChangeStreamRecord_DataChangeRecord_:
		return m.data(k.DataChangeRecord)
	case *sppb.ChangeStreamRecord_HeartbeatRecord_:
		if err := m.step(k.HeartbeatRecord.GetTimestamp()); err != nil {
			return err
		}
		m.floor = m.at
		return nil
	case *sppb.ChangeStreamRecord_PartitionEndRecord_:
		if err := m.own(k.PartitionEndRecord.GetPartitionToken()); err != nil {
			return err
		}
		err := m.step(k.PartitionEndRecord.GetEndTimestamp())
		m.ended = true
		return err
	case *sppb.ChangeStreamRecord_PartitionEventRecord_:
		return m.handedOver(k.PartitionEventRecord)
	}
	return fmt.Errorf("a record is of a kind that is not known: %T", r.GetRecord())
}

// step goes on to the timestamp of the next record.
func (m *moving) step(t *timestamppb.Timestamp) error {
	if err := t.CheckValid(); err != nil {
		return fmt.Errorf("a record's timestamp: %w", err)
	}
	at := change.TimestampOf(t.AsTime())
	if m.ended || at < m.at || at <= m.floor || at < m.p.Start {
		return fmt.Errorf("a record at %s is out of order: after %s, heartbeat %s, partition ended %t, started %s", at, m.at, m.floor, m.ended, m.p.Start)
	}
	m.at = at
	return nil
}

// own holds the partition that a record says it is of against the one that was asked for.
func (m *moving) own(token string) error {
	if token != m.p.Token {
		return fmt.Errorf("it gave a record of partition %s", short(token))
	}
	return nil
}

func (m *moving) data(r *sppb.ChangeStreamRecord_DataChangeRecord) error {
	if err := m.step(r.GetCommitTimestamp()); err != nil {
		return err
	}
	if m.at > change.TimestampOf(m.walk.o.End) {
		return nil
	}
	got, err := m.decoder.protoChanges(m.p.Token, r)
	m.changes = append(m.changes, got...)
	return err
}

// began makes partitions known. They have no parents: what they take over, their own move-ins say.
func (m *moving) began(r *sppb.ChangeStreamRecord_PartitionStartRecord) error {
	if err := r.GetStartTimestamp().CheckValid(); err != nil {
		return fmt.Errorf("the start of partitions: %w", err)
	}
	if m.p != nil {
		if err := m.step(r.GetStartTimestamp()); err != nil {
			return err
		}
	}
	if len(r.GetPartitionTokens()) == 0 {
		return errors.New("the start of partitions names none")
	}
	m.walk.mu.Lock()
	defer m.walk.mu.Unlock()
	for _, token := range r.GetPartitionTokens() {
		if token == "" {
			return errors.New("a partition that starts has no token")
		}
		if err := m.walk.add(&Partition{Token: token, Start: change.TimestampOf(r.GetStartTimestamp().AsTime())}); err != nil {
			return err
		}
	}
	return nil
}

// handedOver notes whom keys came from and went to. A source may be a partition that is announced later, by another branch.
func (m *moving) handedOver(r *sppb.ChangeStreamRecord_PartitionEventRecord) error {
	if err := errors.Join(m.own(r.GetPartitionToken()), m.step(r.GetCommitTimestamp())); err != nil {
		return err
	}
	for _, in := range r.GetMoveInEvents() {
		if move := (Move{At: m.at, Source: in.GetSourcePartitionToken()}); !slices.Contains(m.p.Moves, move) {
			m.p.Moves = append(m.p.Moves, move)
		}
	}
	m.walk.mu.Lock()
	defer m.walk.mu.Unlock()
	for _, out := range r.GetMoveOutEvents() {
		m.walk.given[handover{m.at, m.p.Token, out.GetDestinationPartitionToken()}] = true
	}
	return nil
}

// checkMoves holds what partitions say they gave against what others say they took.
func (w *walk) checkMoves() error {
	var errs []error
	note := func(h handover, what string) {
		if h.at > change.TimestampOf(w.o.Start) && h.at <= change.TimestampOf(w.o.End) && len(errs) < maxExamples {
			errs = append(errs, fmt.Errorf("the move of keys at %s from partition %s to %s is told by %s only", h.at, short(h.from), short(h.to), what))
		}
	}
	taken := map[handover]bool{}
	for _, p := range w.known {
		for _, m := range p.Moves {
			h := handover{m.At, m.Source, p.Token}
			if taken[h] = true; !w.given[h] {
				note(h, "its destination")
			}
		}
	}
	for h := range w.given {
		if !taken[h] {
			note(h, "its source")
		}
	}
	return errors.Join(errs...)
}
