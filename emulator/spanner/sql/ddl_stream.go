package sql

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudspannerecosystem/memefish/ast"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// Spanner's limits on change streams.
const (
	maxStreams         = 10
	maxStreamsOnColumn = 3
)

func (b *builder) createStream(t *ast.CreateChangeStream, ifNotExists bool) error {
	name := t.Name.Name
	if ifNotExists && b.Stream(name) != nil {
		return nil
	}
	if strings.Contains(name, ".") {
		return store.Errorf(codes.Unimplemented, "Change Stream not yet supported in named schema: %s.", name) // Spanner's own limit
	}
	if len(name) > 118 {
		return invalid("the change stream name %s is longer than 118 characters, which leaves no room for its read function's name", name)
	}
	if err := b.clash(name); err != nil {
		return err
	}
	if len(b.Streams) >= maxStreams {
		return failed("Cannot create change stream %s: a database can have at most %d change streams", name, maxStreams)
	}
	s := &store.ChangeStream{Name: name, Created: b.at}
	var err error
	if t.For != nil {
		if s.All, s.Watch, err = b.watched(name, t.For); err != nil {
			return err
		}
	}
	if t.Options != nil {
		if s.Options, err = setStreamOptions(nil, t.Options, true); err != nil {
			return err
		}
	}
	b.Streams = append(b.Streams, s)
	return b.checkWatchLimits()
}

func (b *builder) alterStream(t *ast.AlterChangeStream) error {
	old := b.Stream(t.Name.Name)
	if old == nil {
		return notFound("Change Stream not found: %s", t.Name.Name)
	}
	s := *old
	var err error
	switch a := t.ChangeStreamAlteration.(type) {
	case nil:
		return invalid("ALTER CHANGE STREAM %s says nothing to alter", s.Name)
	case *ast.ChangeStreamSetFor:
		s.All, s.Watch, err = b.watched(s.Name, a.For)
	case *ast.ChangeStreamDropForAll:
		if !s.All && len(s.Watch) == 0 {
			return failed("Cannot drop the FOR clause of change stream %s: it has none", s.Name)
		}
		s.All, s.Watch = false, nil
	case *ast.ChangeStreamSetOptions:
		s.Options, err = setStreamOptions(s.Options, a.Options, false)
	default:
		return unimplemented("ALTER CHANGE STREAM %s %s", s.Name, a.SQL())
	}
	if err != nil {
		return err
	}
	for i := range b.Streams {
		if b.Streams[i] == old {
			b.Streams[i] = &s
		}
	}
	return b.checkWatchLimits()
}

func (b *builder) dropStream(t *ast.DropChangeStream, ifExists bool) error {
	old := b.Stream(t.Name.Name)
	if old == nil && ifExists {
		return nil
	}
	if old == nil {
		return notFound("Change Stream not found: %s", t.Name.Name)
	}
	b.Streams = slices.DeleteFunc(b.Streams, func(s *store.ChangeStream) bool { return s == old })
	return nil
}

// watched resolves a FOR clause.
func (b *builder) watched(stream string, f ast.ChangeStreamFor) (all bool, watch []store.Watch, err error) {
	tables, ok := f.(*ast.ChangeStreamForTables)
	if !ok {
		return true, nil, nil
	}
	for _, ft := range tables.Tables {
		tab := b.Table(ft.TableName.Name)
		if tab == nil {
			if b.Index(ft.TableName.Name) != nil || b.Stream(ft.TableName.Name) != nil {
				return false, nil, failed("Change stream %s cannot track %s: only tables can be tracked", stream, ft.TableName.Name)
			}
			return false, nil, failed("Change stream %s tracks table %s, which does not exist", stream, ft.TableName.Name)
		}
		w := store.Watch{Table: tab.QualifiedName(), AllColumns: ft.Rparen.Invalid()}
		for _, have := range watch {
			if have.Table == w.Table {
				return false, nil, failed("Change stream %s lists table %s twice", stream, w.Table)
			}
		}
		for _, id := range ft.Columns {
			i := tab.ColumnIndex(id.Name)
			switch {
			case i < 0:
				return false, nil, failed("Change stream %s tracks column %s.%s, which does not exist", stream, w.Table, id.Name)
			case tab.IsKey(i):
				return false, nil, failed("Change stream %s must not list key column %s.%s: key columns are always tracked", stream, w.Table, id.Name)
			case tab.Columns[i].Generated != "":
				return false, nil, failed("Change stream %s cannot track generated column %s.%s", stream, w.Table, id.Name)
			case slices.Contains(w.Columns, tab.Columns[i].Name):
				return false, nil, failed("Change stream %s lists column %s.%s twice", stream, w.Table, id.Name)
			}
			w.Columns = append(w.Columns, tab.Columns[i].Name)
		}
		watch = append(watch, w)
	}
	return false, watch, nil
}

