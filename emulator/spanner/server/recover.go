package server

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// Recover returns gRPC server options that answer INTERNAL where a handler panics, with the stack on standard error. It
// is a last resort, so that a mistake in the server does not end the process that embeds it; the tests run without it.
func Recover() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (_ any, err error) {
			defer recovered(info.FullMethod, &err)
			return handle(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
			defer recovered(info.FullMethod, &err)
			return handle(srv, stream)
		}),
	}
}

func recovered(method string, err *error) {
	if r := recover(); r != nil {
		fmt.Fprintf(os.Stderr, "embedded Spanner: panic in %s: %v\n%s", method, r, debug.Stack())
		*err = errorf(codes.Internal, "the embedded Spanner panicked in %s: %v; the stack is on standard error: please report it", method, r)
	}
}
