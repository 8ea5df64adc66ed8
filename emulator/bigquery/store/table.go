package store

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	api "google.golang.org/api/bigquery/v2"

	"github.com/spanledger/spanledger/emulator/bigquery/row"
)

// Ref names a table.
type Ref struct{ Project, Dataset, Table string }

// String is the reference as the REST API writes it, project:dataset.table.
func (r Ref) String() string { return r.Project + ":" + r.Dataset + "." + r.Table }

// Path is the reference as the Storage API writes it.
func (r Ref) Path() string {
	return fmt.Sprintf("projects/%s/datasets/%s/tables/%s", r.Project, r.Dataset, r.Table)
}

// table is one table; all of it is protected by the store's lock.
type table struct {
	meta    *api.Table // never changed in place; its counters are filled in by resource
	fields  []row.Field
	id      int64 // tells it from an earlier table of the same name
	schema  int64 // counts schema changes
	rows    []row.Row
	streams map[string]*stream
}

// resource is the table as the API shows it.
func (t *table) resource() *api.Table {
	meta := *t.meta
	meta.NumRows = uint64(len(t.rows))
	meta.ForceSendFields = []string{"NumRows", "NumBytes", "Schema"}
	return &meta
}

func (s *Store) table(ref Ref) (*table, error) {
	d, err := s.find(datasetID{ref.Project, ref.Dataset})
	if err != nil {
		return nil, err
	}
	t := d.tables[ref.Table]
	if t == nil {
		return nil, refuse(TableNotFound, ref.Path(), "Not found: Table %s", ref)
	}
	return t, nil
}

// InsertTable creates a table.
func (s *Store) InsertTable(project, dataset string, in *api.Table) (*api.Table, error) {
	if in.TableReference == nil {
		return nil, refuse(Invalid, dataset, "Required parameter is missing: tableReference")
	}
	ref := Ref{project, dataset, in.TableReference.TableId}
	if r := in.TableReference; r.ProjectId != "" && r.ProjectId != project || r.DatasetId != "" && r.DatasetId != dataset {
		return nil, refuse(Invalid, ref.Path(), "The table reference %s:%s in the content does not agree with the request's %s:%s",
			r.ProjectId, r.DatasetId, project, dataset)
	}
	if err := checkID("table", ref.Table, true); err != nil {
		return nil, err
	}
	fields, err := checkTable(ref, in)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.find(datasetID{project, dataset})
	if err != nil {
		return nil, err
	}
	if d.tables[ref.Table] != nil {
		return nil, refuse(Duplicate, ref.Path(), "Already Exists: Table %s", ref)
	}
	meta := *in
	meta.Kind, meta.Id, meta.Type = "bigquery#table", ref.String(), "TABLE"
	meta.TableReference = &api.TableReference{ProjectId: project, DatasetId: dataset, TableId: ref.Table}
	meta.SelfLink = "/bigquery/v2/" + ref.Path()
	meta.Location = d.meta.Location
	meta.CreationTime = s.now().UnixMilli()
	meta.LastModifiedTime = uint64(meta.CreationTime)
	meta.Etag = s.etag()
	t := &table{meta: &meta, fields: fields, id: s.version, streams: make(map[string]*stream)}
	d.tables[ref.Table] = t
	return t.resource(), nil
}

// checkTable checks what a table's metadata says of its columns, and returns them.
func checkTable(ref Ref, t *api.Table) ([]row.Field, error) {
	fail := func(format string, args ...any) ([]row.Field, error) {
		return nil, refuse(Invalid, ref.Path(), "Table %s: "+format, append([]any{ref}, args...)...)
	}
	for what, set := range map[string]bool{
		"a view": t.View != nil, "a materialized view": t.MaterializedView != nil, "an external table": t.ExternalDataConfiguration != nil,
		"a snapshot": t.SnapshotDefinition != nil, "a clone": t.CloneDefinition != nil, "a BigLake table": t.BiglakeConfiguration != nil,
	} {
		if set {
			return fail("%s is %v", what, row.ErrUnsupported)
		}
	}
	fields, err := row.Parse(t.Schema)
	if err != nil {
		return fail("%v", err)
	}
	column := func(what, name string, kinds ...row.Kind) error {
		i := row.Find(fields, name)
		if i < 0 {
			return fmt.Errorf("the %s column %s is not in the schema", what, name)
		}
		if fields[i].Mode == row.Repeated || !slices.Contains(kinds, fields[i].Kind) {
			return fmt.Errorf("the %s column %s cannot be %s %s", what, name, fields[i].Mode, fields[i].Kind)
		}
		return nil
	}
	if p := t.TimePartitioning; p != nil {
		if !slices.Contains([]string{"DAY", "HOUR", "MONTH", "YEAR"}, p.Type) {
			return fail("invalid type %q of time partitioning", p.Type)
		}
		if p.Field != "" {
			if err := column("partitioning", p.Field, row.Date, row.Timestamp, row.DateTime); err != nil {
				return fail("%v", err)
			}
		}
	}
	if p := t.RangePartitioning; p != nil {
		if t.TimePartitioning != nil {
			return fail("only one of time and range partitioning is allowed")
		}
		if err := column("partitioning", p.Field, row.Int64); err != nil {
			return fail("%v", err)
		}
	}
	sortable := []row.Kind{
		row.String, row.Int64, row.Numeric, row.BigNumeric, row.Bool, row.Timestamp, row.Date, row.DateTime,
	}
	if c := t.Clustering; c != nil {
		if len(c.Fields) == 0 || len(c.Fields) > 4 {
			return fail("%d clustering columns, 1 to 4 are allowed", len(c.Fields))
		}
		for _, f := range c.Fields {
			if err := column("clustering", f, append(sortable, row.Geography)...); err != nil {
				return fail("%v", err)
			}
		}
	}
	if c := t.TableConstraints; c != nil && c.PrimaryKey != nil {
		if n := len(c.PrimaryKey.Columns); n == 0 || n > 16 {
			return fail("%d primary key columns, 1 to 16 are allowed", n)
		}
		for _, f := range c.PrimaryKey.Columns {
			if err := column("primary key", f, sortable...); err != nil {
				return fail("%v", err)
			}
		}
	}
	return fields, nil
}

