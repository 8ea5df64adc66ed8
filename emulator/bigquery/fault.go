package bigquery

import (
	"context"
	"errors"
	"net/http"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/api/googleapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Call is one call a Fault is asked about.
type Call struct {
	// Method is the gRPC method's bare name, such as "AppendRows" (once for each request of the stream), or the REST API's,
	// such as "tables.patch".
	Method string
	// Resource is the name of the table or stream of a gRPC call, and the path of a REST call, such as
	// "/projects/p/datasets/d/tables/t".
	Resource string
	// Request is the gRPC request, to be read only; nil for REST.
	Request proto.Message
	// Effect is false before anything happens, and true when the call has been carried out but not answered.
	Effect bool
}

// Fault is called around every call. An error takes the place of the call's answer:
//
//   - gRPC: the call fails with it (make it with package status). For AppendRows that breaks the connection, and with
//     Effect the rows are in the table: a lost response. An error made by InStream is answered in the stream instead, which
//     then goes on;
//   - REST: a *googleapi.Error is answered with its code, message and first reason; any other error cuts the connection.
//
// A Fault may block for as long as ctx lasts: it holds up this one call, and the later requests of its AppendRows
// connection. It runs concurrently with itself.
type Fault func(ctx context.Context, c Call) error

// InStream makes err, of package status, an answer to one AppendRows request rather than the end of the connection.
func InStream(err error) error { return inStream{err} }

type inStream struct{ error }

func (e inStream) Unwrap() error { return e.error }

// StorageError is an error of the Storage API with its structured detail, for a Fault to return: a finalized stream, a
// schema that has not reached the writers yet. entity is the name of the stream or table.
func StorageError(c codes.Code, detail storagepb.StorageError_StorageErrorCode, entity, message string) error {
	return storageError(c, detail, entity, message)
}

// fault asks the hook about a call.
func (s *Server) fault(ctx context.Context, c Call) error {
	if f := *s.hook.Load(); f != nil {
		return f(ctx, c)
	}
	return nil
}

// rpcFault is fault for a gRPC call: its error always has a status.
func (s *Server) rpcFault(ctx context.Context, method, resource string, req proto.Message, effect bool) error {
	err := s.fault(ctx, Call{Method: method, Resource: resource, Request: req, Effect: effect})
	if err == nil || errors.As(err, &inStream{}) {
		return err
	}
	if _, ok := status.FromError(err); !ok {
		return status.Errorf(codes.Unavailable, "bigquery emulator: injected: %v", err)
	}
	return err
}

// restFault is fault for a REST call. It reports whether the call is to go on, and has answered if not.
func (s *Server) restFault(w http.ResponseWriter, r *http.Request, method string, effect bool) bool {
	err := s.fault(r.Context(), Call{Method: method, Resource: r.URL.Path, Effect: effect})
	if err == nil {
		return true
	}
	if e, ok := errors.AsType[*googleapi.Error](err); ok {
		reason := "backendError"
		if len(e.Errors) > 0 {
			reason = e.Errors[0].Reason
		}
		answerError(w, &restError{code: e.Code, reason: reason, message: e.Message})
		return false
	}
	panic(http.ErrAbortHandler) // cuts the connection
}
