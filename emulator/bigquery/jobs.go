package bigquery

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"

	api "google.golang.org/api/bigquery/v2"

	"github.com/spanledger/spanledger/emulator/bigquery/row"
	"github.com/spanledger/spanledger/emulator/bigquery/sql"
	"github.com/spanledger/spanledger/emulator/bigquery/store"
)

// maxJobs is how many finished jobs are kept, with their results; the oldest are forgotten first.
const maxJobs = 200

// jobs are the jobs done; every job is done before it is answered.
type jobs struct {
	mu    sync.Mutex // protects everything below
	made  int
	done  map[string]*job // by project and id
	order []string
}

type job struct {
	api    *api.Job
	schema *api.TableSchema
	result sql.Result
	err    *restError
}

// add keeps a job; its id must be new.
func (j *jobs) add(project, id string, x *job) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if id == "" {
		j.made++
		id = "job_" + strconv.Itoa(j.made)
	}
	key := project + ":" + id
	if j.done[key] != nil {
		return &restError{http.StatusConflict, "duplicate", "Already Exists: Job " + key}
	}
	if j.done == nil {
		j.done = make(map[string]*job)
	}
	x.api.JobReference = &api.JobReference{ProjectId: project, JobId: id, Location: "US"}
	x.api.Id, x.api.Kind = key, "bigquery#job"
	j.done[key] = x
	if j.order = append(j.order, key); len(j.order) > maxJobs {
		delete(j.done, j.order[0])
		j.order = j.order[1:]
	}
	return nil
}

func (j *jobs) get(r *http.Request) (*job, error) {
	key := r.PathValue("project") + ":" + r.PathValue("job")
	j.mu.Lock()
	defer j.mu.Unlock()
	if x := j.done[key]; x != nil {
		return x, nil
	}
	return nil, &restError{http.StatusNotFound, "notFound", "Not found: Job " + key}
}

// run makes a job of a query and carries it out. The job holds the query's own error.
func (s *Server) run(project, query string, dataset *api.DatasetReference, parameters []*api.QueryParameter) *job {
	now := s.now().UnixMilli()
	x := &job{api: &api.Job{
		Configuration: &api.JobConfiguration{JobType: "QUERY", Query: &api.JobConfigurationQuery{
			Query: query, DefaultDataset: dataset, QueryParameters: parameters,
		}},
		Status:     &api.JobStatus{State: "DONE"},
		Statistics: &api.JobStatistics{CreationTime: now, StartTime: now, EndTime: now, Query: &api.JobStatistics2{StatementType: "SELECT"}},
	}}
	var err error
	if x.result, err = s.selectRows(project, query, dataset, parameters); err != nil {
		x.err = queryError(err)
		e := &api.ErrorProto{Reason: x.err.reason, Message: x.err.message}
		x.api.Status.ErrorResult, x.api.Status.Errors = e, []*api.ErrorProto{e}
	}
	x.schema = row.Schema(x.result.Fields)
	return x
}

func queryError(err error) *restError {
	if _, ok := errors.AsType[*store.Error](err); ok {
		return asRESTError(err)
	}
	if errors.Is(err, sql.ErrUnsupported) {
		return &restError{http.StatusNotImplemented, "notImplemented", err.Error()}
	}
	return &restError{http.StatusBadRequest, "invalidQuery", err.Error()}
}

func (s *Server) selectRows(project, query string, dataset *api.DatasetReference, in []*api.QueryParameter) (sql.Result, error) {
	q, err := sql.Parse(query)
	if err != nil {
		return sql.Result{}, err
	}
	ref := store.Ref{Project: project}
	switch n := len(q.Table); {
	case n == 3:
		ref = store.Ref{Project: q.Table[0], Dataset: q.Table[1], Table: q.Table[2]}
	case n == 2:
		ref.Dataset, ref.Table = q.Table[0], q.Table[1]
	case dataset == nil:
		return sql.Result{}, fmt.Errorf("table %q must be qualified with a dataset (e.g. dataset.table)", q.Table[0])
	default:
		ref = store.Ref{Project: cmp.Or(dataset.ProjectId, project), Dataset: dataset.DatasetId, Table: q.Table[0]}
	}
	parameters := make(map[string]sql.Parameter)
	for _, p := range in {
		if p == nil || p.ParameterType == nil {
			return sql.Result{}, errors.New("a query parameter has no type")
		}
		if p.Name == "" {
			return sql.Result{}, fmt.Errorf("a positional query parameter is %w", sql.ErrUnsupported)
		}
		kind, ok := row.KindOf(p.ParameterType.Type)
		if !ok || kind == row.Struct {
			return sql.Result{}, fmt.Errorf("a query parameter of type %.40q is %w", p.ParameterType.Type, sql.ErrUnsupported)
		}
		v := sql.Parameter{Kind: kind}
		if p.ParameterValue != nil {
			v.Text = p.ParameterValue.Value
		}
		// The API's Go type has no difference between null and empty: only texts can be empty.
		v.Null = v.Text == "" && kind != row.String && kind != row.Bytes
		parameters[strings.ToLower(p.Name)] = v
	}
	snap, err := s.store.Read(ref)
	if err != nil {
		return sql.Result{}, err
	}
	return q.Run(snap.Fields, snap.Rows, parameters)
}

