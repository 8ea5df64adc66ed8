package store

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is a refusal with Spanner's canonical code. Its text says what was refused, where and why.
type Error struct {
	Code codes.Code
	Msg  string
}

// Errorf makes an *Error.
func Errorf(code codes.Code, format string, args ...any) error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// Error returns the text, led by the code.
func (e *Error) Error() string { return e.Code.String() + ": " + e.Msg }

// GRPCStatus lets a gRPC server send the error as it is.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Msg) }
