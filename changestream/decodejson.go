package changestream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spanledger/spanledger/change"
)

// The PostgreSQL dialect's form: a row is one JSON object with one member, the record, in which everything is nested JSON.

func (d *decoder) jsonRow(v value) error {
	if v.kind == kindNull {
		return nil
	}
	if v.kind != kindString {
		return fmt.Errorf("want JSON text, have a %v", v.kind)
	}
	var m members
	m.open(v.data)
	some := false
	for m.next() {
		if isNull(m.value) {
			continue
		}
		if some {
			return errors.New("a change record with two records")
		}
		some = true
		var err error
		switch recordFields[string(m.name())] {
		case fieldData:
			if err = d.jsonData(m.value); err == nil {
				d.rec.size = len(m.value)
				err = d.data(d.jsonMods)
			}
		case fieldHeartbeat:
			err = d.jsonHeartbeat(m.value)
		case fieldChildren:
			err = d.jsonChildren(m.value)
		default:
			err = d.unknownRecord(string(m.name()))
		}
		if err != nil {
			return err
		}
	}
	return m.close()
}

func isNull(raw []byte) bool { return len(raw) == 4 && raw[0] == 'n' }

// jsonText answers a string's text; other kinds of value, such as numbers, as they stand.
func jsonText(raw []byte) []byte {
	if len(raw) < 2 || raw[0] != '"' {
		return raw
	}
	inside := raw[1 : len(raw)-1]
	for _, c := range inside {
		if c == '\\' {
			return unescape(inside)
		}
	}
	return inside
}

func (d *decoder) jsonData(raw []byte) error {
	d.rec = record{}
	var m members
	m.open(raw)
	for m.next() {
		f := dataFields[string(m.name())]
		switch {
		case f == fieldUnknown:
			if err := d.unknownField("a data change record", string(m.name())); err != nil {
				return err
			}
		case f == fieldLast || isNull(m.value):
		case f == fieldSystem:
			d.rec.sys = string(m.value) == "true"
		case f == fieldColumns || f == fieldMods:
			if err := d.rec.set(f, m.value); err != nil {
				return err
			}
		default:
			if err := d.rec.set(f, jsonText(m.value)); err != nil {
				return err
			}
		}
	}
	return m.close()
}

func (d *decoder) jsonMods(s *shape, template *change.Change) error {
	var e elements
	e.open(d.rec.mods)
	for n := int32(0); e.next(); n++ {
		var texts [3][]byte
		var m members
		m.open(e.value)
		for m.next() {
			f := modFields[string(m.name())]
			if f == fieldUnknown {
				if err := d.unknownField("a mod", string(m.name())); err != nil {
					return err
				}
			}
			if f == fieldUnknown || isNull(m.value) {
				continue
			}
			texts[f-fieldKeys] = m.value
		}
		if err := m.close(); err != nil {
			return err
		}
		if err := d.mod(s, template, n, texts); err != nil {
			return err
		}
	}
	return e.close()
}

// unmarshal is encoding/json's, for what comes seldom; strict refuses members it has no place for.
func unmarshal(raw []byte, strict bool, into any) error {
	if !strict {
		return json.Unmarshal(raw, into)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

func jsonColumns(raw []byte, strict bool) ([]change.Column, error) {
	if raw == nil {
		return nil, nil
	}
	var in []struct {
		Name    string       `json:"name"`
		Type    *change.Type `json:"type"`
		Key     bool         `json:"is_primary_key"`
		Ordinal int          `json:"ordinal_position"`
	}
	if err := unmarshal(raw, strict, &in); err != nil {
		return nil, err
	}
	out := make([]change.Column, len(in))
	for i, c := range in {
		out[i] = change.Column{Name: c.Name, Type: c.Type, Key: c.Key, Ordinal: c.Ordinal}
	}
	return out, nil
}

func (d *decoder) jsonHeartbeat(raw []byte) error {
	var m members
	m.open(raw)
	for m.next() {
		err := error(nil)
		if heartbeatFields[string(m.name())] == fieldTimestamp {
			err = d.heartbeat(jsonText(m.value))
		} else {
			err = d.unknownField("a heartbeat", string(m.name()))
		}
		if err != nil {
			return err
		}
	}
	return m.close()
}

func (d *decoder) jsonChildren(raw []byte) error {
	var in struct {
		Start    string `json:"start_timestamp"`
		Sequence string `json:"record_sequence"`
		Children []struct {
			Token   string    `json:"token"`
			Parents []*string `json:"parent_partition_tokens"`
		} `json:"child_partitions"`
	}
	if err := unmarshal(raw, d.strict, &in); err != nil {
		return fmt.Errorf("child partitions: %w", err)
	}
	if in.Start == "" {
		return errors.New("a child partitions record without its start")
	}
	start, err := parseTimestamp([]byte(in.Start))
	if err != nil {
		return fmt.Errorf("child partitions: %w", err)
	}
	var out []change.Partition
	for _, c := range in.Children {
		p := change.Partition{Token: c.Token, Start: start}
		for _, parent := range c.Parents {
			if parent != nil && *parent != "" {
				p.Parents = append(p.Parents, *parent)
			}
		}
		out = append(out, p)
	}
	return d.announce(start, out)
}
