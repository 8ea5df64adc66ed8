package server

import (
	"cmp"
	"slices"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// mutations translates a commit's mutations under one schema version. What access does not allow is PERMISSION_DENIED. latest
// is what commit timestamps may be at most.
func mutations(s *store.Schema, access *store.Access, in []*sppb.Mutation, latest int64) ([]store.Mutation, error) {
	out := make([]store.Mutation, 0, len(in))
	for i, m := range in {
		var op store.MutationOp
		var w *sppb.Mutation_Write
		switch x := m.GetOperation().(type) {
		case *sppb.Mutation_Insert:
			op, w = store.InsertRow, x.Insert
		case *sppb.Mutation_Update:
			op, w = store.UpdateRow, x.Update
		case *sppb.Mutation_InsertOrUpdate:
			op, w = store.InsertOrUpdateRow, x.InsertOrUpdate
		case *sppb.Mutation_Replace:
			op, w = store.ReplaceRow, x.Replace
		case *sppb.Mutation_Delete_:
			t, err := tableNamed(s, x.Delete.GetTable())
			if err != nil {
				return nil, err
			}
			if err := access.Some(store.DeletePrivilege, t); err != nil {
				return nil, err
			}
			sm := store.Mutation{Op: store.DeleteRows, Table: t}
			keys := x.Delete.GetKeySet()
			if sm.Ranges, err = keySet(tableKey(t), t.QualifiedName(), keys); err != nil {
				return nil, err
			}
			if stampedKey(t) {
				if err := pastKeys(t, keys, latest); err != nil {
					return nil, err
				}
				sm.RangesAt = func(commit int64) ([]store.Range, error) {
					return keySet(tableKeyAt(t, commit), t.QualifiedName(), keys)
				}
			}
			out = append(out, sm)
			continue
		case nil:
			return nil, store.Errorf(codes.InvalidArgument, "mutation %d has no operation", i)
		default:
			return nil, store.Errorf(codes.Unimplemented, "the embedded Spanner does not support mutations of kind %T", x)
		}
		t, err := tableNamed(s, w.GetTable())
		if err != nil {
			return nil, err
		}
		sm := store.Mutation{Op: op, Table: t}
		if sm.Columns, err = columnsNamed(t, w.GetColumns()); err != nil {
			return nil, err
		}
		if err := mayWrite(access, op, t, sm.Columns); err != nil {
			return nil, err
		}
		for _, list := range w.GetValues() {
			values := list.GetValues()
			if len(values) != len(sm.Columns) {
				return nil, store.Errorf(codes.InvalidArgument, "a mutation of table %s names %d columns and has a row of %d values", t.QualifiedName(), len(sm.Columns), len(values))
			}
			row := make(store.Row, len(values))
			for j, p := range values {
				c := &t.Columns[sm.Columns[j]]
				if row[j], err = decodeColumn(c, p); err != nil {
					return nil, store.Errorf(codes.FailedPrecondition, "invalid value for column %s in table %s: %v", c.Name, t.QualifiedName(), err)
				}
			}
			sm.Rows = append(sm.Rows, row)
		}
		out = append(out, sm)
	}
	return out, nil
}

// mayWrite refuses a write to columns that takes more privileges than the session has. An update needs UPDATE on the key
// too, since the mutation writes it.
func mayWrite(access *store.Access, op store.MutationOp, t *store.Table, columns []int) error {
	if op != store.UpdateRow {
		if err := access.Insert(t, columns); err != nil {
			return err
		}
	}
	switch op {
	case store.UpdateRow, store.InsertOrUpdateRow:
		return access.Columns(store.UpdatePrivilege, t, columns...)
	case store.ReplaceRow:
		return access.Some(store.DeletePrivilege, t)
	}
	return nil
}

func tableNamed(s *store.Schema, name string) (*store.Table, error) {
	if name == "" {
		return nil, store.Errorf(codes.InvalidArgument, "the table name is missing")
	}
	if t := s.Table(name); t != nil {
		return t, nil
	}
	return nil, store.Errorf(codes.NotFound, "Table not found: %s", name)
}

func columnsNamed(t *store.Table, names []string) ([]int, error) {
	out := make([]int, len(names))
	seen := make([]bool, len(t.Columns))
	for i, n := range names {
		c := t.ColumnIndex(n)
		if c < 0 {
			return nil, store.Errorf(codes.NotFound, "Column not found in table %s: %s", t.QualifiedName(), n)
		}
		if seen[c] {
			return nil, store.Errorf(codes.InvalidArgument, "column %s of table %s is named twice", n, t.QualifiedName())
		}
		seen[c] = true
		out[i] = c
	}
	return out, nil
}

// keyPart is one part of the key that a key set is about.
type keyPart struct {
	column *store.Column
	desc   bool
	commit int64 // takes the place of the commit timestamp's placeholder, unless 0
}

// stampedKey reports whether a table's key may hold commit timestamps.
func stampedKey(t *store.Table) bool {
	return slices.ContainsFunc(t.Key, func(p store.KeyPart) bool { return t.Columns[p.Column].AllowCommitTimestamp })
}

// tableKeyAt is tableKey for a commit at a timestamp.
func tableKeyAt(t *store.Table, commit int64) []keyPart {
	parts := tableKey(t)
	for i := range parts {
		parts[i].commit = commit
	}
	return parts
}

func tableKey(t *store.Table) []keyPart {
	out := make([]keyPart, len(t.Key))
	for i, p := range t.Key {
		out[i] = keyPart{column: &t.Columns[p.Column], desc: p.Desc}
	}
	return out
}

func indexKey(x *store.Index, t *store.Table) []keyPart {
	out := make([]keyPart, len(x.Key))
	for i, p := range x.Key {
		out[i] = keyPart{column: &t.Columns[p.Column], desc: p.Desc}
	}
	return out
}

func encodeKey(parts []keyPart, where string, list *structpb.ListValue, whole bool) (store.Key, error) {
	values := list.GetValues()
	if len(values) > len(parts) || whole && len(values) < len(parts) {
		return "", store.Errorf(codes.FailedPrecondition, "a key of %s has %d parts, not %d", where, len(parts), len(values))
	}
	var b []byte
	for i, p := range values {
		v, err := decodeColumn(parts[i].column, p)
		if err != nil {
			return "", store.Errorf(codes.FailedPrecondition, "invalid key part %s of %s: %v", parts[i].column.Name, where, err)
		}
		if parts[i].commit != 0 && v.IsPendingCommitTimestamp() {
			v = store.MicrosValue(parts[i].commit)
		}
		b = store.AppendKeyPart(b, parts[i].column.Type, v, parts[i].desc)
	}
	return store.Key(b), nil
}

// keySet translates a key set into encoded ranges, in key order and without overlaps.
func keySet(parts []keyPart, where string, ks *sppb.KeySet) ([]store.Range, error) {
	if ks.GetAll() {
		return []store.Range{{}}, nil
	}
	var out []store.Range
	for _, k := range ks.GetKeys() {
		key, err := encodeKey(parts, where, k, true)
		if err != nil {
			return nil, err
		}
		out = append(out, store.PrefixRange(key))
	}
	for _, r := range ks.GetRanges() {
		var kr store.Range
		var err error
		switch s := r.GetStartKeyType().(type) {
		case *sppb.KeyRange_StartClosed:
			kr.Start, err = encodeKey(parts, where, s.StartClosed, false)
		case *sppb.KeyRange_StartOpen:
			if kr.Start, err = encodeKey(parts, where, s.StartOpen, false); err == nil {
				if kr.Start = store.PrefixEnd(kr.Start); kr.Start == "" {
					continue
				}
			}
		default:
			return nil, store.Errorf(codes.InvalidArgument, "a key range of %s has no start", where)
		}
		if err != nil {
			return nil, err
		}
		empty := false
		switch e := r.GetEndKeyType().(type) {
		case *sppb.KeyRange_EndClosed:
			kr.End, err = encodeKey(parts, where, e.EndClosed, false)
			kr.End = store.PrefixEnd(kr.End)
		case *sppb.KeyRange_EndOpen:
			kr.End, err = encodeKey(parts, where, e.EndOpen, false)
			empty = kr.End == ""
		default:
			return nil, store.Errorf(codes.InvalidArgument, "a key range of %s has no end", where)
		}
		if err != nil {
			return nil, err
		}
		if empty || kr.End != "" && kr.End <= kr.Start {
			continue
		}
		out = append(out, kr)
	}
	slices.SortFunc(out, func(a, b store.Range) int { return cmp.Compare(a.Start, b.Start) })
	merged := out[:0]
	for _, r := range out {
		if n := len(merged); n > 0 && (merged[n-1].End == "" || r.Start < merged[n-1].End) {
			if merged[n-1].End != "" && (r.End == "" || r.End > merged[n-1].End) {
				merged[n-1].End = r.End
			}
			continue
		}
		merged = append(merged, r)
	}
	return merged, nil
}

// pastKeys refuses keys of a delete that name a commit timestamp in the future, as Spanner does: they cannot be there.
func pastKeys(t *store.Table, ks *sppb.KeySet, latest int64) error {
	parts := tableKey(t)
	keys := slices.Clone(ks.GetKeys())
	for _, r := range ks.GetRanges() {
		some, err := keySet(parts, t.QualifiedName(), &sppb.KeySet{Ranges: []*sppb.KeyRange{r}})
		if err != nil {
			return err
		}
		if len(some) > 0 { // an empty range may have any ends
			keys = append(keys, r.GetStartClosed(), r.GetStartOpen(), r.GetEndClosed(), r.GetEndOpen())
		}
	}
	for _, k := range keys {
		for i, p := range k.GetValues() {
			c := parts[i].column
			if !c.AllowCommitTimestamp {
				continue
			}
			v, err := decodeColumn(c, p)
			if err != nil {
				return err
			}
			if !v.IsPendingCommitTimestamp() && store.Compare(c.Type, v, store.MicrosValue(latest)) > 0 {
				return store.Errorf(codes.FailedPrecondition, "cannot delete by a timestamp in the future: column %s of table %s holds commit timestamps", c.Name, t.QualifiedName())
			}
		}
	}
	return nil
}
