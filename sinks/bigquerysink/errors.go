package bigquerysink

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/api/googleapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/sinks"
)

// isStatus reports whether err is the REST API's answer with this code.
func isStatus(err error, code int) bool {
	e, ok := errors.AsType[*googleapi.Error](err)
	return ok && e.Code == code
}

// storageCode is the Storage Write error code in a status's details.
func storageCode(err error) storagepb.StorageError_StorageErrorCode {
	st, ok := status.FromError(err)
	if !ok {
		if api, is := errors.AsType[*apierror.APIError](err); is {
			st = api.GRPCStatus()
		}
	}
	for _, detail := range st.Details() {
		if e, ok := detail.(*storagepb.StorageError); ok {
			return e.GetCode()
		}
	}
	return storagepb.StorageError_STORAGE_ERROR_CODE_UNSPECIFIED
}

// placeTaken reports whether an append failed because the chain's write stream is not as its writer knew it: there is
// something at the offset, or the stream was finalized by a later writer, or is gone.
func placeTaken(err error) bool {
	switch storageCode(err) {
	case storagepb.StorageError_OFFSET_ALREADY_EXISTS, storagepb.StorageError_OFFSET_OUT_OF_RANGE, storagepb.StorageError_STREAM_FINALIZED,
		storagepb.StorageError_STREAM_ALREADY_COMMITTED, storagepb.StorageError_STREAM_NOT_FOUND, storagepb.StorageError_INVALID_STREAM_STATE:
		return true
	case storagepb.StorageError_TABLE_NOT_FOUND:
		return false
	}
	switch grpcCode(err) {
	case codes.AlreadyExists, codes.OutOfRange, codes.NotFound:
		return true
	}
	return false
}

// streamGone reports whether a write stream exists no more: BigQuery drops them some days after their last use, and with
// their table.
func streamGone(err error) bool {
	switch storageCode(err) {
	case storagepb.StorageError_STREAM_NOT_FOUND, storagepb.StorageError_TABLE_NOT_FOUND:
		return true
	}
	return grpcCode(err) == codes.NotFound
}

func grpcCode(err error) codes.Code {
	if api, ok := errors.AsType[*apierror.APIError](err); ok && api.GRPCStatus() != nil {
		return api.GRPCStatus().Code()
	}
	if st, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok {
		return st.GRPCStatus().Code()
	}
	return codes.Unknown
}

const rights = "grant the account roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project"

// fault says what was being done, where, and what an operator can do; it marks what no retry can mend.
func (s *core) fault(doing string, err error) error {
	err = fmt.Errorf("bigquery sink %s: %s in %s.%s: %w", s.name, doing, s.config.Project, s.config.Dataset, err)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if e, ok := errors.AsType[*googleapi.Error](err); ok {
		return restFault(e, err)
	}
	switch grpcCode(err) {
	case codes.PermissionDenied, codes.Unauthenticated:
		return sinks.Stop(fmt.Errorf("%w: %s", err, rights))
	case codes.Unimplemented:
		return sinks.Stop(fmt.Errorf("%w: this endpoint is not BigQuery's Storage Write API: check grpc_endpoint", err))
	case codes.ResourceExhausted:
		wait := 5 * time.Second // a quota: they are counted by the second, the minute or the hour
		if e, ok := errors.AsType[*apierror.APIError](err); ok && e.Details().RetryInfo.GetRetryDelay() != nil {
			wait = e.Details().RetryInfo.GetRetryDelay().AsDuration()
		}
		return sinks.Retry(err, min(wait, 5*time.Minute))
	}
	if code := storageCode(err); code == storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS {
		return sinks.Retry(fmt.Errorf("%w: BigQuery shows a new column to its writers some seconds to minutes after it was added", err), schemaRetry)
	}
	return err
}

func restFault(e *googleapi.Error, err error) error {
	reason := ""
	if len(e.Errors) > 0 {
		reason = e.Errors[0].Reason
	}
	switch {
	case e.Code == http.StatusTooManyRequests || reason == "rateLimitExceeded" || reason == "quotaExceeded" || reason == "jobRateLimitExceeded":
		return sinks.Retry(err, 5*time.Second)
	case e.Code == http.StatusUnauthorized || e.Code == http.StatusForbidden:
		return sinks.Stop(fmt.Errorf("%w: %s", err, rights))
	case e.Code == http.StatusNotFound:
		return sinks.Stop(fmt.Errorf("%w: the dataset is gone: make it with spanledger init, or bq mk, and start again", err))
	case e.Code == http.StatusBadRequest && reason == "invalid":
		return sinks.Stop(fmt.Errorf("%w: BigQuery will not take this for good", err))
	}
	return err
}

// datasetError is Open's.
func (s *core) datasetError(err error) error {
	err = fmt.Errorf("bigquery sink %s: looking for dataset %s.%s: %w", s.name, s.config.Project, s.config.Dataset, err)
	switch {
	case isStatus(err, http.StatusNotFound):
		return fmt.Errorf("%w: make it with spanledger init, or bq mk --dataset %s:%s", err, s.config.Project, s.config.Dataset)
	case isStatus(err, http.StatusForbidden), isStatus(err, http.StatusUnauthorized):
		return fmt.Errorf("%w: %s", err, rights)
	}
	return err
}
