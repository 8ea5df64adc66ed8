package check

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/avro"
	"github.com/spanledger/spanledger/change/plainjson"
)

func messageOf(t testing.TB, format string, n int, c *change.Change) Message {
	t.Helper()
	m := Message{ID: fmt.Sprint("m", n), OrderingKey: fmt.Sprint("bucket-", n%3), Sequence: int64(n) + 1, Attributes: map[string]string{
		"table": c.Table.Name, "op": c.Op.String(), "commit_timestamp": c.Position.Commit.String(), "position": c.ID(),
		"transaction": c.Position.Transaction, "tag": c.Tag, "format": format,
	}}
	switch format {
	case "avro-ocf":
		schema, err := avro.SchemaOf(c.Table)
		if err != nil {
			t.Fatal(err)
		}
		if m.Data, err = avro.AppendOCF(nil, schema, avro.Container{Codec: avro.None}, []change.Change{*c}); err != nil {
			t.Fatal(err)
		}
		m.Attributes["schema"] = schema.Fingerprint()
	case "json":
		var err error
		if m.Data, err = plainjson.Append(nil, c); err != nil {
			t.Fatal(err)
		}
		m.Attributes["schema"] = "0123456789abcdef-0123456789abcdef"
	}
	return m
}

func messagesOf(t testing.TB, format string) (all []Message) {
	for i, c := range worldChanges() {
		all = append(all, messageOf(t, format, i, &c))
	}
	return all
}

func TestPubSub(t *testing.T) {
	at := time.Unix(1_790_000_000, 0)
	// timed takes the sequence away and leaves times of publication.
	timed := func(m []Message, when func(i int) int) []Message {
		for i := range m {
			m[i].Sequence, m[i].Published = 0, at.Add(time.Duration(when(i))*time.Millisecond)
		}
		slices.Reverse(m) // a subscription without ordering gives them anyhow
		return m
	}
	tests := map[string]struct {
		spoil             func(m []Message) []Message
		kind              Kind
		count             int64
		want              string
		undecided, repeat int64
	}{
		"sound":                {spoil: func(m []Message) []Message { return m }},
		"any order of arrival": {spoil: func(m []Message) []Message { slices.Reverse(m); return m }},
		"disorder":             {spoil: func(m []Message) []Message { m[3].Sequence = 100; return m }, kind: OrderViolation, count: 1, want: "first delivered after"},
		"missing":              {spoil: func(m []Message) []Message { return m[1:] }, kind: Missing, count: 1},
		"redelivered":          {spoil: func(m []Message) []Message { return append(m, m[4]) }, repeat: 1},
		"duplicate": {spoil: func(m []Message) []Message {
			x := m[4]
			x.ID, x.Sequence = "again", 100
			return append(m, x)
		}, kind: Duplicate, count: 1, want: "copy 2"},
		"times decide":            {spoil: func(m []Message) []Message { return timed(m, func(i int) int { return i }) }},
		"times show disorder":     {spoil: func(m []Message) []Message { return timed(m, func(i int) int { return -i }) }, kind: OrderViolation, count: 9},
		"equal times are no clue": {spoil: func(m []Message) []Message { return timed(m, func(i int) int { return i / 6 }) }, undecided: 6},
		"two ordering keys":       {spoil: func(m []Message) []Message { m[3].OrderingKey = "other"; return m }, kind: Fault, count: 1, want: "has the ordering keys"},
		"garbage":                 {spoil: func(m []Message) []Message { m[3].Data = []byte("garbage"); return m }, kind: Fault, count: 1, want: "it is not a"},
		"cut short":               {spoil: func(m []Message) []Message { m[3].Data = m[3].Data[:len(m[3].Data)-3]; return m }, kind: Fault, count: 1, want: ""},
		"format":                  {spoil: func(m []Message) []Message { m[3].Attributes["format"] = "xml"; return m }, kind: Fault, count: 1, want: `its format "xml"`},
		"attribute":               {spoil: func(m []Message) []Message { m[3].Attributes["op"] = "DELETE"; return m }, kind: Mismatched, count: 1, want: "the attribute op"},
		"other change's data":     {spoil: func(m []Message) []Message { m[3].Data = m[6].Data; return m }, kind: Duplicate, count: 1, want: "copy 2"},
		"value": {spoil: func(m []Message) []Message {
			return respoil(t, m, func(c *change.Change) { c.After[2] = value(`"99"`) })
		},
			kind: Mismatched, count: 1, want: `after column amount (INT64) is "99"`},
		"NULL for not captured": {spoil: func(m []Message) []Message {
			return respoil(t, m, func(c *change.Change) { c.Before = append(slices.Clone(c.Before), value("null")) })
		},
			kind: Mismatched, count: 1, want: "before has column price = null"},
		"not captured for NULL": {spoil: func(m []Message) []Message { return respoil(t, m, func(c *change.Change) { c.After[2] = nil }) },
			kind: Mismatched, count: 1, want: "after lacks column amount"},
		"foreign": {spoil: func(m []Message) []Message {
			return respoil(t, m, func(c *change.Change) { c.Position.Transaction = "9" })
		}, kind: Unexpected, count: 1},
	}
	for _, format := range []string{"avro-ocf", "json"} {
		for name, test := range tests {
			t.Run(format+"/"+name, func(t *testing.T) {
				sink := PubSub(truthOf(t, worldChanges(), worldPartitions()), test.spoil(messagesOf(t, format)))
				if sink.Undecided != test.undecided || sink.Redelivered != test.repeat {
					t.Errorf("%d undecided, %d redelivered", sink.Undecided, sink.Redelivered)
				}
				if test.kind == "" {
					if err := sink.Err(); err != nil || sink.Delivered != 12 {
						t.Errorf("%d delivered: %v", sink.Delivered, err)
					}
					return
				}
				wantFinding(t, sink, test.kind, test.count, test.want)
			})
		}
	}
}