// Table returns a table's metadata; it is the caller's to read only.
func (s *Store) Table(ref Ref) (*api.Table, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, err := s.table(ref)
	if err != nil {
		return nil, err
	}
	return t.resource(), nil
}

// UpdateTable changes a table's metadata, as UpdateDataset does a dataset's.
func (s *Store) UpdateTable(ref Ref, patch []byte, replace bool, etag string) (*api.Table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.table(ref)
	if err != nil {
		return nil, err
	}
	if etag != "" && etag != t.meta.Etag {
		return nil, stale(ref.String(), etag, t.meta.Etag)
	}
	var meta api.Table
	if err := merge(t.meta, patch, replace, &meta); err != nil {
		return nil, refuse(Invalid, ref.Path(), "Table %s: %v", ref, err)
	}
	if meta.Schema == nil {
		meta.Schema = t.meta.Schema // an update that leaves the schema out keeps it
	}
	if meta.Schema, err = row.Evolve(t.meta.Schema, meta.Schema); err != nil {
		return nil, refuse(Invalid, ref.Path(), "Provided Schema does not match Table %s: %v", ref, err)
	}
	fields, err := checkTable(ref, &meta)
	if err != nil {
		return nil, err
	}
	if err := samePartitioning(t.meta, &meta); err != nil {
		return nil, refuse(Invalid, ref.Path(), "Table %s: %v", ref, err)
	}
	meta.Kind, meta.Id, meta.Type, meta.SelfLink = t.meta.Kind, t.meta.Id, t.meta.Type, t.meta.SelfLink
	meta.TableReference, meta.Location, meta.CreationTime = t.meta.TableReference, t.meta.Location, t.meta.CreationTime
	meta.LastModifiedTime = uint64(s.now().UnixMilli())
	meta.Etag = s.etag()
	if !reflect.DeepEqual(fields, t.fields) {
		t.fields = fields
		t.schema++
	}
	t.meta = &meta
	return t.resource(), nil
}

// samePartitioning refuses another partitioning column or granularity; the rest of the specification may change.
func samePartitioning(old, next *api.Table) error {
	of := func(t *api.Table) string {
		switch {
		case t.TimePartitioning != nil:
			return strings.ToLower(t.TimePartitioning.Type + " of " + cmp.Or(t.TimePartitioning.Field, "ingestion time"))
		case t.RangePartitioning != nil:
			b, _ := json.Marshal(t.RangePartitioning.Range) // plain numbers always marshal
			return strings.ToLower("range of "+t.RangePartitioning.Field) + string(b)
		}
		return "none"
	}
	if of(old) != of(next) {
		return fmt.Errorf("cannot change partitioning from %s to %s", of(old), of(next))
	}
	return nil
}

// DeleteTable deletes a table with its rows and streams.
func (s *Store) DeleteTable(ref Ref) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.table(ref); err != nil {
		return err
	}
	delete(s.datasets[datasetID{ref.Project, ref.Dataset}].tables, ref.Table)
	return nil
}

// Snapshot is a table's content at one moment. Its slices are shared and must not be changed.
type Snapshot struct {
	Fields []row.Field
	Schema *api.TableSchema
	// TableID tells the table from an earlier one of the same name; SchemaVersion grows with each change of its schema.
	TableID, SchemaVersion int64
	Etag                   string
	Location               string
	// Rows are in the order they were appended in.
	Rows []row.Row
}

// Read returns a table's content.
func (s *Store) Read(ref Ref) (Snapshot, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, err := s.table(ref)
	if err != nil {
		return Snapshot{}, err
	}
	return t.snapshot(), nil
}

func (t *table) snapshot() Snapshot {
	schema := t.meta.Schema
	if schema == nil {
		schema = &api.TableSchema{}
	}
	return Snapshot{
		Fields: t.fields, Schema: schema, TableID: t.id, SchemaVersion: t.schema, Etag: t.meta.Etag, Location: t.meta.Location,
		Rows: slices.Clip(t.rows),
	}
}
