package changestream

import (
	"errors"
	"fmt"
	"unicode/utf8"
	"unsafe"

	"github.com/spanledger/spanledger/change"
)

// The steps from a data change record to changes that all forms share, and the slabs changes are cut from.

// data reads the mods of d.rec into changes; each walks them in the record's own form.
func (d *decoder) data(each func(s *shape, template *change.Change) error) error {
	r := &d.rec
	switch {
	case !r.hasCommit || !r.hasSequence || !r.hasTransaction || len(r.table) == 0 || !r.hasMods:
		return errors.New("a data change record without its commit timestamp, transaction, sequence, table or mods")
	case d.frames == nil:
		return errors.New("a data change record in an answer to an initial query")
	}
	wrap := func(err error) error {
		var large *TooLargeError
		if errors.As(err, &large) {
			return err
		}
		return &DecodeError{Token: d.token, Commit: r.commit, What: fmt.Sprintf("transaction %s, sequence %s, table %s", r.transaction, r.sequence, r.table), Err: err}
	}
	c := change.Change{Partition: d.token, Records: r.records, Partitions: r.partitions, System: r.sys}
	var err error
	if c.Op, err = parseOp(r.modType, d.pass); err != nil {
		return wrap(err)
	}
	if c.Capture, err = parseCapture(r.capture, d.pass); err != nil {
		return wrap(err)
	}
	c.Position.Commit = r.commit
	for _, s := range [...]struct {
		last *string
		text []byte
		to   *string
	}{{&d.transaction, r.transaction, &c.Position.Transaction}, {&d.sequence, r.sequence, &c.Position.Sequence}, {&d.tag, r.tag, &c.Tag}} {
		if *s.last != string(s.text) {
			if !utf8.Valid(s.text) {
				return wrap(fmt.Errorf("%q is not UTF-8", s.text))
			}
			*s.last = d.text(s.text)
		}
		*s.to = *s.last
	}
	s, h := d.unions.lookup(r.table, r.columns)
	if s == nil {
		columns, err := d.columns()
		if err != nil {
			return wrap(fmt.Errorf("column_types: %w", err))
		}
		s = d.unions.learn(h, string(r.table), r.columns, columns)
	}
	c.Table = s.table
	if err := d.frames.begin(r.commit); err != nil {
		return wrap(err)
	}
	before := len(d.frames.held)
	if err := each(s, &c); err != nil {
		return wrap(err)
	}
	n := len(d.frames.held) - before
	if err := d.frames.end(r.size + n*(changeBytes+valueBytes*(s.keys+2*s.width))); err != nil {
		return wrap(err)
	}
	return nil
}

// changeBytes is what a Change takes in a slice, rounded up; valueBytes what a Value's header takes.
const (
	changeBytes = 256
	valueBytes  = 24
)

func parseOp(b []byte, pass bool) (change.Op, error) {
	switch string(b) {
	case "INSERT":
		return change.Insert, nil
	case "UPDATE":
		return change.Update, nil
	case "DELETE":
		return change.Delete, nil
	}
	if pass {
		return change.UnknownOp, nil
	}
	return change.UnknownOp, fmt.Errorf("the mod_type %q, which this version does not know: update Spanledger, or let unknown records pass", b)
}

func parseCapture(b []byte, pass bool) (change.Capture, error) {
	switch string(b) {
	case "OLD_AND_NEW_VALUES":
		return change.OldAndNewValues, nil
	case "NEW_VALUES":
		return change.NewValues, nil
	case "NEW_ROW":
		return change.NewRow, nil
	case "NEW_ROW_AND_OLD_VALUES":
		return change.NewRowAndOldValues, nil
	}
	if pass {
		return change.UnknownCapture, nil
	}
	return change.UnknownCapture, fmt.Errorf("the value_capture_type %q, which this version does not know: update Spanledger, or let unknown records pass", b)
}

