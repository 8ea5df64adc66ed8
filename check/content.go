package check

import (
	"encoding/json"
	"fmt"

	"github.com/spanledger/spanledger/change"
)

// content is what a segment's record or a message says of one change.
type content struct {
	id       string
	position change.Position
	commit   change.Timestamp
	table    string
	op       string
	capture  string
	tag      string
	system   bool
	records  int64
	parts    int64
	// key, after and before hold columns by name.
	key, after, before Row
	// inconsistent says in what the content contradicts itself, "" if in nothing.
	inconsistent string
}

// delivery is the content as a Delivery; the key is put into the order the truth has, if it has the change.
func (m *content) delivery(t *Truth, object string) *Delivery {
	d := &Delivery{Position: m.position, Table: m.table, Op: m.op, After: m.after, Before: m.before, Values: true, Object: object, content: m}
	names := make([]string, len(m.key))
	for i, v := range m.key {
		names[i] = v.Column.Name
	}
	if keys, _ := t.columnsOf(m.position); len(keys) == len(names) {
		for n, c := range keys {
			names[n] = c.Name
		}
	}
	key, err := list(len(names), func(i int) (string, error) {
		text, ok := m.key.Get(names[i])
		if !ok {
			return "", fmt.Errorf("no column %s", names[i])
		}
		return text, nil
	})
	if err != nil {
		key = "(" + err.Error() + ")"
	}
	d.Key = key
	return d
}

// mismatch says in what the content's envelope differs from the truth, "" if in nothing.
func (m *content) mismatch(c *Change) string {
	switch {
	case m.inconsistent != "":
		return m.inconsistent
	case m.commit != c.Position.Commit:
		return "commit timestamp is " + m.commit.String() + ": the stream has " + c.Position.Commit.String()
	case m.id != c.ID():
		return fmt.Sprintf("id is %s: the position's text is %s", short(m.id), c.ID())
	case m.capture != c.Capture:
		return fmt.Sprintf("capture type is %s: the stream has %s", short(m.capture), c.Capture)
	case m.tag != c.Tag || m.system != c.System:
		return fmt.Sprintf("transaction tag %q, system %t: the stream has %q, %t", short(m.tag), m.system, c.Tag, c.System)
	case m.records != c.Records || m.parts != c.Partitions:
		return fmt.Sprintf("%d records, %d partitions: the stream has %d, %d", m.records, m.parts, c.Records, c.Partitions)
	}
	return ""
}

// jsonContent reads the plain JSON form. It has no types, so values are read with those of the truth's change; a column the
// truth does not have is compared as it stands.
func jsonContent(t *Truth, data []byte) (*content, error) {
	var j struct {
		ID          string                     `json:"id"`
		Commit      change.Timestamp           `json:"commit_timestamp"`
		Transaction string                     `json:"transaction"`
		Sequence    string                     `json:"sequence"`
		Mod         int32                      `json:"mod"`
		Table       string                     `json:"table"`
		Op          string                     `json:"op"`
		Capture     string                     `json:"capture"`
		Tag         string                     `json:"tag"`
		System      bool                       `json:"system"`
		Snapshot    bool                       `json:"snapshot"`
		Records     int64                      `json:"records"`
		Partitions  int64                      `json:"partitions"`
		Key         map[string]json.RawMessage `json:"key"`
		After       map[string]json.RawMessage `json:"after"`
		Before      map[string]json.RawMessage `json:"before"`
	}
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, fmt.Errorf("it is not a change in JSON: %w", err)
	}
	m := &content{id: j.ID, commit: j.Commit, table: j.Table, op: j.Op, capture: j.Capture, tag: j.Tag, system: j.System,
		records: j.Records, parts: j.Partitions}
	m.position = change.Position{Commit: j.Commit, Snapshot: j.Snapshot, Transaction: j.Transaction, Sequence: j.Sequence, Mod: j.Mod}
	_, types := t.columnsOf(m.position)
	for _, part := range []struct {
		from map[string]json.RawMessage
		to   *Row
	}{{j.Key, &m.key}, {j.After, &m.after}, {j.Before, &m.before}} {
		var values []Value
		for name, text := range part.from {
			column := types[name]
			if column == nil {
				column = &Column{Name: name}
			}
			s, err := column.Type.Canonical(text)
			if err != nil {
				m.inconsistent = fmt.Sprintf("column %s: %v", name, err)
				s = string(text)
			}
			values = append(values, Value{column, s})
		}
		row, err := MakeRow(values...)
		if err != nil {
			return nil, err
		}
		*part.to = row
	}
	return m, nil
}
