package metrics

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"

	"google.golang.org/api/googleapi"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/sinks"
)

// classes are the values of the label code: Google's canonical codes, and what has none. They are all there from the
// start, because a counter that is born at 1 never shows an increase.
var classes = [...]string{
	"ok", "canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists", "permission_denied",
	"resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented", "internal", "unavailable", "data_loss",
	"unauthenticated", // in the order of package codes
	"network", "rejected", "other",
}

const (
	network  = len(classes) - 3
	rejected = len(classes) - 2
	other    = len(classes) - 1
)

// httpCodes maps HTTP's answers to the canonical codes, as google.rpc.Code does.
var httpCodes = map[int]int{
	http.StatusBadRequest: 3, http.StatusUnauthorized: 16, http.StatusForbidden: 7, http.StatusNotFound: 5, http.StatusConflict: 6,
	http.StatusPreconditionFailed: 9, http.StatusTooManyRequests: 8, http.StatusRequestEntityTooLarge: 3, 499: 1,
	http.StatusInternalServerError: 13, http.StatusNotImplemented: 12, http.StatusBadGateway: 14, http.StatusServiceUnavailable: 14,
	http.StatusGatewayTimeout: 4, http.StatusRequestTimeout: 4,
}

// class is the index of err's class.
func class(err error) int {
	if _, ok := errors.AsType[*sinks.RejectError](err); ok {
		return rejected
	}
	if api, ok := errors.AsType[*googleapi.Error](err); ok {
		if code, ok := httpCodes[api.Code]; ok {
			return code
		}
		return 2
	}
	if s, ok := status.FromError(err); ok && s != nil && int(s.Code()) < network {
		return int(s.Code())
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return 4
	case errors.Is(err, context.Canceled):
		return 1
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return network
	}
	return other
}

// errorCounts counts errors by class.
type errorCounts struct{ n [len(classes)]atomic.Int64 }

func newErrorCounts() *errorCounts { return &errorCounts{} }

func (c *errorCounts) add(err error) { c.n[class(err)].Add(1) }
