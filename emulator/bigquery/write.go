package bigquery

import (
	"context"
	"errors"
	"fmt"
	"io"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/spanledger/spanledger/emulator/bigquery/store"
)

// writeServer is the Storage Write API.
type writeServer struct {
	storagepb.UnimplementedBigQueryWriteServer
	*Server
}

// CreateWriteStream makes a committed stream.
func (s *writeServer) CreateWriteStream(ctx context.Context, r *storagepb.CreateWriteStreamRequest) (*storagepb.WriteStream, error) {
	return unary(ctx, s.Server, "CreateWriteStream", r.Parent, r, func() (*storagepb.WriteStream, error) {
		ref, err := store.ParseTable(r.Parent)
		if err != nil {
			return nil, rpcError(err)
		}
		switch t := r.GetWriteStream().GetType(); t {
		case storagepb.WriteStream_COMMITTED:
		case storagepb.WriteStream_TYPE_UNSPECIFIED:
			return nil, status.Error(codes.InvalidArgument, "bigquery emulator: write_stream.type is required")
		default:
			return nil, unimplemented("write streams of type %s", t)
		}
		info, err := s.store.CreateStream(ref)
		if err != nil {
			return nil, rpcError(err)
		}
		return writeStream(info, true), nil
	})
}

// GetWriteStream describes a stream, with the table's schema if the FULL view is asked for.
func (s *writeServer) GetWriteStream(ctx context.Context, r *storagepb.GetWriteStreamRequest) (*storagepb.WriteStream, error) {
	return unary(ctx, s.Server, "GetWriteStream", r.Name, r, func() (*storagepb.WriteStream, error) {
		name, err := store.ParseStream(r.Name)
		if err != nil {
			return nil, rpcError(err)
		}
		info, err := s.store.Stream(name)
		if err != nil {
			return nil, rpcError(err)
		}
		return writeStream(info, r.View == storagepb.WriteStreamView_FULL), nil
	})
}

// FinalizeWriteStream ends a stream and returns its row count.
func (s *writeServer) FinalizeWriteStream(ctx context.Context, r *storagepb.FinalizeWriteStreamRequest) (*storagepb.FinalizeWriteStreamResponse, error) {
	return unary(ctx, s.Server, "FinalizeWriteStream", r.Name, r, func() (*storagepb.FinalizeWriteStreamResponse, error) {
		name, err := store.ParseStream(r.Name)
		if err != nil {
			return nil, rpcError(err)
		}
		n, err := s.store.Finalize(name)
		if err != nil {
			return nil, rpcError(err)
		}
		return &storagepb.FinalizeWriteStreamResponse{RowCount: n}, nil
	})
}

// BatchCommitWriteStreams is of pending streams, FlushRows of buffered ones; neither kind can be made.
func (s *writeServer) BatchCommitWriteStreams(context.Context, *storagepb.BatchCommitWriteStreamsRequest) (*storagepb.BatchCommitWriteStreamsResponse, error) {
	return nil, unimplemented("BatchCommitWriteStreams (pending streams)")
}

// FlushRows see BatchCommitWriteStreams.
func (s *writeServer) FlushRows(context.Context, *storagepb.FlushRowsRequest) (*storagepb.FlushRowsResponse, error) {
	return nil, unimplemented("FlushRows (buffered streams)")
}

