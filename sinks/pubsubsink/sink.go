package pubsubsink

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"cloud.google.com/go/iam/apiv1/iampb"
	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/sinks"
)

// Sink is the Pub/Sub sink.
type Sink struct {
	name   string
	config config
	client *pubsub.TopicAdminClient

	tables  sync.Map // table name to *tableInfo of its version last seen
	writes  sync.Pool
	encoder sync.Pool
}

var _ sinks.Writer = (*Sink)(nil)

// New makes a sink from its options, checking them; it does not touch the network.
func New(name string, o Options) (*Sink, error) {
	c, err := o.check()
	if err != nil {
		return nil, err
	}
	return &Sink{
		name: name, config: c,
		writes:  sync.Pool{New: func() any { return new(write) }},
		encoder: sync.Pool{New: func() any { return new(encoder) }},
	}, nil
}

// Spec asks for lanes by key, which is what keeps a row's changes one behind another.
func (s *Sink) Spec() sinks.Spec {
	return sinks.Spec{
		LaneBy: sinks.LaneByKey, Lanes: s.config.Lanes,
		MaxChanges: s.config.MaxChanges, MaxBytes: s.config.MaxBytes, MaxDelay: s.config.maxDelay,
	}
}

const (
	// openTimeout bounds Open, whose calls the client library would repeat for a minute each.
	openTimeout = 20 * time.Second
	// connections to the service: each carries about 100 calls at once, and lanes × requests may be in flight.
	connections = 4
)

// Open connects and checks that the topic exists and may be published to.
func (s *Sink) Open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	options := []option.ClientOption{option.WithUserAgent("spanledger"), option.WithGRPCConnectionPool(connections)}
	switch {
	case s.config.EmulatorHost != "":
		options = append(options,
			option.WithEndpoint(s.config.EmulatorHost),
			option.WithoutAuthentication(),
			option.WithTelemetryDisabled(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	case s.config.Endpoint != "":
		options = append(options, option.WithEndpoint(s.config.Endpoint))
	}
	client, err := pubsub.NewTopicAdminClient(ctx, options...)
	if err != nil {
		return fmt.Errorf("pubsub sink %s: connecting: %w", s.name, err)
	}
	// One attempt a call, within the caller's deadline: the engine retries, and it alone knows when to give up.
	client.CallOptions.Publish = nil
	if err := s.checkTopic(ctx, client); err != nil {
		client.Close()
		return fmt.Errorf("pubsub sink %s: %w", s.name, err)
	}
	s.client = client
	return nil
}

const publishPermission = "pubsub.topics.publish"

func (s *Sink) checkTopic(ctx context.Context, client *pubsub.TopicAdminClient) error {
	topic, err := client.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: s.config.topic})
	switch status.Code(err) {
	case codes.OK:
		if schema := topic.GetSchemaSettings().GetSchema(); schema != "" {
			return fmt.Errorf("topic %s takes only messages of schema %s, which format %s does not follow: use a topic without a schema",
				s.config.topic, schema, s.config.Format)
		}
		return nil
	case codes.NotFound:
		return fmt.Errorf("topic %s does not exist: %s", s.config.topic, s.createAdvice())
	case codes.PermissionDenied:
		// roles/pubsub.publisher, all that publishing needs, does not let an account see the topic, but anyone may ask what
		// he may do.
		may, mayErr := client.TestIamPermissions(ctx, &iampb.TestIamPermissionsRequest{
			Resource: s.config.topic, Permissions: []string{publishPermission},
		})
		if mayErr == nil && slices.Contains(may.GetPermissions(), publishPermission) {
			return nil
		}
		return fmt.Errorf("topic %s may not be published to: %s: %w", s.config.topic, s.permissionAdvice(), err)
	case codes.Unauthenticated:
		return fmt.Errorf("topic %s: %s: %w", s.config.topic, s.permissionAdvice(), err)
	}
	return fmt.Errorf("looking for topic %s: %w", s.config.topic, err)
}

// Close closes the connections; without a successful Open it does nothing.
func (s *Sink) Close(context.Context) error {
	if s.client == nil {
		return nil
	}
	client := s.client
	s.client = nil
	if err := client.Close(); err != nil {
		return fmt.Errorf("pubsub sink %s: closing: %w", s.name, err)
	}
	return nil
}
