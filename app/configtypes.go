package app

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/pipeline/filter"
)

// duration is written like 1m30s.
type duration time.Duration

func (v *duration) UnmarshalText(b []byte) error {
	t, err := time.ParseDuration(string(b))
	if err != nil || t <= 0 {
		return fmt.Errorf("want a duration above zero such as 500ms, 30s or 5m")
	}
	*v = duration(t)
	return nil
}

// byteSize is a number of bytes, written like 256MiB.
type byteSize int

func (v *byteSize) UnmarshalText(b []byte) error {
	s, unit := strings.TrimSpace(string(b)), 1.0
	for _, u := range []struct {
		suffix string
		size   float64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}} {
		if n, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = strings.TrimSpace(n), u.size
			break
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if bytes := n * unit; err == nil && bytes >= 1 && bytes <= math.MaxInt32*1024.0 {
		*v = byteSize(bytes)
		return nil
	}
	return fmt.Errorf("want a size such as 256MiB, 1GiB or a number of bytes")
}

// startAt is where a new pipeline begins.
type startAt struct {
	earliest, snapshot bool
	at                 change.Timestamp // 0 is now
}

func (v *startAt) UnmarshalText(b []byte) error {
	switch s := string(b); s {
	case "now":
		*v = startAt{}
	case "earliest":
		*v = startAt{earliest: true}
	case "snapshot":
		*v = startAt{snapshot: true}
	default:
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil || t.Year() < 2000 {
			return fmt.Errorf("want now, earliest, snapshot or a time such as 2026-01-02T15:04:05Z")
		}
		v.at = change.TimestampOf(t)
	}
	return nil
}

// endAt is where a pipeline ends, inclusive; 0 is never.
type endAt change.Timestamp

func (v *endAt) UnmarshalText(b []byte) error {
	t, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil || t.Year() < 2000 {
		return fmt.Errorf("want a time such as 2026-01-02T15:04:05Z")
	}
	*v = endAt(change.TimestampOf(t))
	return nil
}

// names is a list of names to include, or {include, exclude}.
type names filter.Names

func (v *names) decodeNode(d *decoder, n ast.Node, path string, depth int) {
	if list, ok := n.(*ast.SequenceNode); ok {
		d.decode(list, reflect.ValueOf(&v.Include).Elem(), path+".include", depth)
		return
	}
	if !isMapping(n) {
		d.wrongType(n, path, "a list of names, or include and exclude with a list each")
		return
	}
	var both struct {
		Include []string `yaml:"include"`
		Exclude []string `yaml:"exclude"`
	}
	d.decode(n, reflect.ValueOf(&both).Elem(), path, depth)
	v.Include, v.Exclude = both.Include, both.Exclude
}

// options are a sink's: any mapping, kept as JSON. keys are the mapping's.
type options struct {
	json json.RawMessage
	keys []string
}

func (v *options) decodeNode(d *decoder, n ast.Node, path string, depth int) {
	if !isMapping(n) {
		d.wrongType(n, path, "keys and values")
		return
	}
	before := len(d.errs)
	value := d.any(n, path, depth)
	if len(d.errs) > before {
		return
	}
	for k := range value.(map[string]any) {
		v.keys = append(v.keys, k)
	}
	b, err := json.Marshal(value)
	if err != nil {
		d.errorOn(path, "", "%s: %v", lastKey(path), err)
		return
	}
	v.json = b
}

// any is a node as JSON would have it.
func (d *decoder) any(n ast.Node, path string, depth int) any {
	if _, ok := d.places[path]; !ok {
		d.places[path] = placeOf(n)
	}
	if n = d.resolve(n, depth); n == nil {
		return nil
	}
	if list, ok := n.(*ast.SequenceNode); ok {
		values := make([]any, len(list.Values))
		for i, v := range list.Values {
			values[i] = d.any(v, fmt.Sprintf("%s[%d]", path, i), depth+1)
		}
		return values
	}
	if entries, ok := d.entries(n); ok {
		values := make(map[string]any, len(entries))
		for _, e := range entries {
			at := join(path, e.key)
			d.places[at] = e.at
			values[e.key] = d.any(e.value, at, depth+1)
		}
		return values
	}
	s, ok := d.scalar(n, path, "text, a number, true or false")
	if !ok {
		return nil
	}
	switch s.kind {
	case kindInt, kindFloat:
		if json.Valid([]byte(s.text)) {
			return json.Number(s.text)
		}
		f, err := strconv.ParseFloat(s.text, 64)
		if err != nil {
			d.errorAt(placeOf(n), "", "%s: %q is not a number that JSON can hold", lastKey(path), s.text)
		}
		return f
	case kindBool:
		return s.text == "true"
	case kindNull:
		return nil
	}
	return s.text
}
