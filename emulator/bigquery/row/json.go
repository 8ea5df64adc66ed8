package row

import (
	api "google.golang.org/api/bigquery/v2"
)

// TableRow is a row in the REST API's form: nested f and v members, every scalar a string.
func TableRow(fields []Field, r Row, o Format) *api.TableRow {
	out := &api.TableRow{F: make([]*api.TableCell, len(fields))}
	for i := range fields {
		out.F[i] = &api.TableCell{V: cell(&fields[i], r.At(i), o), NullFields: []string{}}
		if out.F[i].V == nil {
			out.F[i].NullFields = []string{"V"} // a NULL is sent, not left out
		}
	}
	return out
}

func cell(f *Field, v Value, o Format) any {
	if f.Mode != Repeated {
		return single(f, v, o)
	}
	list, _ := v.([]Value) // a column added later is nil: an empty array
	out := make([]*api.TableCell, len(list))
	for i, e := range list {
		out[i] = &api.TableCell{V: single(f, e, o)}
	}
	return out
}

func single(f *Field, v Value, o Format) any {
	switch v := v.(type) {
	case nil:
		return nil
	case Row:
		return TableRow(f.Fields, v, o)
	}
	return Text(f.Kind, v, o)
}
