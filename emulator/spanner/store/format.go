package store

import (
	"strconv"
	"strings"
)

// FormatKey writes the primary key of a row for error texts, e.g. [1,"a"].
func FormatKey(t *Table, r Row) string {
	parts := make([]string, len(t.Key))
	for i, p := range t.Key {
		v, typ := r[p.Column], t.Columns[p.Column].Type
		switch {
		case !v.Valid:
			parts[i] = "NULL"
		case typ.Code == Timestamp && v.IsPendingCommitTimestamp():
			parts[i] = "commit timestamp"
		case typ.Code == String:
			parts[i] = strconv.Quote(v.Text)
		default:
			parts[i] = v.AsText(typ)
		}
	}
	return "[" + strings.Join(parts, ",") + "]"
}