// checkWatchLimits refuses a column that more than three change streams watch.
func (b *builder) checkWatchLimits() error {
	for _, t := range b.Tables {
		whole := 0
		listed := map[string]int{}
		for _, s := range b.Streams {
			if s.All {
				whole++
			}
			for _, w := range s.Watch {
				if w.Table != t.QualifiedName() {
					continue
				}
				if w.AllColumns {
					whole++
				}
				for _, c := range w.Columns {
					listed[c]++
				}
			}
		}
		if whole > maxStreamsOnColumn {
			return failed("table %s would be tracked by %d change streams; at most %d may track one table", t.QualifiedName(), whole, maxStreamsOnColumn)
		}
		for c, n := range listed {
			if whole+n > maxStreamsOnColumn {
				return failed("column %s.%s would be tracked by %d change streams; at most %d may track one column", t.QualifiedName(), c, whole+n, maxStreamsOnColumn)
			}
		}
	}
	return nil
}

var duration = regexp.MustCompile(`^([0-9]+)([smhd])$`)

// ParseRetention reads a duration as DDL writes it: a whole number and one of the units s, m, h, d.
func ParseRetention(text string) (time.Duration, error) {
	m := duration.FindStringSubmatch(text)
	if m == nil {
		return 0, failed("%q is not a duration: write a whole number and one of the units s, m, h, d", text)
	}
	unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[m[2]]
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || n > int64(100*365*24*time.Hour/unit) {
		return 0, failed("the duration %q is too long", text)
	}
	return time.Duration(n) * unit, nil
}

// setStreamOptions returns old with the options of o set or, where null, removed.
func setStreamOptions(old []store.Option, o *ast.Options, create bool) ([]store.Option, error) {
	if len(o.Records) == 0 {
		return nil, invalid("OPTIONS must not be empty")
	}
	out := slices.Clone(old)
	seen := map[string]bool{}
	for _, r := range o.Records {
		name := strings.ToLower(r.Name.Name)
		if seen[name] {
			return nil, invalid("the change stream option %s is given twice", name)
		}
		seen[name] = true
		value, null, err := streamOption(name, r.Value)
		if err != nil {
			return nil, err
		}
		if name == "partition_mode" && !create {
			return nil, failed("the change stream option partition_mode cannot be altered; create another change stream")
		}
		out = slices.DeleteFunc(out, func(x store.Option) bool { return x.Name == name })
		if !null {
			out = append(out, store.Option{Name: name, Value: value})
		}
	}
	return out, nil
}

func streamOption(name string, e ast.Expr) (value string, null bool, err error) {
	_, null = e.(*ast.NullLiteral)
	str, isString := e.(*ast.StringLiteral)
	switch name {
	case "retention_period", "value_capture_type", "partition_mode":
		if null {
			return "", true, nil
		}
		if !isString {
			return "", false, invalid("the change stream option %s must be a string or null, not %s", name, e.SQL())
		}
		value = str.Value
	case "exclude_ttl_deletes", "exclude_insert", "exclude_update", "exclude_delete", "allow_txn_exclusion", "per_placement_tvf":
		if null {
			return "", true, nil
		}
		lit, ok := e.(*ast.BoolLiteral)
		if !ok {
			return "", false, invalid("the change stream option %s must be true, false or null, not %s", name, e.SQL())
		}
		return strconv.FormatBool(lit.Value), false, nil
	default:
		return "", false, invalid("Option: %s is unknown.", name)
	}
	switch name {
	case "retention_period":
		d, err := ParseRetention(value)
		if err != nil {
			return "", false, err
		}
		if d < 24*time.Hour || d > 30*24*time.Hour {
			return "", false, failed("the change stream option retention_period must be from 1d to 30d, not %s", value)
		}
	case "value_capture_type":
		switch value {
		case "OLD_AND_NEW_VALUES", "NEW_VALUES", "NEW_ROW", "NEW_ROW_AND_OLD_VALUES":
		default:
			return "", false, failed("Invalid value_capture_type: %s. Known types are OLD_AND_NEW_VALUES, NEW_VALUES, NEW_ROW, NEW_ROW_AND_OLD_VALUES.", value)
		}
	case "partition_mode":
		if value != "IMMUTABLE_KEY_RANGE" && value != "MUTABLE_KEY_RANGE" {
			return "", false, failed("Invalid partition_mode: %s. Known modes are IMMUTABLE_KEY_RANGE, MUTABLE_KEY_RANGE.", value)
		}
	}
	return value, false, nil
}
