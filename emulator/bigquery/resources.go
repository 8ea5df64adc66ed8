package bigquery

import (
	"io"
	"net/http"

	api "google.golang.org/api/bigquery/v2"

	"github.com/spanledger/spanledger/emulator/bigquery/row"
	"github.com/spanledger/spanledger/emulator/bigquery/store"
)

// listPage bounds a page of datasets or tables.
const listPage = 1000

func (s *Server) insertDataset(r *http.Request) (any, error) {
	var in api.Dataset
	if err := read(r, &in); err != nil {
		return nil, err
	}
	return result(s.store.InsertDataset(r.PathValue("project"), &in))
}

func (s *Server) getDataset(r *http.Request) (any, error) {
	return result(s.store.Dataset(r.PathValue("project"), r.PathValue("dataset")))
}

func (s *Server) listDatasets(r *http.Request) (any, error) {
	if f := r.FormValue("filter"); f != "" {
		return nil, &restError{http.StatusNotImplemented, "notImplemented", "datasets.list with a filter is not implemented in the embedded BigQuery"}
	}
	all := s.store.Datasets(r.PathValue("project"))
	from, to, next, err := page(r, len(all), listPage)
	if err != nil {
		return nil, err
	}
	out := &api.DatasetList{Kind: "bigquery#datasetList", NextPageToken: next}
	for _, d := range all[from:to] {
		out.Datasets = append(out.Datasets, &api.DatasetListDatasets{
			DatasetReference: d.DatasetReference, FriendlyName: d.FriendlyName, Id: d.Id, Kind: d.Kind, Labels: d.Labels, Location: d.Location,
		})
	}
	return out, nil
}

func (s *Server) changeDataset(r *http.Request) (any, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return result(s.store.UpdateDataset(r.PathValue("project"), r.PathValue("dataset"), b, r.Method == http.MethodPut, etag(r)))
}

func (s *Server) deleteDataset(r *http.Request) (any, error) {
	return nil, s.store.DeleteDataset(r.PathValue("project"), r.PathValue("dataset"), r.FormValue("deleteContents") == "true")
}

// etag is what If-Match asks for; "*" is any.
func etag(r *http.Request) string {
	if e := r.Header.Get("If-Match"); e != "*" {
		return e
	}
	return ""
}

func ref(r *http.Request) store.Ref {
	return store.Ref{Project: r.PathValue("project"), Dataset: r.PathValue("dataset"), Table: r.PathValue("table")}
}

func (s *Server) insertTable(r *http.Request) (any, error) {
	var in api.Table
	if err := read(r, &in); err != nil {
		return nil, err
	}
	return result(s.store.InsertTable(r.PathValue("project"), r.PathValue("dataset"), &in))
}

func (s *Server) getTable(r *http.Request) (any, error) { return result(s.store.Table(ref(r))) }

func (s *Server) listTables(r *http.Request) (any, error) {
	all, err := s.store.Tables(r.PathValue("project"), r.PathValue("dataset"))
	if err != nil {
		return nil, err
	}
	from, to, next, err := page(r, len(all), listPage)
	if err != nil {
		return nil, err
	}
	out := &api.TableList{Kind: "bigquery#tableList", NextPageToken: next, TotalItems: int64(len(all))}
	for _, t := range all[from:to] {
		out.Tables = append(out.Tables, &api.TableListTables{
			TableReference: t.TableReference, FriendlyName: t.FriendlyName, Id: t.Id, Kind: t.Kind, Labels: t.Labels, Type: t.Type,
			CreationTime: t.CreationTime, TimePartitioning: t.TimePartitioning, RangePartitioning: t.RangePartitioning,
			Clustering: t.Clustering, ExpirationTime: t.ExpirationTime,
		})
	}
	return out, nil
}

func (s *Server) changeTable(r *http.Request) (any, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return result(s.store.UpdateTable(ref(r), b, r.Method == http.MethodPut, etag(r)))
}

func (s *Server) deleteTable(r *http.Request) (any, error) { return nil, s.store.DeleteTable(ref(r)) }

// rowPage bounds a page of rows.
const rowPage = 10_000

func (s *Server) listRows(r *http.Request) (any, error) {
	snap, err := s.store.Read(ref(r))
	if err != nil {
		return nil, err
	}
	if r.FormValue("selectedFields") != "" {
		return nil, &restError{http.StatusNotImplemented, "notImplemented", "tabledata.list with selectedFields is not implemented in the embedded BigQuery"}
	}
	from, to, next, err := page(r, len(snap.Rows), rowPage)
	if err != nil {
		return nil, err
	}
	out := &api.TableDataList{
		Kind: "bigquery#tableDataList", Etag: snap.Etag, PageToken: next, TotalRows: int64(len(snap.Rows)),
		ForceSendFields: []string{"TotalRows"},
	}
	format, err := formatOf(r)
	if err != nil {
		return nil, err
	}
	for _, w := range snap.Rows[from:to] {
		out.Rows = append(out.Rows, row.TableRow(snap.Fields, w, format))
	}
	return out, nil
}

// formatOf reads a request's formatOptions parameters.
func formatOf(r *http.Request) (row.Format, error) {
	return format(&api.DataFormatOptions{
		UseInt64Timestamp:     r.FormValue("formatOptions.useInt64Timestamp") == "true",
		TimestampOutputFormat: r.FormValue("formatOptions.timestampOutputFormat"),
	})
}

func format(o *api.DataFormatOptions) (row.Format, error) {
	if o == nil {
		return row.Seconds, nil
	}
	switch o.TimestampOutputFormat {
	case "", "TIMESTAMP_OUTPUT_FORMAT_UNSPECIFIED":
		if o.UseInt64Timestamp {
			return row.Micros, nil
		}
		return row.Seconds, nil
	case "FLOAT64":
		return row.Seconds, nil
	case "INT64":
		return row.Micros, nil
	case "ISO8601_STRING":
		return row.RFC3339, nil
	}
	return 0, invalid("invalid timestampOutputFormat %.40q", o.TimestampOutputFormat)
}

// result makes the handlers' pair of the store's; a nil pointer in an interface would not be nil.
func result[T any](out *T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return out, nil
}
