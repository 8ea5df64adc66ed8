package check

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/pstest"

	"github.com/spanledger/spanledger/change"
)

// Message is one published message.
type Message struct {
	// ID is the service's; a message that is handed out twice has the same one.
	ID          string
	Data        []byte
	Attributes  map[string]string
	OrderingKey string
	// Sequence is the message's place in the order of publication, from 1, where it is known; else 0.
	Sequence int64
	// Published is the service's time of publication.
	Published time.Time
}

// PubSub holds published messages, in any order, against the truth. The format is the one each message's "format"
// attribute names: avro-ocf or json.
//
// What can be concluded about the order depends on the source. Where the messages have a Sequence (pstest), it decides. On a
// subscription, messages come in any order and only the time of publication tells: it rises, and messages of one publish
// request share it. So of two changes of one row, published at different times, the order is known; at equal times it is
// not, and the benefit of the doubt is given: the first delivery is counted as undecided. A subscriber with ordering enabled
// sees what the service received in one region under one ordering key; so a row whose messages have two ordering keys is a
// fault, as no subscriber could rely on its order. With ordering switched off all messages have the empty ordering key, and
// order_violations speak of the order of publication only.
//
// A message handed out again is counted as redelivered; a second message with the same change is a duplicate.
func PubSub(t *Truth, messages []Message) *Sink {
	l := newTally(t, false)
	type read struct {
		*Message
		delivery *Delivery
		index    int
	}
	var decode containers
	seen := make(map[string]bool, len(messages))
	reads := make([]read, 0, len(messages))
	for i := range messages {
		m := &messages[i]
		if m.ID != "" {
			if seen[m.ID] {
				l.sink.Redelivered++
				continue
			}
			seen[m.ID] = true
		}
		c, err := messageContent(t, &decode, m)
		if err != nil {
			l.sink.fault("message "+m.ID, "%v", err)
			continue
		}
		reads = append(reads, read{m, c.delivery(t, "message "+m.ID), t.Find(c.position)})
	}
	slices.SortStableFunc(reads, func(a, b read) int {
		return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), a.Published.Compare(b.Published), a.delivery.Position.Compare(b.delivery.Position))
	})
	type at struct {
		sequence    int64
		published   time.Time
		orderingKey string
	}
	last := map[rowKey]at{}
	for _, r := range reads {
		i, first := l.count(r.delivery)
		if i < 0 && !r.delivery.Position.Snapshot {
			continue
		}
		row := rowKey{r.delivery.Table, r.delivery.Key}
		before, known := last[row]
		if known && before.orderingKey != r.OrderingKey {
			l.sink.fault("message "+r.ID, "row %s of table %s has the ordering keys %q and %q", short(r.delivery.Key), r.delivery.Table, short(before.orderingKey), short(r.OrderingKey))
		}
		if first {
			if known && r.Sequence == 0 && before.published.Equal(r.Published) {
				l.sink.Undecided++
			}
			if i < 0 {
				l.orderRow(r.delivery)
			} else {
				l.order(i, r.delivery.Object)
			}
		}
		last[row] = at{r.Sequence, r.Published, r.OrderingKey}
	}
	return l.finish()
}

// messageContent decodes a message and compares its attributes with its data.
func messageContent(t *Truth, r *containers, m *Message) (*content, error) {
	var c *content
	schema := ""
	switch format := m.Attributes["format"]; format {
	case "avro-ocf":
		o, err := r.read(m.Data)
		if err != nil {
			return nil, err
		}
		if len(o.contents) != 1 {
			return nil, fmt.Errorf("it holds %d changes, want 1", len(o.contents))
		}
		c, schema = o.contents[0], o.fingerprint
	case "json":
		var err error
		if c, err = jsonContent(t, m.Data); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("its format %q is not one that can be checked: avro-ocf, json", short(format))
	}
	for name, want := range map[string]string{
		"table": c.table, "op": c.op, "commit_timestamp": c.commit.String(), "position": c.position.String(), "transaction": c.position.Transaction,
		"tag": c.tag, "schema": schema,
	} {
		if name == "schema" && schema == "" {
			continue // JSON data do not say it
		}
		if got := m.Attributes[name]; got != want && len(want) <= maxAttribute && c.inconsistent == "" {
			c.inconsistent = fmt.Sprintf("the attribute %s is %q, the data say %q", name, short(got), short(want))
		}
	}
	return c, nil
}

// maxAttribute is the longest attribute Pub/Sub takes, in bytes; a longer one is left out.
const maxAttribute = 1024

// FakeMessages are the messages a pstest server received for one topic ("" for all), in the order of publication.
func FakeMessages(server *pstest.Server, topic string) []Message {
	var all []Message
	for i, m := range server.Messages() {
		if topic != "" && m.Topic != topic {
			continue
		}
		all = append(all, Message{ID: m.ID, Data: m.Data, Attributes: m.Attributes, OrderingKey: m.OrderingKey, Sequence: int64(i) + 1, Published: m.PublishTime})
	}
	return all
}

// Receive pulls messages from a subscription without ordering, made before the first message was published, until every
// change of the truth has come or nothing has for the idle time, and acknowledges them.
func Receive(ctx context.Context, t *Truth, subscriber *pubsub.Subscriber, idle time.Duration) ([]Message, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var all []Message
	found := make(map[change.Position]bool, len(t.Changes))
	// The first message may be long in coming: connecting counts as idle, too.
	timer := time.AfterFunc(idle, cancel)
	defer timer.Stop()
	err := subscriber.Receive(ctx, func(_ context.Context, m *pubsub.Message) {
		mu.Lock()
		defer mu.Unlock()
		timer.Reset(idle)
		all = append(all, Message{ID: m.ID, Data: m.Data, Attributes: m.Attributes, OrderingKey: m.OrderingKey, Published: m.PublishTime})
		m.Ack()
		if p, err := change.ParsePosition(positionOf(&all[len(all)-1])); err == nil && !p.Snapshot {
			found[p] = true
		}
		if len(found) == len(t.Changes) {
			// Copies may still be on their way: they get a moment, not the whole idle time.
			timer.Reset(min(idle, time.Second))
		}
	})
	if err != nil {
		return all, fmt.Errorf("check: receive: %w", err)
	}
	return all, nil
}

// positionOf is the change's id as the message claims it; it only decides when to stop waiting.
func positionOf(m *Message) string {
	if p := m.Attributes["position"]; p != "" {
		return p
	}
	var j struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(m.Data, &j) != nil {
		return ""
	}
	return j.ID
}
