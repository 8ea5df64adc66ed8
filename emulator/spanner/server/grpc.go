package server

import (
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip"  // clients may compress
	_ "google.golang.org/grpc/encoding/proto" // the codec that ours wraps
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	// maxReceiveBytes is above Spanner's 100 MiB commit limit, whose own error is the clearer one.
	maxReceiveBytes = 128 << 20
	// defaultStreams is how many streams production lets one connection have.
	defaultStreams = 100
	// pingInterval is how often clients may ask whether the connection lives; gRPC's own limit, 5 minutes, is below what
	// clients with keepalive do.
	pingInterval = 10 * time.Second
)

// GRPCOptions are what a gRPC server for Register must be made with. maxStreams bounds the concurrent streams of one
// connection; 0 means 100, as in production.
func GRPCOptions(maxStreams uint32) []grpc.ServerOption {
	if maxStreams == 0 {
		maxStreams = defaultStreams
	}
	return []grpc.ServerOption{
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(maxReceiveBytes),
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2("proto")}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingInterval, PermitWithoutStream: true}),
	}
}

// rawFrame is a PartialResultSet of one row with one column whose value is already encoded. Change records are encoded
// once for all their readers; this keeps the server from decoding and encoding them again.
type rawFrame struct {
	value []byte // a google.protobuf.Value
	token string
	meta  *sppb.ResultSetMetadata
}

// The field numbers of PartialResultSet.
const (
	fieldMetadata    = 1
	fieldValues      = 2
	fieldResumeToken = 4
)

func (f *rawFrame) marshal() ([]byte, error) {
	b := make([]byte, 0, len(f.value)+len(f.token)+32)
	if f.meta != nil {
		m, err := proto.Marshal(f.meta)
		if err != nil {
			return nil, err
		}
		b = protowire.AppendBytes(protowire.AppendTag(b, fieldMetadata, protowire.BytesType), m)
	}
	b = protowire.AppendBytes(protowire.AppendTag(b, fieldValues, protowire.BytesType), f.value)
	return protowire.AppendString(protowire.AppendTag(b, fieldResumeToken, protowire.BytesType), f.token), nil
}

// codec is the protobuf codec with a way through for rawFrame.
type codec struct{ encoding.CodecV2 }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*rawFrame)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	b, err := f.marshal()
	if err != nil {
		return nil, err
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}