// AppendRows serves one connection: requests are carried out and answered in order.
func (s *writeServer) AppendRows(stream storagepb.BigQueryWrite_AppendRowsServer) error {
	c := &connection{store: s.store, now: s.now, writers: make(map[store.StreamName]*writer)}
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		resource := req.WriteStream
		if resource == "" && c.current != nil {
			resource = c.current.name.String()
		}
		err = s.rpcFault(stream.Context(), "AppendRows", resource, req, false)
		var resp *storagepb.AppendRowsResponse
		if err == nil {
			if resp, err = c.append(req); err == nil {
				err = s.rpcFault(stream.Context(), "AppendRows", resource, req, true)
			}
		}
		if in := (inStream{}); errors.As(err, &in) {
			resp, err = &storagepb.AppendRowsResponse{
				Response:    &storagepb.AppendRowsResponse_Error{Error: status.Convert(in.error).Proto()},
				WriteStream: resource,
			}, nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

// unary carries out a unary call between its two faults.
func unary[T any](ctx context.Context, s *Server, method, resource string, req proto.Message, do func() (*T, error)) (*T, error) {
	if err := s.rpcFault(ctx, method, resource, req, false); err != nil {
		return nil, err
	}
	out, err := do()
	if err != nil {
		return nil, err
	}
	if err := s.rpcFault(ctx, method, resource, req, true); err != nil {
		return nil, err
	}
	return out, nil
}

func writeStream(i store.StreamInfo, full bool) *storagepb.WriteStream {
	w := &storagepb.WriteStream{
		Name: i.Name.String(), Type: storagepb.WriteStream_COMMITTED, CreateTime: timestamppb.New(i.Created),
		WriteMode: storagepb.WriteStream_INSERT, Location: i.Table.Location,
	}
	if full {
		w.TableSchema = tableSchema(i.Table.Fields)
	}
	return w
}

// reasons says how each of the store's refusals is answered.
var reasons = map[store.Reason]struct {
	code    codes.Code
	storage storagepb.StorageError_StorageErrorCode
}{
	store.Invalid:           {codes.InvalidArgument, 0},
	store.DatasetNotFound:   {codes.NotFound, storagepb.StorageError_TABLE_NOT_FOUND},
	store.TableNotFound:     {codes.NotFound, storagepb.StorageError_TABLE_NOT_FOUND},
	store.StreamNotFound:    {codes.NotFound, storagepb.StorageError_STREAM_NOT_FOUND},
	store.OffsetExists:      {codes.AlreadyExists, storagepb.StorageError_OFFSET_ALREADY_EXISTS},
	store.OffsetBeyond:      {codes.OutOfRange, storagepb.StorageError_OFFSET_OUT_OF_RANGE},
	store.StreamFinalized:   {codes.InvalidArgument, storagepb.StorageError_STREAM_FINALIZED},
	store.InvalidStreamType: {codes.InvalidArgument, storagepb.StorageError_INVALID_STREAM_TYPE},
}

// rpcError is the store's error as a status, with its StorageError.
func rpcError(err error) error {
	e, ok := errors.AsType[*store.Error](err)
	r, known := reasons[0], false
	if ok {
		r, known = reasons[e.Reason]
	}
	if !known {
		return status.Errorf(codes.Internal, "bigquery emulator: %v", err)
	}
	return storageError(r.code, r.storage, e.Entity, e.Message)
}

func storageError(code codes.Code, storage storagepb.StorageError_StorageErrorCode, entity, message string) error {
	st := status.New(code, message)
	if storage == storagepb.StorageError_STORAGE_ERROR_CODE_UNSPECIFIED {
		return st.Err()
	}
	with, err := st.WithDetails(&storagepb.StorageError{Code: storage, Entity: entity, ErrorMessage: message})
	if err != nil {
		return st.Err() // only an OK status has no room for details
	}
	return with.Err()
}

func unimplemented(format string, args ...any) error {
	return status.Errorf(codes.Unimplemented, "bigquery emulator: %s: not implemented in the embedded BigQuery", fmt.Sprintf(format, args...))
}

// recoverUnary and recoverStream turn a panic into an error: a hostile request must not take the process with it.
func recoverUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (_ any, err error) {
	defer recovered(info.FullMethod, &err)
	return handle(ctx, req)
}

func recoverStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer recovered(info.FullMethod, &err)
	return handle(srv, stream)
}

func recovered(method string, err *error) {
	if p := recover(); p != nil {
		*err = status.Errorf(codes.Internal, "bigquery emulator: %s panicked: %v", method, p)
	}
}
