package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Event is a fact to append. The store copies nothing: leave the byte slices
// alone until the append has been answered.
type Event struct {
	// ID names the event within its stream and source; required, at most 128
	// characters. Appending the same ID again is recognised by it.
	ID string
	// Source says where the event comes from; at most 1,024 characters.
	Source string
	// Type says what happened; required, at most 512 characters.
	Type string
	// Subject, ContentType and Schema are optional: at most 2,048, 256 and
	// 1,024 characters. Empty is stored as NULL.
	Subject     string
	ContentType string
	Schema      string
	// Time is when it happened, in the writer's view, to the nanosecond; zero
	// means unknown. It orders nothing: the commit timestamp does.
	Time time.Time
	// Exactly one of Data, a JSON text of any value (null included), and
	// DataBytes, up to 10 MiB of anything, is not nil.
	Data      json.RawMessage
	DataBytes []byte
	// Metadata is nil or a JSON object.
	Metadata json.RawMessage
}

// Recorded is an event as the table holds it. Data and Metadata have Spanner's
// spelling: members sorted, no spaces.
type Recorded struct {
	Event
	Stream      string
	Version     int64 // from 1
	CommittedAt time.Time
}

const (
	maxStream    = 512      // characters, by the column's type
	maxDataBytes = 10 << 20 // Spanner's limit for one cell
)

// maxTime is the last instant of Spanner's TIMESTAMP; the first is the zero
// time.Time, which means no time here.
var maxTime = time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)

// check reports the first field that cannot be stored unchanged.
func (e *Event) check() error {
	for _, f := range []struct {
		name, value string
		limit       int
		required    bool
	}{
		{"id", e.ID, 128, true},
		{"source", e.Source, 1024, false},
		{"type", e.Type, 512, true},
		{"subject", e.Subject, 2048, false},
		{"content_type", e.ContentType, 256, false},
		{"schema", e.Schema, 1024, false},
	} {
		if err := checkText(f.name, f.value, f.limit, f.required); err != nil {
			return err
		}
	}
	if !e.Time.IsZero() && (e.Time.Before(time.Time{}) || e.Time.After(maxTime)) {
		return &FieldError{Field: "time", Reason: fmt.Sprintf("%s is outside Spanner's years 1 to 9999", e.Time)}
	}
	switch {
	case e.Data != nil && e.DataBytes != nil:
		return &FieldError{Field: "data", Reason: "data and data_bytes are both set, want exactly one"}
	case e.Data == nil && e.DataBytes == nil:
		return &FieldError{Field: "data", Reason: "is missing; give data (any JSON, null included) or data_bytes"}
	case len(e.DataBytes) > maxDataBytes:
		return &FieldError{Field: "data_bytes", Reason: fmt.Sprintf("has %d bytes, Spanner stores at most %d; put large payloads elsewhere and append a reference", len(e.DataBytes), maxDataBytes)}
	}
	if e.Data != nil {
		if err := CheckJSON(e.Data); err != nil {
			return &FieldError{Field: "data", Reason: "cannot be stored unchanged", Err: err}
		}
	}
	if e.Metadata != nil {
		if err := CheckJSON(e.Metadata); err != nil {
			return &FieldError{Field: "metadata", Reason: "cannot be stored unchanged", Err: err}
		}
		if text := bytes.TrimLeft(e.Metadata, " \t\r\n"); text[0] != '{' {
			return &FieldError{Field: "metadata", Reason: "is not a JSON object"}
		}
	}
	return nil
}

// checkText checks a STRING column's value; the limit counts characters.
func checkText(name, value string, limit int, required bool) error {
	switch {
	case required && value == "":
		return &FieldError{Field: name, Reason: "is missing"}
	case !utf8.ValidString(value):
		return &FieldError{Field: name, Reason: fmt.Sprintf("%.60q is not valid UTF-8", value)}
	case len(value) > limit && utf8.RuneCountInString(value) > limit:
		return &FieldError{Field: name, Reason: fmt.Sprintf("has %d characters, at most %d fit", utf8.RuneCountInString(value), limit)}
	}
	return nil
}

// size estimates the bytes the event takes in a request.
func (e *Event) size() int {
	const overhead = 200 // column framing, version, timestamps, index entry
	return overhead + 2*len(e.ID) + 2*len(e.Source) + len(e.Type) + len(e.Subject) + len(e.ContentType) +
		len(e.Schema) + len(e.Data) + len(e.DataBytes)*4/3 + len(e.Metadata)
}

// differs returns the name of the first field in which two events of one id
// differ, or "".
func (e *Event) differs(other *Event) (string, error) {
	switch {
	case e.Type != other.Type:
		return "type", nil
	case e.Subject != other.Subject:
		return "subject", nil
	case !e.Time.Equal(other.Time):
		return "time", nil
	case e.ContentType != other.ContentType:
		return "content_type", nil
	case e.Schema != other.Schema:
		return "schema", nil
	case (e.DataBytes == nil) != (other.DataBytes == nil) || !bytes.Equal(e.DataBytes, other.DataBytes):
		return "data_bytes", nil
	}
	for _, f := range []struct {
		name string
		a, b json.RawMessage
	}{{"data", e.Data, other.Data}, {"metadata", e.Metadata, other.Metadata}} {
		if (f.a == nil) != (f.b == nil) {
			return f.name, nil
		}
		if f.a == nil || bytes.Equal(f.a, f.b) {
			continue
		}
		same, err := sameJSON(f.a, f.b)
		if err != nil {
			return "", fmt.Errorf("compare %s of event %q: %w", f.name, e.ID, err)
		}
		if !same {
			return f.name, nil
		}
	}
	return "", nil
}
