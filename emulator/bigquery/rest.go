package bigquery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/spanledger/spanledger/emulator/bigquery/store"
)

// maxBody bounds a REST request's body; schemas of 10,000 columns fit.
const maxBody = 16 << 20

// call is one REST call's handler: what it returns is answered as JSON; nil is an empty answer.
type call func(r *http.Request) (any, error)

// handler routes the REST API, with and without its /bigquery/v2 prefix.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	const (
		datasets = "/projects/{project}/datasets"
		dataset  = datasets + "/{dataset}"
		tables   = dataset + "/tables"
		table    = tables + "/{table}"
	)
	for _, e := range []struct {
		pattern, method string
		do              call
	}{
		{"POST " + datasets, "datasets.insert", s.insertDataset},
		{"GET " + datasets, "datasets.list", s.listDatasets},
		{"GET " + dataset, "datasets.get", s.getDataset},
		{"PATCH " + dataset, "datasets.patch", s.changeDataset},
		{"PUT " + dataset, "datasets.update", s.changeDataset},
		{"DELETE " + dataset, "datasets.delete", s.deleteDataset},
		{"POST " + tables, "tables.insert", s.insertTable},
		{"GET " + tables, "tables.list", s.listTables},
		{"GET " + table, "tables.get", s.getTable},
		{"PATCH " + table, "tables.patch", s.changeTable},
		{"PUT " + table, "tables.update", s.changeTable},
		{"DELETE " + table, "tables.delete", s.deleteTable},
		{"GET " + table + "/data", "tabledata.list", s.listRows},
		{"POST /projects/{project}/queries", "jobs.query", s.query},
		{"GET /projects/{project}/queries/{job}", "jobs.getQueryResults", s.queryResults},
		{"POST /projects/{project}/jobs", "jobs.insert", s.insertJob},
		{"GET /projects/{project}/jobs/{job}", "jobs.get", s.getJob},
	} {
		mux.HandleFunc(e.pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, e.method, e.do) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answerError(w, &restError{http.StatusNotImplemented, "notImplemented",
			fmt.Sprintf("%s %s is not implemented in the embedded BigQuery", r.Method, r.URL.Path)})
	})
	bare := http.StripPrefix("/bigquery/v2", mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/bigquery/v2/") {
			bare.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, method string, do call) {
	s.calls.RLock()
	defer s.calls.RUnlock()
	answered := false
	defer func() {
		// A hostile request must not take the process with it; ErrAbortHandler is a fault that cuts the connection.
		if p := recover(); p == http.ErrAbortHandler || p != nil && answered {
			panic(http.ErrAbortHandler)
		} else if p != nil {
			answerError(w, &restError{http.StatusInternalServerError, "internalError", fmt.Sprintf("bigquery emulator: %s panicked: %v", method, p)})
		}
	}()
	// The body is read first: only then does the request's context end when the client goes away.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		answered = true
		answerError(w, err)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if !s.restFault(w, r, method, false) {
		return
	}
	out, err := do(r)
	if err == nil && !s.restFault(w, r, method, true) {
		return
	}
	answered = true
	switch {
	case err != nil:
		answerError(w, err)
	case out == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		answer(w, http.StatusOK, out)
	}
}

// restError is an error as the REST API answers it.
type restError struct {
	code            int
	reason, message string
}

func (e *restError) Error() string { return e.message }

func invalid(format string, args ...any) error {
	return &restError{http.StatusBadRequest, "invalid", fmt.Sprintf(format, args...)}
}

// asRESTError gives every error its code and reason.
func asRESTError(err error) *restError {
	if e, ok := errors.AsType[*restError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &restError{http.StatusRequestEntityTooLarge, "uploadTooLarge", e.Error()}
	}
	e, ok := errors.AsType[*store.Error](err)
	if !ok {
		return &restError{http.StatusInternalServerError, "internalError", "bigquery emulator: " + err.Error()}
	}
	switch e.Reason {
	case store.DatasetNotFound, store.TableNotFound, store.StreamNotFound:
		return &restError{http.StatusNotFound, "notFound", e.Message}
	case store.Duplicate:
		return &restError{http.StatusConflict, "duplicate", e.Message}
	case store.EtagMismatch:
		return &restError{http.StatusPreconditionFailed, "conditionNotMet", e.Message}
	case store.InUse:
		return &restError{http.StatusBadRequest, "resourceInUse", e.Message}
	}
	return &restError{http.StatusBadRequest, "invalid", e.Message}
}

// statusNames are the error object's status names.
var statusNames = map[int]string{
	http.StatusBadRequest: "INVALID_ARGUMENT", http.StatusForbidden: "PERMISSION_DENIED", http.StatusNotFound: "NOT_FOUND",
	http.StatusConflict: "ALREADY_EXISTS", http.StatusPreconditionFailed: "FAILED_PRECONDITION",
	http.StatusTooManyRequests: "RESOURCE_EXHAUSTED", http.StatusInternalServerError: "INTERNAL",
	http.StatusNotImplemented: "UNIMPLEMENTED", http.StatusServiceUnavailable: "UNAVAILABLE",
}

func answerError(w http.ResponseWriter, err error) {
	e := asRESTError(err)
	type item struct {
		Message string `json:"message"`
		Domain  string `json:"domain"`
		Reason  string `json:"reason"`
	}
	var body struct {
		Error struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
			Errors  []item `json:"errors"`
			Status  string `json:"status,omitempty"`
		} `json:"error"`
	}
	body.Error.Code, body.Error.Message, body.Error.Status = e.code, e.message, statusNames[e.code]
	body.Error.Errors = []item{{e.message, "global", e.reason}}
	answer(w, e.code, body)
}

func answer(w http.ResponseWriter, code int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		code = http.StatusInternalServerError
		b = fmt.Appendf(nil, `{"error":{"code":500,"message":%q}}`, "bigquery emulator: "+err.Error())
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(code)
	_, _ = w.Write(b) // the client has gone: there is nobody left to tell
}

// read reads a JSON body into out.
func read(r *http.Request, out any) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return &restError{http.StatusBadRequest, "parseError", "Parse Error: " + err.Error()}
	}
	return nil
}

// number reads a query parameter that is a number of at least 0, or fallback where it is missing.
func number(r *http.Request, name string, fallback int) (int, error) {
	s := r.FormValue(name)
	if s == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, invalid("invalid value %.40q for %s", s, name)
	}
	return n, nil
}

// page cuts one page out of n items: it returns the range, and the token of the next page. Tokens are offsets. Without a
// token the page starts at startIndex.
func page(r *http.Request, n, limit int) (from, to int, next string, err error) {
	size, err := number(r, "maxResults", limit)
	if err != nil {
		return 0, 0, "", err
	}
	if from, err = number(r, "startIndex", 0); err != nil {
		return 0, 0, "", err
	}
	if r.FormValue("pageToken") != "" {
		if from, err = number(r, "pageToken", 0); err != nil {
			return 0, 0, "", err
		}
	}
	from = min(from, n)
	to = min(from+min(size, limit), n)
	if to < n {
		next = strconv.Itoa(to)
	}
	return from, to, next, nil
}
