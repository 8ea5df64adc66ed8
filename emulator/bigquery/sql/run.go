package sql

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/spanledger/spanledger/emulator/bigquery/row"
)

// Parameter is a named query parameter of a scalar type.
type Parameter struct {
	Kind row.Kind
	// Text is the value as the REST API sends it (Bytes in base64); Null says there is none.
	Text string
	Null bool
}

// Result is a query's result.
type Result struct {
	Fields []row.Field
	Rows   []row.Row
}

// Run carries a query out over a table's columns and rows. Parameters are found by their lower-case name.
func (q *Select) Run(fields []row.Field, rows []row.Row, parameters map[string]Parameter) (Result, error) {
	keep, err := q.filter(fields, parameters)
	if err != nil {
		return Result{}, err
	}
	var kept []row.Row
	for _, r := range rows {
		if keep(r) {
			kept = append(kept, r)
		}
	}
	var out Result
	if slices.ContainsFunc(q.items, func(it item) bool { return it.aggregate != "" }) {
		if out, err = q.aggregate(fields, kept); err != nil {
			return Result{}, err
		}
	} else {
		if err := q.sort(fields, kept); err != nil {
			return Result{}, err
		}
		if out, err = q.project(fields, kept); err != nil {
			return Result{}, err
		}
	}
	from := min(q.offset, len(out.Rows))
	to := len(out.Rows)
	if q.limit >= 0 {
		to = min(from+min(q.limit, to), to)
	}
	out.Rows = out.Rows[from:to]
	return out, nil
}

// access is a column, or a struct's member, and how to get it from a row.
type access struct {
	field row.Field
	path  []int
}

func (a access) of(r row.Row) row.Value {
	for _, i := range a.path[:len(a.path)-1] {
		inner, ok := r.At(i).(row.Row)
		if !ok {
			return nil
		}
		r = inner
	}
	return r.At(a.path[len(a.path)-1])
}

func find(fields []row.Field, path []string) (access, error) {
	var a access
	for n, name := range path {
		i := row.Find(fields, name)
		if i < 0 {
			return access{}, fmt.Errorf("unrecognized name: %s", strings.Join(path, "."))
		}
		a.field, a.path = fields[i], append(a.path, i)
		if n < len(path)-1 && (a.field.Kind != row.Struct || a.field.Mode == row.Repeated) {
			return access{}, fmt.Errorf("cannot access field %s on a value of type %s %s", path[n+1], a.field.Mode, a.field.Kind)
		}
		fields = a.field.Fields
	}
	return a, nil
}

func scalar(fields []row.Field, path []string, what string) (access, error) {
	a, err := find(fields, path)
	if err != nil {
		return access{}, err
	}
	if _, ok := row.Compare(a.field.Kind, nil, nil); !ok || a.field.Mode == row.Repeated {
		return access{}, fmt.Errorf("%s is not defined for column %s of type %s %s", what, strings.Join(path, "."), a.field.Mode, a.field.Kind)
	}
	return a, nil
}

// filter makes the test of the WHERE clause.
func (q *Select) filter(fields []row.Field, parameters map[string]Parameter) (func(row.Row) bool, error) {
	var tests []func(row.Row) bool
	for _, c := range q.where {
		if c.op == "IS NULL" || c.op == "IS NOT NULL" {
			a, err := find(fields, c.column)
			if err != nil {
				return nil, err
			}
			want := c.op == "IS NULL"
			// An array is never NULL: BigQuery stores NULL arrays as empty ones.
			tests = append(tests, func(r row.Row) bool { return (a.of(r) == nil && a.field.Mode != row.Repeated) == want })
			continue
		}
		a, err := scalar(fields, c.column, "comparison")
		if err != nil {
			return nil, err
		}
		var values []row.Value
		for _, v := range c.values {
			x, err := v.as(&a.field, parameters)
			if err != nil {
				return nil, fmt.Errorf("comparison with %s: %w", strings.Join(c.column, "."), err)
			}
			values = append(values, x)
		}
		tests = append(tests, func(r row.Row) bool { return compare(a.field.Kind, c.op, a.of(r), values) })
	}
	return func(r row.Row) bool {
		for _, t := range tests {
			if !t(r) {
				return false
			}
		}
		return true
	}, nil
}

// compare is SQL's comparison: with NULL it is never true, and with NaN only != is.
func compare(k row.Kind, op string, v row.Value, values []row.Value) bool {
	if v == nil {
		return false
	}
	equal := func(w row.Value) bool { return w != nil && !nan(v) && !nan(w) && order(k, v, w) == 0 }
	switch op {
	case "IN":
		return slices.ContainsFunc(values, equal)
	case "NOT IN":
		return !slices.Contains(values, nil) && !slices.ContainsFunc(values, equal)
	}
	w := values[0]
	if w == nil {
		return false
	}
	if nan(v) || nan(w) {
		return op == "!="
	}
	n := order(k, v, w)
	return op == "=" && n == 0 || op == "!=" && n != 0 || op == "<" && n < 0 || op == "<=" && n <= 0 || op == ">" && n > 0 || op == ">=" && n >= 0
}

func order(k row.Kind, a, b row.Value) int {
	n, _ := row.Compare(k, a, b) // scalar has asked whether the kind has an order
	return n
}

func nan(v row.Value) bool {
	x, ok := v.(float64)
	return ok && math.IsNaN(x)
}

// coercible says which columns a value of a type may be compared with, beside its own.
var coercible = map[valueKind][]row.Kind{
	stringValue: {row.String, row.Timestamp, row.Date, row.Time, row.DateTime},
	intValue:    {row.Int64, row.Float64, row.Numeric, row.BigNumeric},
	floatValue:  {row.Float64, row.Numeric, row.BigNumeric},
	boolValue:   {row.Bool},
}

