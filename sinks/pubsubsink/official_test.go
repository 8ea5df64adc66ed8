package pubsubsink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	pubsubapi "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/emulator/official"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/sinktest"
)

// Google's own emulator is the judge of what the embedded one lets pass.
func TestOfficialEmulator(t *testing.T) {
	p := official.PubSubForTest(t, official.PubSubOptions{})
	topics, err := pubsubapi.NewTopicAdminClient(t.Context(), p.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer topics.Close()
	subscriptions, err := pubsubapi.NewSubscriptionAdminClient(t.Context(), p.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer subscriptions.Close()
	n := 0
	create := func(t *testing.T) (topic, subscription string) {
		t.Helper()
		n++
		topic, subscription = fmt.Sprintf("projects/test/topics/changes-%d", n), fmt.Sprintf("projects/test/subscriptions/changes-%d", n)
		if _, err := topics.CreateTopic(t.Context(), &pubsubpb.Topic{Name: topic}); err != nil {
			t.Fatal(err)
		}
		if _, err := subscriptions.CreateSubscription(t.Context(), &pubsubpb.Subscription{
			Name: subscription, Topic: topic, EnableMessageOrdering: true,
		}); err != nil {
			t.Fatal(err)
		}
		return topic, subscription
	}
	// drain receives what a subscription holds until it has had nothing for a while.
	drain := func(t *testing.T, subscription string) (messages []*pubsubpb.PubsubMessage) {
		t.Helper()
		for {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			resp, err := subscriptions.Pull(ctx, &pubsubpb.PullRequest{Subscription: subscription, MaxMessages: 1000})
			cancel()
			if status.Code(err) == codes.DeadlineExceeded || err == nil && len(resp.ReceivedMessages) == 0 {
				return messages
			}
			if err != nil {
				t.Fatal(err)
			}
			var acks []string
			for _, m := range resp.ReceivedMessages {
				messages = append(messages, m.Message)
				acks = append(acks, m.AckId)
			}
			if err := subscriptions.Acknowledge(t.Context(), &pubsubpb.AcknowledgeRequest{Subscription: subscription, AckIds: acks}); err != nil {
				t.Fatal(err)
			}
		}
	}

	t.Run("Conformance", func(t *testing.T) {
		sinktest.Run(t, sinktest.Harness{
			Make: func(t *testing.T) sinktest.Destination {
				topic, subscription := create(t)
				return sinktest.Destination{
					Sink: func(t *testing.T) sinks.Sink { return newSink(t, p.Endpoint(), Options{Topic: topic}) },
					ReadBack: func(t *testing.T) (all []sinktest.Delivered) {
						for _, m := range drain(t, subscription) {
							all = append(all, read(t, AvroOCF, m.Data))
						}
						return all
					},
				}
			},
			Missing: func(t *testing.T) sinks.Sink {
				return newSink(t, p.Endpoint(), Options{Topic: "projects/test/topics/missing"})
			},
			Refuse: func(c *change.Change) {
				c.After = change.Row{change.Value(`"` + strings.Repeat("x", 10_000_000) + `"`)}
			},
		})
	})

	// The largest message that passes our own check passes the emulator's, and one byte more is rejected.
	t.Run("Limit", func(t *testing.T) {
		topic, subscription := create(t)
		s := openSink(t, p.Endpoint(), Options{Topic: topic, Format: JSON})
		c := rows(1)[0]
		body := func(n int) []change.Change {
			c.After = change.Row{change.Value(`"` + strings.Repeat("x", n) + `"`)}
			return []change.Change{c}
		}
		err := s.Write(t.Context(), &sinks.Batch{Changes: body(10_000_000)})
		rejected, ok := errors.AsType[*sinks.RejectError](err)
		var over int
		if !ok {
			t.Fatalf("Write: %v, want a rejection", err)
		}
		if _, err := fmt.Sscanf(afterWord(rejected.Rejected[0].Reason.Error(), "would have "), "%d", &over); err != nil {
			t.Fatal(err)
		}
		fits := 10_000_000 - (over - maxRequestBytes)
		if err := s.Write(t.Context(), &sinks.Batch{Changes: body(fits + 1)}); err == nil {
			t.Error("a byte too many was not rejected")
		}
		if err := s.Write(t.Context(), &sinks.Batch{Changes: body(fits)}); err != nil {
			t.Fatalf("the largest message: %v", err)
		}
		if m := drain(t, subscription); len(m) != 1 || read(t, JSON, m[0].Data).ID != c.ID() {
			t.Errorf("%d messages", len(m))
		}
	})
}

func afterWord(s, word string) string {
	_, after, _ := strings.Cut(s, word)
	return after
}
