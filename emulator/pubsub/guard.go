package pubsub

import (
	"context"
	"strings"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// The service's limits, https://cloud.google.com/pubsub/quotas#resource_limits.
const (
	maxMessages       = 1000
	maxRequestBytes   = 10_000_000
	maxOrderingKey    = 1024
	maxAttributes     = 100
	maxAttributeKey   = 256
	maxAttributeValue = 1024
)

func (s *Server) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (_ any, err error) {
	defer func() {
		// The fake panics on requests it does not expect; a server for tests must survive hostile clients.
		if p := recover(); p != nil {
			err = status.Errorf(codes.Internal, "pubsub emulator: %s: the fake panicked: %v", info.FullMethod, p)
		}
	}()
	message := req.(proto.Message)
	method := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
	fault := *s.fault.Load()
	if fault != nil {
		if err := fault(ctx, method, message, false); err != nil {
			return nil, err
		}
	}
	if err := s.check(message); err != nil {
		return nil, err
	}
	resp, err := handle(ctx, req)
	if err == nil && fault != nil {
		if err := fault(ctx, method, message, true); err != nil {
			return nil, err
		}
	}
	return resp, err
}

// guardStream turns a panic in a stream's handler into its error.
func guardStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = status.Errorf(codes.Internal, "pubsub emulator: %s: the fake panicked: %v", info.FullMethod, p)
		}
	}()
	return handle(srv, stream)
}

// check refuses what the service refuses and what the fake would not survive.
func (s *Server) check(req proto.Message) error {
	switch r := req.(type) {
	case *pubsubpb.PublishRequest:
		return checkPublish(r)
	case *pubsubpb.UpdateTopicRequest:
		if r.Topic == nil || len(r.UpdateMask.GetPaths()) == 0 {
			return invalid("the request has no topic or no update_mask")
		}
	case *pubsubpb.UpdateSubscriptionRequest:
		if r.Subscription == nil || len(r.UpdateMask.GetPaths()) == 0 {
			return invalid("the request has no subscription or no update_mask")
		}
	case *pubsubpb.SeekRequest:
		// A seek that brings messages back makes the fake deliver messages without a body, and panic in a goroutine where
		// nothing can recover it. One that only drops messages is fine.
		t, ok := r.Target.(*pubsubpb.SeekRequest_Time)
		if !ok {
			break
		}
		for _, m := range s.fake.Messages() {
			if !m.PublishTime.Before(t.Time.AsTime()) {
				return status.Error(codes.Unimplemented, "pubsub emulator: seek to a time before messages already published "+
					"is not supported: use Google's own emulator")
			}
		}
	}
	return nil
}

func checkPublish(r *pubsubpb.PublishRequest) error {
	if len(r.Messages) == 0 {
		return invalid("the request has no messages")
	}
	if len(r.Messages) > maxMessages {
		return invalid("the request has %d messages, at most %d are allowed", len(r.Messages), maxMessages)
	}
	if n := proto.Size(r); n > maxRequestBytes {
		return invalid("the request has %d bytes, at most %d are allowed", n, maxRequestBytes)
	}
	for i, m := range r.Messages {
		if len(m.GetData()) == 0 && len(m.GetAttributes()) == 0 {
			return invalid("message %d has neither data nor attributes", i)
		}
		if m.OrderingKey != r.Messages[0].OrderingKey {
			return invalid("messages with different ordering keys in one request")
		}
		if len(m.OrderingKey) > maxOrderingKey {
			return invalid("message %d has an ordering key of %d bytes, at most %d are allowed", i, len(m.OrderingKey), maxOrderingKey)
		}
		if len(m.Attributes) > maxAttributes {
			return invalid("message %d has %d attributes, at most %d are allowed", i, len(m.Attributes), maxAttributes)
		}
		for k, v := range m.Attributes {
			if k == "" || len(k) > maxAttributeKey || len(v) > maxAttributeValue {
				return invalid("message %d has the attribute %.40q with a key of %d and a value of %d bytes, at most %d and %d are allowed",
					i, k, len(k), len(v), maxAttributeKey, maxAttributeValue)
			}
		}
	}
	return nil
}

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, "pubsub emulator: "+format, args...)
}