// as is the value as one of the column it is compared with.
func (v value) as(f *row.Field, parameters map[string]Parameter) (row.Value, error) {
	bare := row.Field{Name: f.Name, Kind: f.Kind} // a declared length does not bound what it is compared with
	switch v.kind {
	case parameterValue:
		p, ok := parameters[strings.ToLower(v.parameter)]
		if !ok {
			return nil, fmt.Errorf("query parameter @%s not found", v.parameter)
		}
		wide := p.Kind == row.Int64 && slices.Contains(coercible[intValue], f.Kind)
		if p.Kind != f.Kind && !wide {
			return nil, fmt.Errorf("parameter @%s is a %s, the column a %s", v.parameter, p.Kind, f.Kind)
		}
		if p.Null {
			return nil, nil
		}
		if p.Kind == row.Bytes {
			b, err := base64.StdEncoding.DecodeString(p.Text)
			if err != nil {
				return nil, fmt.Errorf("parameter @%s: %w", v.parameter, err)
			}
			return b, nil
		}
		return row.ParseText(&bare, p.Text)
	case typedValue:
		if v.typed != f.Kind.String() {
			return nil, fmt.Errorf("the literal is a %s, the column a %s", v.typed, f.Kind)
		}
	default:
		if !slices.Contains(coercible[v.kind], f.Kind) {
			return nil, fmt.Errorf("the literal %q does not fit a column of type %s", v.text, f.Kind)
		}
	}
	return row.ParseText(&bare, v.text)
}

func (q *Select) sort(fields []row.Field, rows []row.Row) error {
	by := make([]access, len(q.order))
	for i, o := range q.order {
		path := o.column
		for _, it := range q.items { // an alias hides a column
			if len(path) == 1 && !it.star && strings.EqualFold(it.name, path[0]) {
				path = it.column
				break
			}
		}
		var err error
		if by[i], err = scalar(fields, path, "ORDER BY"); err != nil {
			return err
		}
	}
	slices.SortStableFunc(rows, func(x, y row.Row) int {
		for i, a := range by {
			if n := order(a.field.Kind, a.of(x), a.of(y)); n != 0 {
				if q.order[i].desc {
					return -n
				}
				return n
			}
		}
		return 0
	})
	return nil
}

func (q *Select) project(fields []row.Field, rows []row.Row) (Result, error) {
	var columns []access
	for _, it := range q.items {
		if it.star {
			for i, f := range fields {
				columns = append(columns, access{f, []int{i}})
			}
			continue
		}
		a, err := find(fields, it.column)
		if err != nil {
			return Result{}, err
		}
		a.field.Name = it.name
		columns = append(columns, a)
	}
	var out Result
	for _, c := range columns {
		if row.Find(out.Fields, c.field.Name) >= 0 {
			return Result{}, fmt.Errorf("duplicate column names in the result are not supported. Found duplicate(s): %s", c.field.Name)
		}
		out.Fields = append(out.Fields, c.field)
	}
	for _, r := range rows {
		cells := make(row.Row, len(columns))
		for i, c := range columns {
			cells[i] = c.of(r)
		}
		out.Rows = append(out.Rows, cells)
	}
	return out, nil
}

// aggregate makes the one row of a query whose items are all aggregates.
func (q *Select) aggregate(fields []row.Field, rows []row.Row) (Result, error) {
	if len(q.order) > 0 {
		return Result{}, unsupported("ORDER BY of aggregates")
	}
	out := Result{Rows: []row.Row{nil}}
	for i, it := range q.items {
		if it.aggregate == "" {
			return Result{}, fmt.Errorf("a column beside an aggregate needs GROUP BY: %w", unsupported("GROUP BY"))
		}
		f := row.Field{Name: cmp.Or(it.name, fmt.Sprintf("f%d_", i)), Kind: row.Int64}
		if row.Find(out.Fields, f.Name) >= 0 {
			return Result{}, fmt.Errorf("duplicate column names in the result are not supported. Found duplicate(s): %s", f.Name)
		}
		v := row.Value(int64(len(rows)))
		if it.column != nil {
			var err error
			if v, f.Kind, err = over(it, fields, rows); err != nil {
				return Result{}, err
			}
		}
		out.Fields = append(out.Fields, f)
		out.Rows[0] = append(out.Rows[0], v)
	}
	return out, nil
}

// over is one aggregate over a column; NULLs do not count.
func over(it item, fields []row.Field, rows []row.Row) (row.Value, row.Kind, error) {
	a, err := find(fields, it.column)
	if err == nil && (it.aggregate != "COUNT" || it.distinct) {
		a, err = scalar(fields, it.column, it.aggregate)
	}
	if err != nil {
		return nil, 0, err
	}
	var best row.Value
	seen, n := map[string]bool{}, int64(0)
	for _, r := range rows {
		v := a.of(r)
		switch {
		case v == nil && a.field.Mode != row.Repeated:
		case it.aggregate == "COUNT":
			if it.distinct {
				key := row.Text(a.field.Kind, v, row.Micros)
				if seen[key] {
					continue
				}
				seen[key] = true
			}
			n++
		case nan(v), nan(best): // MIN and MAX of anything and NaN are NaN
			best = math.NaN()
		case best == nil, it.aggregate == "MIN" && order(a.field.Kind, v, best) < 0, it.aggregate == "MAX" && order(a.field.Kind, v, best) > 0:
			best = v
		}
	}
	if it.aggregate == "COUNT" {
		return n, row.Int64, nil
	}
	return best, a.field.Kind, nil
}
