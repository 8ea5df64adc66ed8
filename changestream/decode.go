package changestream

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"unicode/utf8"

	"github.com/spanledger/spanledger/change"
)

// decoder turns the messages of one query into changes, heartbeats and children. Values are slices of the messages, which
// therefore must never be written again; their memory lives as long as something points into it.
type decoder struct {
	token string
	// placement is the read function's, "" for that of all: it leads every token.
	placement string
	unions    *unions
	pass      bool // Options.PassUnknown
	strict    bool // Options.RefuseUnknownFields
	log       *slog.Logger
	limit     int
	// frames takes what a partition's query sends. It is nil for an initial query, whose children go to initial.
	frames  *framer
	initial []change.Partition

	layout *layout
	result partialResult
	// carry is the row whose end has not come yet, carried its bytes so far (0: none).
	carry   tree
	carried int
	// expect is what the query's next message will take: see inbox.
	expect int

	rec record
	// slab is where rows are cut from, names where short strings are.
	slab     []change.Value
	slabSize int
	names    []byte
	// columnBytes and modRaws gather what the protobuf form spreads over repeated fields.
	columnBytes []byte
	modRaws     [][]byte
	// The last strings of a kind: records of one transaction share them.
	transaction, sequence, tag string
}

// record is a data change record as it came, before its mods are read.
type record struct {
	commit                                               change.Timestamp
	sequence, transaction, table, modType, capture, tag  []byte
	columns, mods                                        []byte
	hasCommit, hasSequence, hasTransaction, hasMods, sys bool
	records, partitions                                  int32
	size                                                 int
}

