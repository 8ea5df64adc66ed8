package server

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func errorf(code codes.Code, format string, args ...any) error {
	return status.Error(code, fmt.Sprintf(format, args...))
}

// withDetail adds a detail to an error's status.
func withDetail(code codes.Code, msg string, detail proto.Message) error {
	st := status.New(code, msg)
	if d, err := st.WithDetails(protoadapt.MessageV1Of(detail)); err == nil {
		st = d
	}
	return st.Err()
}

// missing is the NOT_FOUND that clients recognise by its resource type.
func missing(kind, typ, name string) error {
	return withDetail(codes.NotFound, fmt.Sprintf("%s not found: %s", kind, name),
		&errdetails.ResourceInfo{ResourceType: "type.googleapis.com/" + typ, ResourceName: name, Description: kind + " does not exist."})
}

func missingDatabase(name string) error {
	return missing("Database", "google.spanner.admin.database.v1.Database", name)
}

func missingInstance(name string) error {
	return missing("Instance", "google.spanner.admin.instance.v1.Instance", name)
}

func missingSession(name string) error {
	return missing("Session", "google.spanner.v1.Session", name)
}

// abortedError is ABORTED with the delay after which a client should retry: short, and not the same for all.
func abortedError(msg string) error {
	delay := time.Millisecond + rand.N(9*time.Millisecond)
	return withDetail(codes.Aborted, msg, &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
}

// aborted reports whether a transaction may succeed when it is tried again.
func aborted(err error) bool {
	var se *store.Error
	return errors.As(err, &se) && se.Code == codes.Aborted
}

// wire makes an error fit to be sent: aborts carry their delay, context errors their code.
func wire(err error) error {
	var se *store.Error
	switch {
	case errors.As(err, &se) && se.Code == codes.Aborted:
		return abortedError(se.Msg)
	case errors.As(err, &se):
		return se
	case errors.Is(err, context.Canceled):
		return errorf(codes.Canceled, "the request was cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		return errorf(codes.DeadlineExceeded, "the request's deadline has passed")
	}
	return err
}