// structMods walks ARRAY<STRUCT<keys JSON, new_values JSON, old_values JSON>>.
func (d *decoder) structMods(s *shape, template *change.Change) error {
	mods := list{rest: d.rec.mods}
	for n := int32(0); ; n++ {
		mod, ok := mods.next()
		if !ok {
			return mods.err
		}
		if mod.kind != kindList {
			return fmt.Errorf("mod %d is a %v", n, mod.kind)
		}
		var texts [3][]byte
		fields := list{rest: mod.data}
		for i := 0; ; i++ {
			v, ok := fields.next()
			if !ok {
				break
			}
			if i >= len(d.layout.mod) {
				return fmt.Errorf("mod %d has more values than its %d fields", n, i)
			}
			f := d.layout.mod[i]
			if f == fieldUnknown || v.kind == kindNull {
				continue
			}
			if v.kind != kindString {
				return fmt.Errorf("mod %d has a %v where JSON should be", n, v.kind)
			}
			texts[f-fieldKeys] = v.data
		}
		if fields.err != nil {
			return fields.err
		}
		if err := d.mod(s, template, n, texts); err != nil {
			return err
		}
	}
}

// mod appends one change: texts are the JSON objects of keys, new and old values, nil for NULL.
func (d *decoder) mod(s *shape, template *change.Change, n int32, texts [3][]byte) error {
	d.frames.held = append(d.frames.held, *template)
	c := &d.frames.held[len(d.frames.held)-1]
	c.Position.Mod = n
	var err error
	if c.Key, err = d.key(s, texts[0]); err != nil {
		return fmt.Errorf("mod %d: keys: %w", n, err)
	}
	if c.After, err = d.values(s, texts[1]); err != nil {
		return fmt.Errorf("mod %d: new_values: %w", n, err)
	}
	if c.Before, err = d.values(s, texts[2]); err != nil {
		return fmt.Errorf("mod %d: old_values: %w", n, err)
	}
	return nil
}

func (d *decoder) key(s *shape, text []byte) ([]change.Value, error) {
	if text == nil {
		text = []byte("{}")
	}
	key := d.cut(s.keys)
	var m members
	m.open(text)
	hint := 0
	for m.next() {
		i := s.find(m.name(), hint)
		if i < 0 || s.columns[i].key < 0 {
			return nil, fmt.Errorf("%q is not a key column of column_types", m.key)
		}
		key[s.columns[i].key] = m.value
		hint = i + 1
	}
	if err := m.close(); err != nil {
		return nil, err
	}
	for i, v := range key {
		if v == nil {
			return nil, fmt.Errorf("the key column %s is missing", s.table.Columns[s.table.Keys()[i]].Name)
		}
	}
	if !utf8.Valid(text) {
		return nil, errNotUTF8
	}
	return key, nil
}

var errNotUTF8 = errors.New("the JSON is not UTF-8")

func (d *decoder) values(s *shape, text []byte) (change.Row, error) {
	if len(text) == 2 && text[0] == '{' && text[1] == '}' || text == nil {
		return nil, nil
	}
	var row change.Row
	var m members
	m.open(text)
	hint := 0
	for m.next() {
		i := s.find(m.name(), hint)
		if i < 0 {
			return nil, fmt.Errorf("%q is not in column_types", m.key)
		}
		hint = i + 1
		if s.columns[i].key >= 0 {
			continue // the key has it
		}
		if row == nil {
			row = d.cut(s.width)
		}
		row[s.columns[i].index] = m.value
	}
	if err := m.close(); err != nil {
		return nil, err
	}
	if !utf8.Valid(text) {
		return nil, errNotUTF8
	}
	return row, nil
}

// maxSlab bounds, in values, what an idle partition keeps of a slab.
const maxSlab = 256

// cut answers n empty values. They come from a slab shared with other rows, never to be written by another.
func (d *decoder) cut(n int) []change.Value {
	if n > len(d.slab) {
		d.slabSize = min(max(2*d.slabSize, 16), maxSlab)
		d.slab = make([]change.Value, max(n, d.slabSize))
	}
	row := d.slab[:n:n]
	d.slab = d.slab[n:]
	return row
}

// text copies b into a string. Strings are cut from a shared slab, which is only ever appended to.
func (d *decoder) text(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if len(b) > cap(d.names)-len(d.names) {
		d.names = make([]byte, 0, max(len(b), 512))
	}
	at := len(d.names)
	d.names = append(d.names, b...)
	return unsafe.String(&d.names[at], len(b))
}
