package store

import (
	"fmt"
	"strings"
	"time"

	"github.com/spanledger/spanledger/emulator/bigquery/row"
)

// DefaultStream is the id of the stream every table has: it takes rows from any number of writers and has no offsets.
const DefaultStream = "_default"

// StreamName names a write stream.
type StreamName struct {
	Table Ref
	ID    string
}

// String is the stream's resource name.
func (n StreamName) String() string { return n.Table.Path() + "/streams/" + n.ID }

// ParseTable reads a table's resource name, projects/P/datasets/D/tables/T.
func ParseTable(name string) (Ref, error) {
	p := strings.Split(name, "/")
	if len(p) != 6 || p[0] != "projects" || p[2] != "datasets" || p[4] != "tables" || p[1] == "" || p[3] == "" || p[5] == "" {
		return Ref{}, refuse(Invalid, name, "invalid table name %.200q: want projects/P/datasets/D/tables/T", name)
	}
	return Ref{p[1], p[3], p[5]}, nil
}

// ParseStream reads a stream's resource name; a default stream's may end in /_default or /streams/_default.
func ParseStream(name string) (StreamName, error) {
	table, id, ok := strings.Cut(name, "/streams/")
	if !ok {
		if table, ok = strings.CutSuffix(name, "/"+DefaultStream); ok {
			id = DefaultStream
		}
	}
	ref, err := ParseTable(table)
	if err != nil || id == "" || strings.Contains(id, "/") {
		return StreamName{}, refuse(Invalid, name, "invalid stream name %.200q: want projects/P/datasets/D/tables/T/streams/S", name)
	}
	return StreamName{ref, id}, nil
}

// stream is a committed stream: its rows are in the table as soon as they are appended.
type stream struct {
	created   time.Time
	rows      int64
	finalized bool
}

// StreamInfo describes a stream. Rows is the next offset; it is 0 for a default stream.
type StreamInfo struct {
	Name      StreamName
	Created   time.Time
	Rows      int64
	Finalized bool
	Table     Snapshot
}

// CreateStream makes a committed stream.
func (s *Store) CreateStream(ref Ref) (StreamInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.table(ref)
	if err != nil {
		return StreamInfo{}, err
	}
	s.version++
	// The version makes an id that no earlier table of the name has had.
	name := StreamName{ref, fmt.Sprintf("s%d-%d", s.version, len(t.streams)+1)}
	st := &stream{created: s.now()}
	t.streams[name.ID] = st
	return info(name, t, st), nil
}

func info(name StreamName, t *table, st *stream) StreamInfo {
	i := StreamInfo{Name: name, Created: time.UnixMilli(t.meta.CreationTime), Table: t.snapshot()}
	if st != nil {
		i.Created, i.Rows, i.Finalized = st.created, st.rows, st.finalized
	}
	return i
}

// stream finds a stream and its table; the stream is nil for the default stream. The lock is held.
func (s *Store) stream(name StreamName) (*table, *stream, error) {
	t, err := s.table(name.Table)
	if err != nil {
		return nil, nil, err
	}
	if name.ID == DefaultStream {
		return t, nil, nil
	}
	st := t.streams[name.ID]
	if st == nil {
		return nil, nil, refuse(StreamNotFound, name.String(), "Requested entity was not found. Entity: %s", name)
	}
	return t, st, nil
}

// Stream describes a stream.
func (s *Store) Stream(name StreamName) (StreamInfo, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, st, err := s.stream(name)
	if err != nil {
		return StreamInfo{}, err
	}
	return info(name, t, st), nil
}

// Append appends rows, all or none, at the end of a stream: at offset if that is given. It returns the offset of the first
// row. The rows must have been decoded for a schema that the table tableID has now or had before.
func (s *Store) Append(name StreamName, tableID int64, offset *int64, rows []row.Row) (at int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, st, err := s.stream(name)
	if err != nil {
		return 0, err
	}
	switch {
	case t.id != tableID:
		return 0, refuse(TableNotFound, name.Table.Path(), "Table %s was deleted and made again meanwhile", name.Table)
	case st == nil && offset != nil:
		return 0, refuse(Invalid, name.String(), "Offset is not allowed for the default stream. Entity: %s", name)
	case st == nil:
		t.rows = append(t.rows, rows...)
		return 0, nil
	case st.finalized:
		return 0, refuse(StreamFinalized, name.String(), "Stream has been finalized and cannot be appended. Entity: %s", name)
	case offset != nil && *offset < 0:
		return 0, refuse(Invalid, name.String(), "The offset %d is negative. Entity: %s", *offset, name)
	case offset != nil && *offset < st.rows:
		return 0, refuse(OffsetExists, name.String(),
			"The offset is within stream, expected offset %d, received %d. Entity: %s", st.rows, *offset, name)
	case offset != nil && *offset > st.rows:
		return 0, refuse(OffsetBeyond, name.String(),
			"The offset is beyond stream, expected offset %d, received %d. Entity: %s", st.rows, *offset, name)
	}
	at = st.rows
	t.rows = append(t.rows, rows...)
	st.rows += int64(len(rows))
	return at, nil
}

// Finalize ends a stream: nothing more can be appended. It returns the stream's row count, each time it is asked.
func (s *Store) Finalize(name StreamName) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, st, err := s.stream(name)
	if err != nil {
		return 0, err
	}
	if st == nil {
		return 0, refuse(InvalidStreamType, name.String(), "The default stream cannot be finalized. Entity: %s", name)
	}
	st.finalized = true
	return st.rows, nil
}
