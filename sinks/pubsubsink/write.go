package pubsubsink

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/spanledger/spanledger/sinks"
)

// write is the work of one call of Write: the batch's changes in groups of one ordering key each.
type write struct {
	groups []group
	next   []int32          // for each change, the next of its group, -1 for the last
	infos  []*tableInfo     // for each change
	index  map[string]int32 // ordering key to group
	key    []byte

	todo atomic.Int32 // the next group to publish

	mu       sync.Mutex
	err      error
	rejected []sinks.Rejection
}

// group is a run of changes of one ordering key, first and last by their indexes in the batch.
type group struct {
	key         string
	first, last int32
}

// Write publishes the batch and returns when all of it is durable.
func (s *Sink) Write(ctx context.Context, batch *sinks.Batch) error {
	if err := ctx.Err(); err != nil {
		return s.publishError(err)
	}
	w := s.writes.Get().(*write)
	defer s.writes.Put(w)
	if err := s.group(w, batch); err != nil {
		return sinks.Stop(fmt.Errorf("pubsub sink %s: %w", s.name, err))
	}
	var wg sync.WaitGroup
	for range min(s.config.Requests, len(w.groups)) - 1 {
		wg.Go(func() { s.publish(ctx, w, batch) })
	}
	s.publish(ctx, w, batch)
	wg.Wait()
	if w.err != nil {
		return s.publishError(w.err)
	}
	if len(w.rejected) > 0 {
		slices.SortFunc(w.rejected, func(a, b sinks.Rejection) int { return cmp.Compare(a.Index, b.Index) })
		return &sinks.RejectError{Rejected: w.rejected}
	}
	return nil
}

// group sorts the batch into groups, keeping the order inside each.
func (s *Sink) group(w *write, batch *sinks.Batch) error {
	w.groups, w.infos, w.next = w.groups[:0], w.infos[:0], w.next[:0]
	w.err, w.rejected = nil, nil
	w.todo.Store(0)
	if w.index == nil {
		w.index = make(map[string]int32)
	}
	clear(w.index)
	for i := range batch.Changes {
		c := &batch.Changes[i]
		info, err := s.info(c.Table)
		if err != nil {
			return err
		}
		w.infos = append(w.infos, info)
		w.next = append(w.next, -1)
		if len(c.Key) != len(c.Table.Keys()) {
			return fmt.Errorf("change %s of table %s has %d key values for %d key columns: a fault of its reader", c.ID(), c.Table.Name,
				len(c.Key), len(c.Table.Keys()))
		}
		w.key = s.config.ordering.appendKey(w.key[:0], c, info.at)
		g, ok := w.index[string(w.key)]
		if !ok {
			key := string(w.key)
			w.index[key] = int32(len(w.groups))
			w.groups = append(w.groups, group{key: key, first: int32(i), last: int32(i)})
			continue
		}
		w.next[w.groups[g].last] = int32(i)
		w.groups[g].last = int32(i)
	}
	return nil
}

// publish takes groups until none is left or one has failed.
func (s *Sink) publish(ctx context.Context, w *write, batch *sinks.Batch) {
	e := s.encoder.Get().(*encoder)
	defer s.encoder.Put(e)
	for {
		w.mu.Lock()
		failed := w.err != nil
		w.mu.Unlock()
		n := int(w.todo.Add(1)) - 1
		if failed || n >= len(w.groups) {
			return
		}
		if err := s.publishGroup(ctx, w, batch, e, &w.groups[n]); err != nil {
			w.mu.Lock()
			if w.err == nil {
				w.err = err
			}
			w.mu.Unlock()
			return
		}
	}
}

// publishGroup publishes one group in as few requests as the limits allow, one after another. It stops at the first that
// fails: what follows must not overtake it (I1).
func (s *Sink) publishGroup(ctx context.Context, w *write, batch *sinks.Batch, e *encoder, g *group) error {
	e.reset()
	overhead := 1 + protowire.SizeBytes(len(s.config.topic))
	for i := g.first; i >= 0; i = w.next[i] {
		err := e.encode(w.infos[i], &batch.Changes[i], g.key)
		size := e.addedSize()
		if err == nil && overhead+size > maxRequestBytes {
			err = tooLarge(overhead + size)
		}
		if err != nil {
			c := &batch.Changes[i]
			w.reject(int(i), fmt.Errorf("change %s of table %s: %w", c.ID(), c.Table.Name, err))
			continue
		}
		if e.count > 0 && (e.count == maxRequestMessages || len(e.request)+size > requestBytes) {
			if err := s.send(ctx, e); err != nil {
				return err
			}
		}
		e.add()
	}
	return s.send(ctx, e)
}

func (w *write) reject(i int, reason error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rejected = append(w.rejected, sinks.Rejection{Index: i, Reason: reason})
}

// send publishes the encoder's messages in one request, and empties it.
func (s *Sink) send(ctx context.Context, e *encoder) error {
	if e.count == 0 {
		return nil // the service refuses empty requests
	}
	// The messages are in wire form already. As fields "unknown" to the request object they are copied as they are behind
	// the topic, which makes the very bytes of a request, and the client adds routing, credentials and headers as always.
	req := &pubsubpb.PublishRequest{Topic: s.config.topic}
	req.ProtoReflect().SetUnknown(e.request)
	resp, err := s.client.Publish(ctx, req)
	if err != nil {
		return err
	}
	if len(resp.MessageIds) != e.count {
		return fmt.Errorf("the service answered with %d ids for %d messages", len(resp.MessageIds), e.count)
	}
	e.reset()
	return nil
}