// message decodes one PartialResultSet.
func (d *decoder) message(b []byte) error {
	if err := d.result.parse(b); err != nil {
		return d.fail("the message", err)
	}
	if d.result.metadata != nil && d.layout == nil {
		l, err := parseLayout(d.result.metadata, d.strict)
		if err != nil {
			return d.fail("the row type", err)
		}
		d.layout = l
	}
	if len(d.result.values) == 0 {
		return nil
	}
	if d.layout == nil {
		return d.fail("the message", errors.New("rows came before their row type"))
	}
	for i, raw := range d.result.values {
		cut := d.result.chunked && i == len(d.result.values)-1
		if i > 0 || d.carried == 0 {
			if !cut {
				if err := d.row(raw); err != nil {
					return err
				}
				continue
			}
			t, err := parseTree(raw, 0)
			if err != nil {
				return d.fail("the first part of a row", err)
			}
			d.carry, d.carried = t, len(raw)
			continue
		}
		t, err := parseTree(raw, 0)
		if err == nil {
			err = d.carry.merge(t)
		}
		if err != nil {
			return d.fail("a part of a row", err)
		}
		if d.carried += len(raw); d.carried > d.limit {
			return &TooLargeError{Token: d.token, Bytes: d.carried, Limit: d.limit} // I10
		}
		if !cut {
			whole := d.carry.append(make([]byte, 0, d.carried+1024))
			d.carry, d.carried = tree{}, 0
			if err := d.row(whole); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish says whether the messages ended where a row ends.
func (d *decoder) finish() error {
	if d.carried > 0 {
		return errors.New("the query ended inside a row")
	}
	return nil
}

// holds is how many bytes have been decoded and not handed over. The parts of a row are there once more when it is whole.
func (d *decoder) holds() int {
	n := 2 * d.carried
	if d.frames != nil {
		n += d.frames.heldBytes
	}
	return n
}

func (d *decoder) fail(what string, err error) error {
	var done *DecodeError
	var large *TooLargeError
	if errors.As(err, &done) || errors.As(err, &large) {
		return err
	}
	return &DecodeError{Token: d.token, What: what, Err: err}
}

func (d *decoder) row(raw []byte) error {
	v, err := parseValue(raw)
	if err != nil {
		return d.fail("the row", err)
	}
	switch d.layout.form {
	case formStruct:
		err = d.structRow(v)
	case formJSON:
		err = d.jsonRow(v)
	case formProto:
		err = d.protoRow(v)
	}
	if err != nil {
		return d.fail("the row", err)
	}
	return nil
}

// structRow decodes an ARRAY<STRUCT<...>>: one element in which one of the record kinds is not empty.
func (d *decoder) structRow(v value) error {
	outer, err := d.list(v)
	if err != nil {
		return err
	}
	for {
		elem, ok := outer.next()
		if !ok {
			return outer.err
		}
		kinds, err := d.list(elem)
		if err != nil {
			return err
		}
		for i := 0; ; i++ {
			of, ok := kinds.next()
			if !ok {
				break
			}
			if i >= len(d.layout.record) {
				return fmt.Errorf("a change record with more values than its %d fields", i)
			}
			records, err := d.list(of)
			if err != nil {
				return fmt.Errorf("%s: %w", d.layout.names[i], err)
			}
			for {
				raw, ok := records.nextRaw()
				if !ok {
					break
				}
				if err := d.structRecord(i, raw); err != nil {
					return err
				}
			}
			if records.err != nil {
				return records.err
			}
		}
		if kinds.err != nil {
			return kinds.err
		}
	}
}

// list answers the elements of an array or struct; NULL has none.
func (d *decoder) list(v value) (list, error) {
	switch v.kind {
	case kindNull:
		return list{}, nil
	case kindList:
		return list{rest: v.data}, nil
	}
	return list{}, fmt.Errorf("want a list, have a %v", v.kind)
}

func (d *decoder) structRecord(place int, raw []byte) error {
	if d.layout.record[place] == fieldUnknown {
		return d.unknownRecord(d.layout.names[place])
	}
	v, err := parseValue(raw)
	if err != nil {
		return err
	}
	if v.kind == kindNull {
		return nil
	}
	fields, err := d.list(v)
	if err != nil {
		return err
	}
	switch d.layout.record[place] {
	case fieldData:
		if err := d.structData(fields); err != nil {
			return err
		}
		d.rec.size = len(raw)
		return d.data(d.structMods)
	case fieldHeartbeat:
		for i := 0; ; i++ {
			f, ok := fields.next()
			if !ok {
				return fields.err
			}
			if i < len(d.layout.heartbeat) && d.layout.heartbeat[i] == fieldTimestamp {
				if err := d.heartbeat(f.data); err != nil {
					return err
				}
			}
		}
	}
	return d.structChildren(fields)
}

func (d *decoder) unknownRecord(name string) error {
	if d.pass {
		d.log.Warn("a change stream sent a record of a kind this version does not know; it was skipped", "kind", name, "partition", abbreviate(d.token))
		return nil
	}
	return fmt.Errorf("a record of the kind %q, which this version does not know: update Spanledger, or let unknown records pass", name)
}

// unknownField judges a field of a known record that this version has no name for.
func (d *decoder) unknownField(of, name string) error {
	if d.strict {
		return errUnknownField(of, name)
	}
	return nil
}

func errUnknownField(of, name string) error {
	return fmt.Errorf("%s has the field %q, which this version does not know: update Spanledger, or let unknown fields pass", of, name)
}

func (d *decoder) heartbeat(text []byte) error {
	t, err := parseTimestamp(text)
	if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	d.beat(t, belowMicro(text))
	return nil
}

// beat takes a heartbeat of t, floored to microseconds; fraction says that something was cut off.
//
// I5: a heartbeat promises everything before it. It may fall on the very end of its partition (Google's emulator sends such
// ones), and no checkpoint may reach that, so one on a whole microsecond proves the microsecond before. Nothing is waited
// for by that: no change has a heartbeat's timestamp.
func (d *decoder) beat(t change.Timestamp, fraction bool) {
	if d.frames == nil {
		return
	}
	if !fraction {
		t--
	}
	d.frames.heartbeat(t)
}

func (d *decoder) structData(fields list) error {
	d.rec = record{}
	for i := 0; ; i++ {
		v, ok := fields.next()
		if !ok {
			return fields.err
		}
		if i >= len(d.layout.data) {
			return fmt.Errorf("a data change record with more values than its %d fields", i)
		}
		f := d.layout.data[i]
		switch {
		case f == fieldUnknown || v.kind == kindNull:
			continue
		case f == fieldColumns || f == fieldMods:
			if v.kind != kindList {
				return fmt.Errorf("%s of a data change record is a %v", fieldLabel(f), v.kind)
			}
		case f == fieldLast || f == fieldSystem:
			if v.kind != kindBool {
				return fmt.Errorf("%s of a data change record is a %v", fieldLabel(f), v.kind)
			}
			if f == fieldSystem {
				d.rec.sys = v.bits != 0
			}
			continue
		case v.kind != kindString:
			return fmt.Errorf("%s of a data change record is a %v", fieldLabel(f), v.kind)
		}
		if err := d.rec.set(f, v.data); err != nil {
			return err
		}
	}
}

func fieldLabel(f field) string {
	for name, g := range dataFields {
		if f == g {
			return name
		}
	}
	return "a field"
}

// set takes a field's text.
func (r *record) set(f field, b []byte) (err error) {
	switch f {
	case fieldCommit:
		r.commit, err = parseTimestamp(b)
		r.hasCommit = true
	case fieldSequence:
		r.sequence, r.hasSequence = b, true
	case fieldTransaction:
		r.transaction, r.hasTransaction = b, true
	case fieldTable:
		r.table = b
	case fieldColumns:
		r.columns = b
	case fieldMods:
		r.mods, r.hasMods = b, true
	case fieldModType:
		r.modType = b
	case fieldCapture:
		r.capture = b
	case fieldRecords:
		r.records, err = parseCount(b)
	case fieldPartitions:
		r.partitions, err = parseCount(b)
	case fieldTag:
		r.tag = b
	}
	if err != nil {
		return fmt.Errorf("%s: %w", fieldLabel(f), err)
	}
	return nil
}

func parseCount(b []byte) (int32, error) {
	n, err := strconv.ParseInt(string(b), 10, 32)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a count", b)
	}
	return int32(n), nil
}

// columns reads the column list of d.rec; seldom called, because lists are interned.
func (d *decoder) columns() ([]change.Column, error) {
	var out []change.Column
	var err error
	switch d.layout.form {
	case formStruct:
		out, err = d.structColumns()
	case formJSON:
		out, err = jsonColumns(d.rec.columns, d.strict)
	case formProto:
		out, err = protoColumns(d.rec.columns)
	}
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(d.rec.table) {
		return nil, fmt.Errorf("the table's name %q is not UTF-8", d.rec.table)
	}
	for i, c := range out {
		if c.Name == "" || c.Type == nil || !utf8.ValidString(c.Name) {
			return nil, fmt.Errorf("column %d lacks a name or a type", i)
		}
		for _, e := range out[:i] {
			if e.Name == c.Name {
				return nil, fmt.Errorf("column %s is there twice", c.Name)
			}
		}
	}
	return out, nil
}

func (d *decoder) structColumns() ([]change.Column, error) {
	var out []change.Column
	columns := list{rest: d.rec.columns}
	for {
		column, ok := columns.next()
		if !ok {
			return out, columns.err
		}
		if column.kind != kindList {
			return nil, fmt.Errorf("a column is a %v", column.kind)
		}
		var c change.Column
		fields := list{rest: column.data}
		for i := 0; ; i++ {
			v, ok := fields.next()
			if !ok {
				break
			}
			if i >= len(d.layout.column) {
				return nil, fmt.Errorf("a column has more values than its %d fields", i)
			}
			switch d.layout.column[i] {
			case fieldName:
				c.Name = string(v.data)
			case fieldType:
				c.Type = new(change.Type)
				if err := c.Type.UnmarshalJSON(bytes.Clone(v.data)); err != nil {
					return nil, err
				}
			case fieldKey:
				c.Key = v.kind == kindBool && v.bits != 0
			case fieldOrdinal:
				if v.kind == kindString {
					n, err := parseCount(v.data)
					if err != nil {
						return nil, err
					}
					c.Ordinal = int(n)
				}
			}
		}
		if fields.err != nil {
			return nil, fields.err
		}
		out = append(out, c)
	}
}

func (d *decoder) structChildren(fields list) error {
	var start change.Timestamp
	var tokens []byte
	hasStart := false
	for i := 0; ; i++ {
		v, ok := fields.next()
		if !ok {
			break
		}
		if i >= len(d.layout.children) {
			return fmt.Errorf("a child partitions record with more values than its %d fields", i)
		}
		switch d.layout.children[i] {
		case fieldStart:
			t, err := parseTimestamp(v.data)
			if err != nil {
				return fmt.Errorf("child partitions: %w", err)
			}
			start, hasStart = t, true
		case fieldTokens:
			tokens = v.data
		}
	}
	if fields.err != nil {
		return fields.err
	}
	if !hasStart {
		return errors.New("a child partitions record without its start")
	}
	var out []change.Partition
	l := list{rest: tokens}
	for {
		child, ok := l.next()
		if !ok {
			break
		}
		p := change.Partition{Start: start}
		members, err := d.list(child)
		if err != nil {
			return err
		}
		for i := 0; ; i++ {
			v, ok := members.next()
			if !ok {
				break
			}
			if i >= len(d.layout.child) {
				return fmt.Errorf("a child partition with more values than its %d fields", i)
			}
			switch d.layout.child[i] {
			case fieldToken:
				p.Token = string(v.data)
			case fieldParents:
				parents, err := d.list(v)
				if err != nil {
					return err
				}
				for {
					parent, ok := parents.next()
					if !ok {
						break
					}
					if parent.kind == kindString && len(parent.data) > 0 { // no parents may be sent as [NULL]
						p.Parents = append(p.Parents, string(parent.data))
					}
				}
				if parents.err != nil {
					return parents.err
				}
			}
		}
		if members.err != nil {
			return members.err
		}
		out = append(out, p)
	}
	if l.err != nil {
		return l.err
	}
	return d.announce(start, out)
}

// announce hands children on.
func (d *decoder) announce(start change.Timestamp, children []change.Partition) error {
	if len(children) == 0 {
		return errors.New("a child partitions record without children")
	}
	for i := range children {
		p := &children[i]
		if p.Token == "" || !utf8.ValidString(p.Token) {
			return errNoToken
		}
		p.Token = d.place(p.Token)
		for j := range p.Parents {
			p.Parents[j] = d.place(p.Parents[j])
		}
	}
	switch {
	case d.frames == nil:
		d.initial = append(d.initial, children...)
		return nil
	case d.layout.form == formProto: // mutable key ranges: the partition lives on
		return d.frames.start(start, children)
	}
	return d.frames.child(start, children)
}

// place makes a token of Spanner's one of the Reader's.
func (d *decoder) place(token string) string {
	if d.placement == "" || token == "" {
		return token
	}
	return d.placement + placementMark + token
}