func missing(what string) error {
	return &restError{http.StatusNotImplemented, "notImplemented", what + " is not implemented in the embedded BigQuery"}
}

// query is jobs.query.
func (s *Server) query(r *http.Request) (any, error) {
	var in api.QueryRequest
	if err := read(r, &in); err != nil {
		return nil, err
	}
	switch {
	case in.UseLegacySql == nil || *in.UseLegacySql:
		return nil, missing("legacy SQL")
	case in.DryRun:
		return nil, missing("a dry run")
	case in.CreateSession:
		return nil, missing("a session")
	}
	f, err := format(in.FormatOptions)
	if err != nil {
		return nil, err
	}
	x := s.run(r.PathValue("project"), in.Query, in.DefaultDataset, in.QueryParameters)
	if x.err != nil {
		return nil, x.err
	}
	if err := s.jobs.add(r.PathValue("project"), "", x); err != nil {
		return nil, err
	}
	size := rowPage
	if in.MaxResults > 0 {
		size = int(min(in.MaxResults, rowPage))
	}
	to, next := len(x.result.Rows), ""
	if to > size {
		to, next = size, strconv.Itoa(size)
	}
	return &api.QueryResponse{
		Kind: "bigquery#queryResponse", JobComplete: true, JobReference: x.api.JobReference, Location: "US", Schema: x.schema,
		TotalRows: uint64(len(x.result.Rows)), PageToken: next, Rows: x.page(0, to, f), ForceSendFields: []string{"TotalRows"},
	}, nil
}

func (x *job) page(from, to int, f row.Format) []*api.TableRow {
	var out []*api.TableRow
	for _, r := range x.result.Rows[from:to] {
		out = append(out, row.TableRow(x.result.Fields, r, f))
	}
	return out
}

// queryResults is jobs.getQueryResults.
func (s *Server) queryResults(r *http.Request) (any, error) {
	x, err := s.jobs.get(r)
	if err != nil {
		return nil, err
	}
	if x.err != nil {
		return nil, x.err
	}
	f, err := formatOf(r)
	if err != nil {
		return nil, err
	}
	from, to, next, err := page(r, len(x.result.Rows), rowPage)
	if err != nil {
		return nil, err
	}
	return &api.GetQueryResultsResponse{
		Kind: "bigquery#getQueryResultsResponse", JobComplete: true, JobReference: x.api.JobReference, Schema: x.schema,
		TotalRows: uint64(len(x.result.Rows)), PageToken: next, Rows: x.page(from, to, f), ForceSendFields: []string{"TotalRows"},
	}, nil
}

// insertJob is jobs.insert of a query job.
func (s *Server) insertJob(r *http.Request) (any, error) {
	var in api.Job
	if err := read(r, &in); err != nil {
		return nil, err
	}
	c := in.Configuration
	if c == nil || c.Query == nil {
		return nil, missing("a job that is not a query")
	}
	for what, set := range map[string]bool{
		"legacy SQL": c.Query.UseLegacySql == nil || *c.Query.UseLegacySql, "a dry run": c.DryRun,
		"a query's destination table": c.Query.DestinationTable != nil, "a query over external tables": len(c.Query.TableDefinitions) > 0,
	} {
		if set {
			return nil, missing(what)
		}
	}
	x := s.run(r.PathValue("project"), c.Query.Query, c.Query.DefaultDataset, c.Query.QueryParameters)
	x.api.Configuration.Labels = maps.Clone(c.Labels)
	id := ""
	if in.JobReference != nil {
		id = in.JobReference.JobId
	}
	if err := s.jobs.add(r.PathValue("project"), id, x); err != nil {
		return nil, err
	}
	return x.api, nil
}

// getJob is jobs.get.
func (s *Server) getJob(r *http.Request) (any, error) {
	x, err := s.jobs.get(r)
	if err != nil {
		return nil, err
	}
	return x.api, nil
}
