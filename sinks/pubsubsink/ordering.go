package pubsubsink

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spanledger/spanledger/change"
)

const (
	orderBuckets = "buckets"
	orderFullKey = "full-key"
	orderNone    = "none"

	// maxOrderingKey is the service's bound, in bytes: https://cloud.google.com/pubsub/quotas#resource_limits
	maxOrderingKey = 1024
)

// ordering makes ordering keys. Whatever it is, it depends on the table's name and the row's key only (I1): an ordering key
// taken from a column that can change would let a row's changes overtake each other.
type ordering struct {
	buckets []string // names of the buckets
	parts   []part   // a template; neither: no ordering
}

// part is a piece of a template: fixed text, or a name to fill in.
type part struct {
	text, name string
}

// The names of a template that are not columns.
const (
	nameTable = "table"
	nameKey   = "key"
)

func parseOrdering(s string, buckets int) (ordering, error) {
	switch s {
	case "", orderBuckets:
		o := ordering{buckets: make([]string, buckets)}
		for i := range o.buckets {
			o.buckets[i] = fmt.Sprintf("bucket-%d", i)
		}
		return o, nil
	case orderFullKey:
		s = "{table}{key}"
	case orderNone:
		return ordering{}, nil
	}
	var o ordering
	for rest := s; rest != ""; {
		text, after, found := strings.Cut(rest, "{")
		if strings.Contains(text, "}") {
			return o, fmt.Errorf("template %q has a } without a {", s)
		}
		if text != "" {
			o.parts = append(o.parts, part{text: text})
		}
		if !found {
			break
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed || name == "" || strings.Contains(name, "{") {
			return o, fmt.Errorf("template %q has a { without a name and }", s)
		}
		o.parts = append(o.parts, part{name: name})
		rest = tail
	}
	for _, p := range o.parts {
		if p.name != "" {
			return o, nil
		}
	}
	return o, fmt.Errorf("%q is not one of %s, %s, %s, nor a template with a name such as {table}", s, orderBuckets, orderFullKey, orderNone)
}

// keyParts finds the template's columns among the table's keys: indexes in change.Change.Key, one for each part, -1 for
// those that are not columns.
func (o *ordering) keyParts(t *change.Table) ([]int, error) {
	at := make([]int, len(o.parts))
	for i, p := range o.parts {
		at[i] = -1
		if p.name == "" || p.name == nameTable || p.name == nameKey {
			continue
		}
		var names []string
		for k, column := range t.Keys() {
			names = append(names, t.Columns[column].Name)
			if t.Columns[column].Name == p.name {
				at[i] = k
			}
		}
		if at[i] < 0 {
			return nil, fmt.Errorf("the ordering template names {%s}, which is not a key column of table %s (those are %s): use key columns, "+
				"{table} or {key}, or ordering %s", p.name, t.Name, strings.Join(names, ", "), orderBuckets)
		}
	}
	return at, nil
}

// appendKey appends the change's ordering key; nothing without ordering. at is what keyParts found for its table.
func (o *ordering) appendKey(dst []byte, c *change.Change, at []int) []byte {
	if len(o.parts) == 0 && len(o.buckets) == 0 {
		return dst
	}
	start := len(dst)
	if len(o.buckets) > 0 {
		dst = append(append(dst, c.Table.Name...), 0)
		dst = c.AppendKey(dst)
		n := bucket(dst[start:], len(o.buckets))
		return append(dst[:start], o.buckets[n]...)
	}
	for i, p := range o.parts {
		switch {
		case p.name == "":
			dst = append(dst, p.text...)
		case at[i] >= 0:
			dst = append(dst, unquoted(c.Key[at[i]])...)
		case p.name == nameTable:
			dst = append(dst, c.Table.Name...)
		default:
			dst = c.AppendKey(dst)
		}
	}
	key := dst[start:]
	if len(key) == 0 {
		return append(dst, `""`...) // an empty ordering key would mean no order at all
	}
	if len(key) > maxOrderingKey || !utf8.Valid(key) {
		sum := sha256.Sum256(key)
		return hex.AppendEncode(append(dst[:start], "sha256:"...), sum[:])
	}
	return dst
}

// bucket is FNV-1a, 64 bits, folded into n buckets. It must never change: a row that changed its ordering key between two
// versions of this program could be seen out of order.
func bucket(b []byte, n int) int {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return int((h ^ h>>32) % uint64(n))
}

// unquoted is a value's text for a template: a string's text as JSON writes it, without its quotes.
func unquoted(v change.Value) []byte {
	if len(v) >= 2 && v[0] == '"' {
		return v[1 : len(v)-1]
	}
	return v
}
