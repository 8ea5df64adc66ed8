package changestream

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/spanledger/spanledger/change"
)

// The form of streams with mutable key ranges: each row is a google.spanner.v1.ChangeStreamRecord in base64. Values come as
// protobuf values and are written again as the JSON the other forms send.

func (d *decoder) protoRow(v value) error {
	if v.kind == kindNull {
		return nil
	}
	if v.kind != kindString {
		return fmt.Errorf("want a message in base64, have a %v", v.kind)
	}
	b := make([]byte, base64.StdEncoding.DecodedLen(len(v.data)))
	n, err := base64.StdEncoding.Decode(b, v.data)
	if err != nil {
		return err
	}
	b = b[:n]
	return eachField(b, func(num protowire.Number, raw []byte, _ uint64) error {
		switch num {
		case 1:
			if err := d.protoData(raw); err != nil {
				return err
			}
			d.rec.size = len(raw) + len(d.columnBytes)
			return d.data(d.protoMods)
		case 2:
			return eachField(raw, func(num protowire.Number, raw []byte, _ uint64) error {
				if num != 1 {
					return nil
				}
				t, fraction, err := protoTimestamp(raw)
				if err == nil {
					d.beat(t, fraction)
				}
				return err
			})
		case 3:
			return d.protoStart(raw)
		case 4:
			return d.protoEnd(raw)
		case 5:
			return d.protoEvent(raw)
		}
		return d.unknownRecord("field " + strconv.Itoa(int(num)))
	})
}

// eachField walks a message: f receives length-delimited fields as bytes and varints as numbers; other wire types are
// passed over.
func eachField(b []byte, f func(num protowire.Number, raw []byte, varint uint64) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || num > protowire.MaxValidNumber {
			return errWire
		}
		b = b[n:]
		var raw []byte
		var varint uint64
		known := true
		switch typ {
		case protowire.BytesType:
			raw, n = consumeBytes(b)
		case protowire.VarintType:
			varint, n = protowire.ConsumeVarint(b)
		default:
			known = false
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return errWire
		}
		b = b[n:]
		if known {
			if err := f(num, raw, varint); err != nil {
				return err
			}
		}
	}
	return nil
}

// protoTimestamp reads a google.protobuf.Timestamp, floored to microseconds; fraction says that something was cut off.
func protoTimestamp(b []byte) (t change.Timestamp, fraction bool, err error) {
	var seconds, nanos int64
	err = eachField(b, func(num protowire.Number, _ []byte, v uint64) error {
		switch num {
		case 1:
			seconds = int64(v)
		case 2:
			nanos = int64(int32(v))
		}
		return nil
	})
	if err != nil {
		return 0, false, err
	}
	if t := time.Unix(seconds, 0).UTC(); nanos < 0 || nanos > 999_999_999 || t.Year() < 1 || t.Year() > 9999 {
		return 0, false, fmt.Errorf("timestamp of %d s and %d ns is out of range", seconds, nanos)
	}
	return change.TimestampOf(time.Unix(seconds, nanos)), nanos%1000 != 0, nil
}

func (d *decoder) protoData(raw []byte) error {
	d.rec = record{}
	d.columnBytes, d.modRaws = d.columnBytes[:0], d.modRaws[:0]
	r := &d.rec
	err := eachField(raw, func(num protowire.Number, raw []byte, v uint64) (err error) {
		switch num {
		case 1:
			if r.hasCommit {
				return errors.New("a data change record with two commit timestamps")
			}
			r.commit, _, err = protoTimestamp(raw)
			r.hasCommit = true
		case 2:
			r.sequence, r.hasSequence = raw, true
		case 3:
			r.transaction, r.hasTransaction = raw, true
		case 5:
			r.table = raw
		case 6:
			d.columnBytes = protowire.AppendBytes(d.columnBytes, raw)
		case 7:
			d.modRaws = append(d.modRaws, raw)
		case 8:
			r.modType = protoOp(v)
		case 9:
			r.capture = protoCapture(v)
		case 10:
			r.records = int32(min(v, math.MaxInt32))
		case 11:
			r.partitions = int32(min(v, math.MaxInt32))
		case 12:
			r.tag = raw
		case 13:
			r.sys = v != 0
		case 4: // the last of its transaction: not needed
		default:
			err = d.unknownField("a data change record", strconv.Itoa(int(num)))
		}
		return err
	})
	r.columns, r.hasMods = d.columnBytes, true
	return err
}

var (
	protoOps      = [...][]byte{[]byte("INSERT"), []byte("UPDATE"), []byte("DELETE")}
	protoCaptures = [...][]byte{[]byte("OLD_AND_NEW_VALUES"), []byte("NEW_VALUES"), []byte("NEW_ROW"), []byte("NEW_ROW_AND_OLD_VALUES")}
)

// protoOp is the name of a ModType, which the other forms send; the number of one without a name.
func protoOp(v uint64) []byte { return enumName(v, protoOps[:]) }

// protoCapture is the same for a ValueCaptureType.
func protoCapture(v uint64) []byte { return enumName(v, protoCaptures[:]) }

// enumName finds the name of 10, 20, 30 …
func enumName(v uint64, names [][]byte) []byte {
	if v%10 == 0 && v > 0 && v/10 <= uint64(len(names)) {
		return names[v/10-1]
	}
	return strconv.AppendUint(nil, v, 10)
}

