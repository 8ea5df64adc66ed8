package pubsub

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	pubsub "cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func TestMain(m *testing.M) {
	// The client libraries import OpenCensus, which starts one goroutine for ever in its init.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

const topic = "projects/p/topics/changes"

func start(t *testing.T) (*Server, *pubsub.Client) {
	t.Helper()
	s, err := Start(Options{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := pubsub.NewClient(t.Context(), "p", s.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error("again:", err)
		}
	})
	if err := s.CreateTopic(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	return s, client
}

func publish(t *testing.T, c *pubsub.Client, messages ...*pubsubpb.PubsubMessage) error {
	t.Helper()
	c.TopicAdminClient.CallOptions.Publish = nil // no retries
	_, err := c.TopicAdminClient.Publish(t.Context(), &pubsubpb.PublishRequest{Topic: topic, Messages: messages})
	return err
}

func TestPublishAndReceive(t *testing.T) {
	s, client := start(t)
	sub, err := client.SubscriptionAdminClient.CreateSubscription(t.Context(), &pubsubpb.Subscription{
		Name: "projects/p/subscriptions/s", Topic: topic,
	})
	if err != nil {
		t.Fatal(err)
	}
	big := bytes.Repeat([]byte("x"), 9_900_000) // over gRPC's own limit of 4 MiB
	if err := publish(t, client, &pubsubpb.PubsubMessage{Data: big, OrderingKey: "k", Attributes: map[string]string{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	got := s.Messages(topic)
	if len(got) != 1 || !bytes.Equal(got[0].Data, big) || got[0].OrderingKey != "k" || got[0].Attributes["a"] != "b" {
		t.Fatalf("%d messages", len(got))
	}
	// A pull, not the library's Receive, whose goroutines outlive it by a while.
	resp, err := client.SubscriptionAdminClient.Pull(t.Context(), &pubsubpb.PullRequest{Subscription: sub.Name, MaxMessages: 1})
	if err != nil || len(resp.ReceivedMessages) != 1 || !bytes.Equal(resp.ReceivedMessages[0].Message.Data, big) {
		t.Fatalf("pulled %d messages: %v", len(resp.GetReceivedMessages()), err)
	}
}

func TestRefusesWhatTheServiceRefuses(t *testing.T) {
	_, client := start(t)
	m := func() *pubsubpb.PubsubMessage { return &pubsubpb.PubsubMessage{Data: []byte("x")} }
	var many []*pubsubpb.PubsubMessage
	for range 1001 {
		many = append(many, m())
	}
	keyed, long, attr, large := m(), m(), m(), m()
	keyed.OrderingKey = "k"
	long.OrderingKey = strings.Repeat("k", 1025)
	attr.Attributes = map[string]string{"a": strings.Repeat("v", 1025)}
	large.Data = make([]byte, 10_000_000)
	for name, messages := range map[string][]*pubsubpb.PubsubMessage{
		"none": nil, "empty": {{}}, "1001": many, "mixed keys": {m(), keyed}, "long key": {long}, "long value": {attr}, "large": {large},
	} {
		if err := publish(t, client, messages...); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want INVALID_ARGUMENT", name, err)
		}
	}
}

func TestSurvivesWhatTheFakeDoesNot(t *testing.T) {
	_, client := start(t)
	if err := publish(t, client, &pubsubpb.PubsubMessage{Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.TopicAdminClient.UpdateTopic(t.Context(), &pubsubpb.UpdateTopicRequest{Topic: &pubsubpb.Topic{Name: topic}}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("UpdateTopic without a mask: %v", err)
	}
	_, err := client.SubscriptionAdminClient.Seek(t.Context(), &pubsubpb.SeekRequest{
		Subscription: "projects/p/subscriptions/s",
		Target:       &pubsubpb.SeekRequest_Time{Time: timestamppb.New(time.Unix(0, 0))},
	})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("Seek: %v", err)
	}
}

func TestFaults(t *testing.T) {
	s, client := start(t)
	for _, after := range []bool{false, true} {
		s.SetFault(func(_ context.Context, method string, req proto.Message, effect bool) error {
			if method == "Publish" && effect == after && req.(*pubsubpb.PublishRequest).Messages[0].OrderingKey == "bad" {
				return status.Error(codes.Unavailable, "injected")
			}
			return nil
		})
		s.Clear()
		if err := publish(t, client, &pubsubpb.PubsubMessage{Data: []byte("1"), OrderingKey: "bad"}); status.Code(err) != codes.Unavailable {
			t.Errorf("effect %t: %v, want UNAVAILABLE", after, err)
		}
		if err := publish(t, client, &pubsubpb.PubsubMessage{Data: []byte("2"), OrderingKey: "good"}); err != nil {
			t.Error(err)
		}
		want := 1
		if after {
			want = 2
		}
		if got := len(s.Messages("")); got != want {
			t.Errorf("effect %t: %d messages, want %d", after, got, want)
		}
	}
}

func TestAddressInUse(t *testing.T) {
	s, _ := start(t)
	if _, err := Start(Options{Address: s.Endpoint()}); err == nil {
		t.Error("a second server started on the same address")
	}
}
