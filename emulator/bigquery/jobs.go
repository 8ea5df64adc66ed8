package bigquery

import "net/http"

type jobs struct{}

func (s *Server) query(*http.Request) (any, error)        { return nil, noQueries }
func (s *Server) queryResults(*http.Request) (any, error) { return nil, noQueries }
func (s *Server) insertJob(*http.Request) (any, error)    { return nil, noQueries }
func (s *Server) getJob(*http.Request) (any, error)       { return nil, noQueries }

var noQueries = &restError{http.StatusNotImplemented, "notImplemented", "jobs are not implemented in the embedded BigQuery"}