func protoColumns(raw []byte) ([]change.Column, error) {
	var out []change.Column
	for len(raw) > 0 {
		b, n := consumeBytes(raw)
		if n < 0 {
			return nil, errWire
		}
		raw = raw[n:]
		var m sppb.ChangeStreamRecord_DataChangeRecord_ColumnMetadata
		if err := proto.Unmarshal(b, &m); err != nil {
			return nil, err
		}
		out = append(out, change.Column{Name: m.GetName(), Type: typeOf(m.GetType(), 0), Key: m.GetIsPrimaryKey(), Ordinal: int(m.GetOrdinalPosition())})
	}
	return out, nil
}

// typeOf translates Spanner's type; nil for one that cannot be a column's.
func typeOf(t *sppb.Type, depth int) *change.Type {
	if t == nil || depth > 2 {
		return nil
	}
	u := &change.Type{ProtoName: t.GetProtoTypeFqn()}
	name := t.GetCode().String()
	for c := change.CodeBool; c <= change.CodeUUID; c++ {
		if c.String() == name {
			u.Code = c
		}
	}
	if u.Code == change.CodeUnknown {
		u.Name = name
	}
	switch t.GetTypeAnnotation() {
	case sppb.TypeAnnotationCode_PG_NUMERIC:
		u.Annotation = change.PGNumeric
	case sppb.TypeAnnotationCode_PG_JSONB:
		u.Annotation = change.PGJSONB
	case sppb.TypeAnnotationCode_PG_OID:
		u.Annotation = change.PGOID
	}
	if u.Code == change.CodeArray {
		if u.Elem = typeOf(t.GetArrayElementType(), depth+1); u.Elem == nil {
			return nil
		}
	}
	return u
}

func (d *decoder) protoMods(s *shape, template *change.Change) error {
	for n, raw := range d.modRaws {
		d.frames.held = append(d.frames.held, *template)
		c := &d.frames.held[len(d.frames.held)-1]
		c.Position.Mod = int32(n)
		c.Key = d.cut(s.keys)
		text := make([]byte, 0, len(raw)+len(raw)/4)
		err := eachField(raw, func(num protowire.Number, raw []byte, _ uint64) error {
			if num < 1 || num > 3 {
				return d.unknownField("a mod", strconv.Itoa(int(num)))
			}
			index, val := uint64(0), []byte(nil)
			err := eachField(raw, func(num protowire.Number, raw []byte, v uint64) error {
				switch num {
				case 1:
					index = v
				case 2:
					if val != nil {
						return errors.New("a value that comes twice")
					}
					val = raw
				default:
					return d.unknownField("a value", strconv.Itoa(int(num)))
				}
				return nil
			})
			if err != nil {
				return err
			}
			if index >= uint64(len(s.columns)) {
				return fmt.Errorf("mod %d names column %d of %d", n, index, len(s.columns))
			}
			at := len(text)
			if text, err = appendValueJSON(text, val, 0); err != nil {
				return fmt.Errorf("mod %d, column %s: %w", n, s.columns[index].name, err)
			}
			v := change.Value(text[at:len(text):len(text)])
			column := s.columns[index]
			switch {
			case num == 1 && column.key >= 0:
				c.Key[column.key] = v
			case num == 1:
				return fmt.Errorf("mod %d has the column %s in its keys", n, column.name)
			case column.key >= 0: // the key has it
			case num == 2:
				d.set(&c.Before, s, column.index, v)
			default:
				d.set(&c.After, s, column.index, v)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for i, v := range c.Key {
			if v == nil {
				return fmt.Errorf("mod %d: the key column %s is missing", n, s.table.Columns[s.table.Keys()[i]].Name)
			}
		}
	}
	return nil
}

func (d *decoder) set(row *change.Row, s *shape, index int, v change.Value) {
	if *row == nil {
		*row = d.cut(s.width)
	}
	(*row)[index] = v
}

// appendValueJSON appends a protobuf value as JSON text.
func appendValueJSON(dst, raw []byte, depth int) ([]byte, error) {
	v, err := parseValue(raw)
	if err != nil {
		return dst, err
	}
	switch v.kind {
	case kindNull:
		return append(dst, "null"...), nil
	case kindBool:
		return strconv.AppendBool(dst, v.bits != 0), nil
	case kindNumber:
		f := v.number()
		switch {
		case math.IsNaN(f):
			return append(dst, `"NaN"`...), nil
		case math.IsInf(f, 1):
			return append(dst, `"Infinity"`...), nil
		case math.IsInf(f, -1):
			return append(dst, `"-Infinity"`...), nil
		}
		return strconv.AppendFloat(dst, f, 'g', -1, 64), nil
	case kindString:
		return appendJSONString(dst, v.data)
	case kindList:
		if depth > 2 {
			return dst, errors.New("lists nested too deep")
		}
		dst = append(dst, '[')
		l := list{rest: v.data}
		for i := 0; ; i++ {
			elem, ok := l.nextRaw()
			if !ok {
				return append(dst, ']'), l.err
			}
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendValueJSON(dst, elem, depth+1); err != nil {
				return dst, err
			}
		}
	}
	return dst, fmt.Errorf("a %v is no column's value", v.kind)
}

const hexDigits = "0123456789abcdef"

func appendJSONString(dst, s []byte) ([]byte, error) {
	if !utf8.Valid(s) {
		return dst, errNotUTF8
	}
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= 0x20:
			dst = append(dst, c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(dst, '"'), nil
}
