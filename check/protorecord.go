package check

import (
	"encoding/json"
	"fmt"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"

	"github.com/spanledger/spanledger/change"
)

// protoChanges decodes one data change record of a stream with mutable key ranges.
func (d *decoder) protoChanges(token string, r *sppb.ChangeStreamRecord_DataChangeRecord) ([]Change, error) {
	base := Change{
		Position: change.Position{Commit: change.TimestampOf(r.GetCommitTimestamp().AsTime()), Transaction: r.GetServerTransactionId(), Sequence: d.intern(r.GetRecordSequence())},
		Table:    d.intern(r.GetTable()), Op: r.GetModType().String(), Capture: r.GetValueCaptureType().String(),
		Partition: token, Tag: d.intern(r.GetTransactionTag()), System: r.GetIsSystemTransaction(),
		Records: int64(r.GetNumberOfRecordsInTransaction()), Partitions: int64(r.GetNumberOfPartitionsInTransaction()),
	}
	if err := base.complete(); err != nil {
		return nil, err
	}
	columns := make([]*Column, len(r.GetColumnMetadata()))
	var keys []*Column
	for i, m := range r.GetColumnMetadata() {
		typeJSON, err := json.Marshal(typeOf(m.GetType()))
		if err != nil {
			return nil, fmt.Errorf("check: column %s: %w", m.GetName(), err)
		}
		if columns[i], err = d.column(m.GetName(), string(typeJSON)); err != nil {
			return nil, err
		}
		if m.GetIsPrimaryKey() {
			keys = append(keys, columns[i])
		}
	}
	base.KeyColumns = d.shape(keys)
	all := make([]Change, len(r.GetMods()))
	for i, m := range r.GetMods() {
		c := base
		c.Position.Mod = int32(i)
		key, err := protoRow(m.GetKeys(), columns)
		if err == nil {
			c.Key, err = keyOf(key, c.KeyColumns)
		}
		if err != nil {
			return nil, fmt.Errorf("change %s, keys: %w", c.ID(), err)
		}
		if c.After, err = protoRow(m.GetNewValues(), columns); err != nil {
			return nil, fmt.Errorf("change %s, new values: %w", c.ID(), err)
		}
		if c.Before, err = protoRow(m.GetOldValues(), columns); err != nil {
			return nil, fmt.Errorf("change %s, old values: %w", c.ID(), err)
		}
		all[i] = c
	}
	return all, nil
}

// keyOf is a row that must hold just these columns, as a canonical array in their order.
func keyOf(row Row, columns []*Column) (string, error) {
	if len(row) != len(columns) {
		return "", fmt.Errorf("check: it has %d values, the key %d columns", len(row), len(columns))
	}
	return list(len(columns), func(i int) (string, error) {
		text, ok := row.Get(columns[i].Name)
		if !ok {
			return "", fmt.Errorf("check: it lacks the key column %s", columns[i].Name)
		}
		return text, nil
	})
}

func protoRow(values []*sppb.ChangeStreamRecord_DataChangeRecord_ModValue, columns []*Column) (Row, error) {
	if len(values) == 0 {
		return nil, nil
	}
	row := make([]Value, len(values))
	for i, v := range values {
		n := int(v.GetColumnMetadataIndex())
		if n < 0 || n >= len(columns) {
			return nil, fmt.Errorf("check: a value is of column %d, and there are %d", n, len(columns))
		}
		text, err := columns[n].Type.canonical(cellValue(v.GetValue()))
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", columns[n].Name, err)
		}
		row[i] = Value{columns[n], text}
	}
	return MakeRow(row...)
}

// typeOf is a type of the wire as the other kind of record writes it.
func typeOf(t *sppb.Type) Type {
	if t.GetCode() == sppb.TypeCode_TYPE_CODE_UNSPECIFIED {
		return Type{} // which column refuses
	}
	out := Type{Code: t.GetCode().String(), ProtoName: t.GetProtoTypeFqn()}
	if a := t.GetTypeAnnotation(); a != sppb.TypeAnnotationCode_TYPE_ANNOTATION_CODE_UNSPECIFIED {
		out.Annotation = a.String()
	}
	if e := t.GetArrayElementType(); e != nil {
		elem := typeOf(e)
		out.Elem = &elem
	}
	return out
}
