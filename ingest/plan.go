package ingest

import (
	"time"

	"cloud.google.com/go/spanner"
)

// eventKey is what an event is recognised by.
type eventKey struct{ stream, source, id string }

// storedEvent is an event that has its version: in the table, or planned by the
// transaction under way, in which case committedAt is zero.
type storedEvent struct {
	version     int64
	committedAt time.Time
	event       Event
}

// outcome is what became of one batch.
type outcome struct {
	result Result
	err    error
}

// planner decides, without I/O, what a transaction writes. It starts from what
// the transaction has read and takes batches one after another; a batch that is
// refused leaves no trace.
type planner struct {
	known   map[eventKey]storedEvent
	heads   map[string]int64 // last version of each stream
	inserts []*spanner.Mutation
}

func (p *planner) plan(b *Batch) (Result, error) {
	result := Result{Stream: b.Stream, Versions: make([]int64, len(b.Events))}
	fresh := make(map[eventKey]int) // index of a new id's first event
	var order []int                 // the first events of new ids
	old, pending := 0, false
	mixed := MixedError{Stream: b.Stream}
	for i := range b.Events {
		e := &b.Events[i]
		key := eventKey{b.Stream, e.Source, e.ID}
		if s, ok := p.known[key]; ok {
			if err := conflict(b, e, &s.event, s.version); err != nil {
				return Result{}, err
			}
			old++
			mixed.OldID = e.ID
			result.Versions[i] = s.version
			pending = pending || s.committedAt.IsZero()
			if s.committedAt.After(result.CommittedAt) {
				result.CommittedAt = s.committedAt
			}
			continue
		}
		if first, ok := fresh[key]; ok {
			if err := conflict(b, e, &b.Events[first], 0); err != nil {
				return Result{}, err
			}
			continue
		}
		fresh[key] = i
		order = append(order, i)
		mixed.NewID = e.ID
	}
	if old > 0 && len(order) > 0 {
		mixed.Old, mixed.New = old, len(order)
		return Result{}, &mixed
	}
	// Ids come before the expected version: a repeated append expects a version
	// that its own first run has moved the stream past.
	if old > 0 {
		result.Repeated = true
		if pending {
			result.CommittedAt = time.Time{} // the commit to come
		}
		return result, nil
	}
	head := p.heads[b.Stream]
	if b.Expected != Any && int64(b.Expected) != head {
		return Result{}, &VersionError{Stream: b.Stream, Expected: b.Expected, Actual: head}
	}
	for _, i := range order {
		e := &b.Events[i]
		head++
		p.inserts = append(p.inserts, insert(b.Stream, head, e))
		p.known[eventKey{b.Stream, e.Source, e.ID}] = storedEvent{version: head, event: *e}
	}
	p.heads[b.Stream] = head
	for i := range b.Events {
		e := &b.Events[i]
		result.Versions[i] = p.known[eventKey{b.Stream, e.Source, e.ID}].version
	}
	return result, nil
}

func conflict(b *Batch, e, holder *Event, version int64) error {
	field, err := e.differs(holder)
	if err != nil {
		return err
	}
	if field == "" {
		return nil
	}
	return &ConflictError{Stream: b.Stream, Source: e.Source, ID: e.ID, Version: version, Field: field}
}

// insert returns the row of an event. JSON goes as text: Spanner parses it by
// the column's type, and the client would only decode and encode it again.
func insert(stream string, version int64, e *Event) *spanner.Mutation {
	text := func(s string) spanner.NullString { return spanner.NullString{StringVal: s, Valid: s != ""} }
	json := func(b []byte) spanner.NullString { return spanner.NullString{StringVal: string(b), Valid: b != nil} }
	return spanner.Insert(Table, columns, []any{
		stream, version, e.ID, e.Source, e.Type, text(e.Subject),
		spanner.NullTime{Time: e.Time, Valid: !e.Time.IsZero()},
		text(e.ContentType), text(e.Schema), json(e.Data), e.DataBytes, json(e.Metadata),
		spanner.CommitTimestamp,
	})
}
