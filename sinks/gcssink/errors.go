package gcssink

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"

	"github.com/spanledger/spanledger/archive"
	"github.com/spanledger/spanledger/sinks"
)

// fault says what was being done, where, and what an operator can do; it marks what no retry can mend.
func (s *Sink) fault(doing string, err error) error {
	where := fmt.Sprintf("gcs sink %s: %s in gs://%s/%s", s.name, doing, s.options.Bucket, s.options.Prefix)
	stop := func(advice string) error { return sinks.Stop(fmt.Errorf("%s: %w: %s", where, err, advice)) }
	if e, ok := errors.AsType[*archive.ForeignError](err); ok {
		return sinks.Stop(fmt.Errorf("%s: %w", where, e))
	}
	if _, ok := errors.AsType[*archive.CorruptError](err); ok {
		return stop("something else wrote into this archive's prefix, or the object was damaged; keep it, look at it with gcloud storage objects describe, and give the pipeline a new prefix or a new incarnation")
	}
	if _, ok := errors.AsType[*archive.ChainError](err); ok {
		return stop("segments are missing, or another pipeline of the same name writes here; compare with the last seal (spanledger verify) before going on with a new incarnation")
	}
	if errors.Is(err, storage.ErrBucketNotExist) {
		return stop("create the bucket (gcloud storage buckets create gs://" + s.options.Bucket + ") or correct the option bucket")
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", where, err)
	}
	if e, ok := errors.AsType[*googleapi.Error](err); ok {
		switch {
		case e.Code == http.StatusTooManyRequests || e.Code == http.StatusForbidden && rateLimited(e):
			return sinks.Retry(fmt.Errorf("%s: %w", where, err), retryAfter(e))
		case e.Code == http.StatusUnauthorized || e.Code == http.StatusForbidden:
			return stop("grant the account roles/storage.objectCreator and roles/storage.objectViewer on the bucket")
		case e.Code == http.StatusNotFound:
			return stop("the bucket is gone or never was: create it (gcloud storage buckets create gs://" + s.options.Bucket + ") or correct the option bucket")
		}
	}
	return fmt.Errorf("%s: %w", where, err)
}

// rateLimited reports whether a 403 is one of those that only ask for patience.
func rateLimited(e *googleapi.Error) bool {
	for _, item := range e.Errors {
		switch item.Reason {
		case "rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded":
			return true
		}
	}
	return false
}

// retryAfter is how long the server asks to wait, within bounds; a second if it does not say.
func retryAfter(e *googleapi.Error) time.Duration {
	if seconds, err := strconv.Atoi(e.Header.Get("Retry-After")); err == nil && seconds > 0 {
		return min(time.Duration(seconds)*time.Second, 5*time.Minute)
	}
	return time.Second
}