// respoil makes message 3 anew of a changed change.
func respoil(t testing.TB, m []Message, f func(*change.Change)) []Message {
	c := worldChanges()[3]
	f(&c)
	m[3] = messageOf(t, m[3].Attributes["format"], 3, &c)
	return m
}

// TestReceive: what a pstest server holds and what a subscription hands out both agree with the truth.
func TestReceive(t *testing.T) {
	server := pstest.NewServer()
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	client, err := pubsub.NewClient(ctx, "p", option.WithEndpoint(server.Addr), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const topic, subscription = "projects/p/topics/changes", "projects/p/subscriptions/all"
	if _, err := client.TopicAdminClient.CreateTopic(ctx, &pubsubpb.Topic{Name: topic}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.SubscriptionAdminClient.CreateSubscription(ctx, &pubsubpb.Subscription{Name: subscription, Topic: topic}); err != nil {
		t.Fatal(err)
	}
	for i, m := range messagesOf(t, "avro-ocf") {
		if i == 11 {
			continue // one is lost
		}
		server.PublishOrdered(topic, m.Data, m.Attributes, m.OrderingKey)
	}
	truth := truthOf(t, worldChanges(), worldPartitions())
	wantFinding(t, PubSub(truth, FakeMessages(server, "")), Missing, 1, "")
	messages, err := Receive(ctx, truth, client.Subscriber(subscription), 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	wantFinding(t, PubSub(truth, messages), Missing, 1, "")
	last := messagesOf(t, "avro-ocf")[11]
	server.PublishOrdered(topic, last.Data, last.Attributes, last.OrderingKey)
	if sink := PubSub(truth, FakeMessages(server, "")); sink.Err() != nil || sink.Delivered != 12 {
		t.Error(sink.Err())
	}
	more, err := Receive(ctx, truth, client.Subscriber(subscription), 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if sink := PubSub(truth, append(messages, more...)); sink.Err() != nil || sink.Delivered != 12 {
		t.Error(sink.Err())
	}
}

func FuzzMessage(f *testing.F) {
	truth := truthOf(f, worldChanges(), worldPartitions())
	f.Add(messagesOf(f, "json")[3].Data, "json")
	f.Add(messagesOf(f, "avro-ocf")[3].Data, "avro-ocf")
	f.Fuzz(func(t *testing.T, data []byte, format string) {
		sink := PubSub(truth, []Message{{ID: "m", Data: data, Attributes: map[string]string{"format": strings.ToValidUTF8(format, "")}}})
		if sink.Delivered+sink.Unexpected+sink.Faults == 0 {
			t.Errorf("the message came to nothing: %+v", sink)
		}
	})
}
