package ingest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// defaults fill what a record does not say.
type defaults struct{ stream, source string }

// decodeEvent reads an event from the object a map yields. Nothing is guessed:
// unknown members and values of another type are errors.
func decodeEvent(v any, d defaults) (stream string, e Event, err error) {
	object, ok := v.(map[string]any)
	if !ok {
		hint := ""
		if _, array := v.([]any); array {
			hint = "; a map such as '.[]' makes its elements the events"
		}
		return "", e, fmt.Errorf("the event is %s, want an object with stream, id, type and data%s", typeName(v), hint)
	}
	stream, e.Source = d.stream, d.source
	// In order of their names, so that of several faults the same is reported.
	for _, name := range slices.Sorted(maps.Keys(object)) {
		value := object[name]
		switch name {
		case "stream":
			err = decodeString(&stream, value)
		case "id":
			err = decodeString(&e.ID, value)
		case "type":
			err = decodeString(&e.Type, value)
		case "source":
			err = decodeOptional(&e.Source, value)
		case "subject":
			err = decodeOptional(&e.Subject, value)
		case "content_type":
			err = decodeOptional(&e.ContentType, value)
		case "schema":
			err = decodeOptional(&e.Schema, value)
		case "time":
			e.Time, err = decodeTime(value)
		case "data":
			e.Data, err = encodeJSON(value)
		case "data_bytes":
			e.DataBytes, err = decodeBytes(value)
		case "metadata":
			if value != nil {
				e.Metadata, err = encodeJSON(value)
			}
		case "version", "committed_at":
			err = fmt.Errorf("is given by the store, leave it out")
		default:
			err = fmt.Errorf("is no member of an event (stream, id, source, type, subject, time, content_type, schema, data, data_bytes, metadata); put it into data or metadata, or leave it out with a map")
		}
		if err != nil {
			return "", e, fmt.Errorf("%s: %w", name, err)
		}
	}
	switch {
	case stream == "":
		return "", e, fmt.Errorf("stream: is missing; name it in the map, or give a default with --stream")
	case e.ID == "":
		return "", e, fmt.Errorf("id: is missing; make one in the map, for instance from $n, the record's number")
	case e.Type == "":
		return "", e, fmt.Errorf("type: is missing; name it in the map")
	}
	return stream, e, nil
}

func decodeString(to *string, v any) error {
	s, ok := v.(string)
	if !ok {
		hint := ""
		if typeName(v) == "a number" {
			hint = "; convert it with tostring in the map"
		}
		return fmt.Errorf("is %s, want a string%s", typeName(v), hint)
	}
	*to = s
	return nil
}

// decodeOptional takes null for an absent member and keeps the default.
func decodeOptional(to *string, v any) error {
	if v == nil {
		return nil
	}
	return decodeString(to, v)
}

// decodeTime reads an RFC 3339 time of at most nanoseconds; null means none.
func decodeTime(v any) (time.Time, error) {
	switch v := v.(type) {
	case nil:
		return time.Time{}, nil
	case string:
		t, err := time.Parse(time.RFC3339Nano, v)
		if err != nil {
			return t, fmt.Errorf("%.60q is not an RFC 3339 time such as 2026-01-31T23:59:59.5Z; convert it in the map, for instance with strptime(...) | mktime | todate", v)
		}
		// Go takes a comma and drops digits beyond nanoseconds.
		if strings.Contains(v, ",") {
			return t, fmt.Errorf("%.60q has a comma, want a point before the fraction", v)
		}
		if _, fraction, ok := strings.Cut(v, "."); ok {
			if digits := strings.IndexAny(fraction, "Z+-"); digits > 9 {
				return t, fmt.Errorf("%.60q is finer than nanoseconds", v)
			}
		}
		if t.Before(time.Time{}) || t.After(maxTime) {
			return t, fmt.Errorf("%.60q is outside Spanner's years 1 to 9999", v)
		}
		if t.IsZero() {
			return t, fmt.Errorf("%.60q is the one instant that stands for no time; leave time out instead", v)
		}
		return t.UTC(), nil
	}
	if typeName(v) == "a number" {
		return time.Time{}, fmt.Errorf("is a number, which could count seconds or milliseconds; convert it in the map: (.time | todate) for seconds, (.time / 1000 | todate) for milliseconds, which drops their fraction")
	}
	return time.Time{}, fmt.Errorf("is %s, want an RFC 3339 string", typeName(v))
}

func decodeBytes(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	s, ok := v.(string)
	if !ok {
		return nil, fmt.Errorf("is %s, want a string in base64", typeName(v))
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("is not base64 (RFC 4648, standard alphabet, with padding): %w", err)
	}
	if b == nil {
		b = []byte{}
	}
	return b, nil
}
