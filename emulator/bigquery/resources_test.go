package bigquery_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"

	emulator "github.com/spanledger/spanledger/emulator/bigquery"
)

func TestDatasets(t *testing.T) {
	w := start(t)
	ctx := t.Context()
	d := w.client.Dataset("d")
	wantHTTP(t, d.Create(ctx, nil), http.StatusConflict, "duplicate")
	wantHTTP(t, w.client.Dataset("no-dash").Create(ctx, nil), http.StatusBadRequest, "invalid")
	_, err := w.client.Dataset("gone").Metadata(ctx)
	wantHTTP(t, err, http.StatusNotFound, "notFound")
	md, err := d.Metadata(ctx)
	if err != nil || md.ETag == "" || md.Location != "US" || md.CreationTime.IsZero() {
		t.Fatalf("%+v, %v", md, err)
	}
	var change bigquery.DatasetMetadataToUpdate
	change.Description = "ours"
	change.SetLabel("team", "a")
	change.SetLabel("env", "test")
	next, err := d.Update(ctx, change, md.ETag)
	if err != nil || next.Description != "ours" || next.Labels["team"] != "a" || next.ETag == md.ETag {
		t.Fatalf("%+v, %v", next, err)
	}
	_, err = d.Update(ctx, change, md.ETag)
	wantHTTP(t, err, http.StatusPreconditionFailed, "conditionNotMet")
	change = bigquery.DatasetMetadataToUpdate{}
	change.DeleteLabel("team")
	if next, err = d.Update(ctx, change, ""); err != nil || fmt.Sprint(next.Labels) != "map[env:test]" || next.Description != "ours" {
		t.Fatalf("%+v, %v", next, err)
	}
	for i := range 5 {
		if err := w.client.Dataset(fmt.Sprintf("e%d", i)).Create(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	it := w.client.Datasets(ctx)
	it.PageInfo().MaxSize = 2
	var names []string
	for {
		d, err := it.Next()
		if errors.Is(err, iterator.Done) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, d.DatasetID)
	}
	if fmt.Sprint(names) != "[d e0 e1 e2 e3 e4]" {
		t.Error(names)
	}
	w.table("people", people)
	wantHTTP(t, d.Delete(ctx), http.StatusBadRequest, "resourceInUse")
	if err := d.DeleteWithContents(ctx); err != nil {
		t.Fatal(err)
	}
	wantHTTP(t, d.Delete(ctx), http.StatusNotFound, "notFound")
}

func TestTableKeepsWhatItIsGiven(t *testing.T) {
	w := start(t)
	ctx := t.Context()
	schema := bigquery.Schema{
		{Name: "id", Type: bigquery.IntegerFieldType, Required: true, Description: "the key"},
		{Name: "at", Type: bigquery.TimestampFieldType},
		{Name: "tags", Type: bigquery.StringFieldType, Repeated: true},
		{Name: "price", Type: bigquery.NumericFieldType, Precision: 10, Scale: 2},
		{Name: "address", Type: bigquery.RecordFieldType, Schema: bigquery.Schema{{Name: "city", Type: bigquery.StringFieldType, MaxLength: 20}}},
	}
	table := w.client.Dataset("d").Table("t")
	in := &bigquery.TableMetadata{
		Schema: schema, Description: "about", Labels: map[string]string{"a": "b"},
		TimePartitioning: &bigquery.TimePartitioning{Type: bigquery.DayPartitioningType, Field: "at"},
		Clustering:       &bigquery.Clustering{Fields: []string{"id"}},
		TableConstraints: &bigquery.TableConstraints{PrimaryKey: &bigquery.PrimaryKey{Columns: []string{"id"}}},
	}
	if err := table.Create(ctx, in); err != nil {
		t.Fatal(err)
	}
	wantHTTP(t, table.Create(ctx, in), http.StatusConflict, "duplicate")
	wantHTTP(t, w.client.Dataset("gone").Table("t").Create(ctx, in), http.StatusNotFound, "notFound")
	got, err := table.Metadata(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Schema, schema) || got.Description != "about" || got.Labels["a"] != "b" || got.ETag == "" ||
		got.Type != bigquery.RegularTable || got.TimePartitioning.Field != "at" || got.Clustering.Fields[0] != "id" ||
		got.TableConstraints.PrimaryKey.Columns[0] != "id" {
		t.Errorf("%+v", got)
	}
	// A change leaves what it does not name.
	got, err = table.Update(ctx, bigquery.TableMetadataToUpdate{Name: "friendly"}, got.ETag)
	if err != nil || got.Name != "friendly" || got.Description != "about" || len(got.Schema) != 5 || got.TimePartitioning == nil {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = table.Update(ctx, bigquery.TableMetadataToUpdate{Name: "x"}, "stale")
	wantHTTP(t, err, http.StatusPreconditionFailed, "conditionNotMet")
	var names []string
	it := w.client.Dataset("d").Tables(ctx)
	for {
		x, err := it.Next()
		if errors.Is(err, iterator.Done) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, x.TableID)
	}
	if fmt.Sprint(names) != "[t]" {
		t.Error(names)
	}
	if err := table.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = table.Metadata(ctx)
	wantHTTP(t, err, http.StatusNotFound, "notFound")
}

func TestSchemaRules(t *testing.T) {
	w := start(t)
	field := func(name string, kind bigquery.FieldType) *bigquery.FieldSchema {
		return &bigquery.FieldSchema{Name: name, Type: kind}
	}
	base := func() bigquery.Schema {
		return bigquery.Schema{
			{Name: "id", Type: bigquery.IntegerFieldType, Required: true}, field("name", bigquery.StringFieldType),
			{Name: "rec", Type: bigquery.RecordFieldType, Schema: bigquery.Schema{field("x", bigquery.StringFieldType)}},
		}
	}
	for name, c := range map[string]struct {
		change func(bigquery.Schema) bigquery.Schema
		ok     bool
	}{
		"same": {func(s bigquery.Schema) bigquery.Schema { return s }, true},
		"add":  {func(s bigquery.Schema) bigquery.Schema { return append(s, field("n", bigquery.JSONFieldType)) }, true},
		"add repeated": {func(s bigquery.Schema) bigquery.Schema {
			return append(s, &bigquery.FieldSchema{Name: "n", Type: bigquery.StringFieldType, Repeated: true})
		}, true},
		"add member": {func(s bigquery.Schema) bigquery.Schema {
			s[2].Schema = append(s[2].Schema, field("y", bigquery.DateFieldType))
			return s
		}, true},
		"relax":    {func(s bigquery.Schema) bigquery.Schema { s[0].Required = false; return s }, true},
		"describe": {func(s bigquery.Schema) bigquery.Schema { s[0].Description = "d"; return s }, true},
		"add required": {func(s bigquery.Schema) bigquery.Schema {
			return append(s, &bigquery.FieldSchema{Name: "n", Type: bigquery.StringFieldType, Required: true})
		}, false},
		"require":     {func(s bigquery.Schema) bigquery.Schema { s[1].Required = true; return s }, false},
		"drop":        {func(s bigquery.Schema) bigquery.Schema { return s[1:] }, false},
		"drop member": {func(s bigquery.Schema) bigquery.Schema { s[2].Schema[0].Name = "z"; return s }, false},
		"retype":      {func(s bigquery.Schema) bigquery.Schema { s[1].Type = bigquery.BytesFieldType; return s }, false},
		"repeat":      {func(s bigquery.Schema) bigquery.Schema { s[1].Repeated = true; return s }, false},
		"duplicate":   {func(s bigquery.Schema) bigquery.Schema { return append(s, field("NAME", bigquery.StringFieldType)) }, false},
		"reserved": {func(s bigquery.Schema) bigquery.Schema {
			return append(s, field("_CHANGE_TYPE", bigquery.StringFieldType))
		}, false},
		"bad name":        {func(s bigquery.Schema) bigquery.Schema { return append(s, field("a b", bigquery.StringFieldType)) }, false},
		"unknown type":    {func(s bigquery.Schema) bigquery.Schema { return append(s, field("n", "POINT")) }, false},
		"unbacked record": {func(s bigquery.Schema) bigquery.Schema { return append(s, field("n", bigquery.RecordFieldType)) }, false},
	} {
		table := w.client.Dataset("d").Table("t")
		if err := table.Create(t.Context(), &bigquery.TableMetadata{Schema: base()}); err != nil {
			t.Fatal(err)
		}
		got, err := table.Update(t.Context(), bigquery.TableMetadataToUpdate{Schema: c.change(base())}, "")
		if !c.ok {
			wantHTTP(t, err, http.StatusBadRequest, "invalid")
		} else if err != nil || !reflect.DeepEqual(got.Schema, c.change(base())) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if err := table.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTableRefusals(t *testing.T) {
	w := start(t)
	for name, md := range map[string]*bigquery.TableMetadata{
		"partitioned by a missing column": {Schema: people, TimePartitioning: &bigquery.TimePartitioning{Field: "gone"}},
		"partitioned by a string":         {Schema: people, TimePartitioning: &bigquery.TimePartitioning{Field: "name"}},
		"clustered by five":               {Schema: people, Clustering: &bigquery.Clustering{Fields: []string{"id", "id", "id", "id", "name"}}},
		"keyed by a missing column": {Schema: people, TableConstraints: &bigquery.TableConstraints{
			PrimaryKey: &bigquery.PrimaryKey{Columns: []string{"gone"}}}},
		"view": {ViewQuery: "SELECT 1"},
	} {
		if err := w.client.Dataset("d").Table("t").Create(t.Context(), md); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	resp, err := http.Post(w.server.Endpoint()+"/bigquery/v2/projects/p/datasets/d/tables", "application/json", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("an empty body: %s", resp.Status)
	}
}

func TestRESTFaults(t *testing.T) {
	w := start(t)
	var fault error
	w.server.SetFault(func(_ context.Context, c emulator.Call) error {
		if c.Method == "tables.insert" && c.Effect {
			return fault
		}
		return nil
	})
	fault = &googleapi.Error{Code: http.StatusForbidden, Message: "injected", Errors: []googleapi.ErrorItem{{Reason: "quotaExceeded"}}}
	table := w.client.Dataset("d").Table("t")
	wantHTTP(t, table.Create(t.Context(), &bigquery.TableMetadata{Schema: people}), http.StatusForbidden, "quotaExceeded")
	if _, err := table.Metadata(t.Context()); err != nil {
		t.Errorf("the table of a lost answer: %v", err)
	}
	fault = errors.New("cut")
	resp, err := http.Post(w.server.Endpoint()+"/projects/p/datasets/d/tables", "application/json",
		strings.NewReader(`{"tableReference":{"tableId":"u"}}`))
	if err == nil {
		resp.Body.Close()
		t.Errorf("a cut connection answered %s", resp.Status)
	}
}

func TestAddressInUse(t *testing.T) {
	w := start(t)
	if _, err := emulator.Start(t.Context(), emulator.Options{GRPCAddr: w.server.GRPCEndpoint()}); err == nil {
		t.Error("a second server started on the same address")
	}
}
