package pubsubsink

import (
	"context"
	"errors"
	"fmt"

	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/sinks"
)

// publishError turns a failed request's error into the engine's instruction. Nothing of the batch counts as durable.
func (s *Sink) publishError(err error) error {
	wrapped := fmt.Errorf("pubsub sink %s: publishing to %s: %w", s.name, s.config.topic, err)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return wrapped
	}
	switch status.Code(err) {
	case codes.NotFound:
		return sinks.Stop(fmt.Errorf("%w: the topic is gone: %s", wrapped, s.createAdvice()))
	case codes.PermissionDenied, codes.Unauthenticated:
		return sinks.Stop(fmt.Errorf("%w: %s", wrapped, s.permissionAdvice()))
	case codes.InvalidArgument:
		// Sizes and names were checked before; what is left is the topic's own demand, such as a schema set on it.
		return sinks.Stop(fmt.Errorf("%w: the topic refuses these messages: see its schema and settings with "+
			"gcloud pubsub topics describe %s", wrapped, s.config.topic))
	case codes.Unimplemented:
		return sinks.Stop(fmt.Errorf("%w: this endpoint is not Pub/Sub: check endpoint and emulator_host", wrapped))
	}
	if e, ok := errors.AsType[*apierror.APIError](err); ok {
		if info := e.Details().RetryInfo; info.GetRetryDelay() != nil {
			return sinks.Retry(wrapped, info.GetRetryDelay().AsDuration())
		}
	}
	return wrapped
}

func (s *Sink) createAdvice() string {
	return fmt.Sprintf("make it with spanledger init, or gcloud pubsub topics create %s", s.config.topic)
}

func (s *Sink) permissionAdvice() string {
	return fmt.Sprintf("grant this worker's account roles/pubsub.publisher on %s, and see that its credentials are valid", s.config.topic)
}
