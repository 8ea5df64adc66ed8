package bigquerysink

import (
	"context"
	"fmt"
	"net/url"
	"sync"

	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// maxIdle bounds the append calls kept open between batches; the one unused for longest is closed first.
const maxIdle = 256

// connections keeps append calls (one bidirectional gRPC stream each) open from batch to batch. One is used by one batch at
// a time, request by request, so answers need no matching.
type connections struct {
	client *storage.BigQueryWriteClient

	mu     sync.Mutex
	idle   []*connection // the one used last at the end
	closed bool
}

type connection struct {
	stream string
	call   storagepb.BigQueryWrite_AppendRowsClient
	cancel context.CancelFunc
	schema *storagepb.ProtoSchema // that the server knows
}

func newConnections(client *storage.BigQueryWriteClient) *connections {
	return &connections{client: client}
}

// take gives an idle call of the write stream, or nil.
func (p *connections) take(stream string) *connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.idle) - 1; i >= 0; i-- {
		if c := p.idle[i]; c.stream == stream {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			return c
		}
	}
	return nil
}

func (p *connections) give(c *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.close()
		return
	}
	p.idle = append(p.idle, c)
	if len(p.idle) > maxIdle {
		p.idle[0].close()
		p.idle = append(p.idle[:0], p.idle[1:]...)
	}
}

func (p *connections) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		c.close()
	}
	p.idle = nil
}

// close ends the call; canceling its context frees what gRPC holds for it, and what has been sent may still take effect.
func (c *connection) close() { c.cancel() }

func (p *connections) open(stream string) (*connection, error) {
	// The call outlives the batch's context, which is why it has none of it; request ties the two together.
	ctx, cancel := context.WithCancel(context.Background())
	ctx = metadata.AppendToOutgoingContext(ctx, "x-goog-request-params", "write_stream="+url.QueryEscape(stream))
	call, err := p.client.AppendRows(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	return &connection{stream: stream, call: call, cancel: cancel}, nil
}

// anywhere is the offset of a request that may land anywhere: that of a default stream.
const anywhere = -1

// append sends one request and waits for its answer. An error the server answered is a gRPC status with its details; rows
// it refused are a *rowsError.
func (p *connections) append(ctx context.Context, stream string, offset int64, schema *storagepb.ProtoSchema, rows [][]byte) error {
	c := p.take(stream)
	if c != nil && c.schema != schema {
		// On a stream of its own only a call's first schema counts; the next one's rows would be read by it.
		c.close()
		c = nil
	}
	for {
		reused := c != nil
		if c == nil {
			var err error
			if c, err = p.open(stream); err != nil {
				return err
			}
		}
		stop := context.AfterFunc(ctx, c.cancel)
		response, err := c.request(offset, schema, rows)
		stopped := !stop()
		if err != nil || stopped {
			c.close()
			c = nil
			if stopped && err != nil {
				return ctx.Err()
			}
			if err != nil && reused {
				// BigQuery closes calls that were idle for long; a fresh one tells. At an offset a repeat is harmless.
				continue
			}
		}
		if err != nil {
			return err
		}
		if err := answer(response, offset); err != nil {
			if c != nil {
				c.close()
			}
			return err
		}
		if c != nil {
			p.give(c)
		}
		return nil
	}
}

func (c *connection) request(offset int64, schema *storagepb.ProtoSchema, rows [][]byte) (*storagepb.AppendRowsResponse, error) {
	data := &storagepb.AppendRowsRequest_ProtoData{Rows: &storagepb.ProtoRows{SerializedRows: rows}}
	if c.schema != schema {
		data.WriterSchema = schema
	}
	request := &storagepb.AppendRowsRequest{
		WriteStream: c.stream, TraceId: "spanledger",
		Rows: &storagepb.AppendRowsRequest_ProtoRows{ProtoRows: data},
	}
	if offset != anywhere {
		request.Offset = wrapperspb.Int64(offset)
	}
	// An error of Send says only that the call has ended; Recv says why.
	sendErr := c.call.Send(request)
	response, err := c.call.Recv()
	if err == nil {
		err = sendErr
	}
	if err != nil {
		return nil, err
	}
	c.schema = schema
	return response, nil
}

// rowsError names the rows of a request that BigQuery refused; none of the request was written.
type rowsError struct {
	rows []*storagepb.RowError
	err  error
}

func (e *rowsError) Error() string {
	return fmt.Sprintf("%d rows refused, row %d: %s: %v", len(e.rows), e.rows[0].GetIndex(), e.rows[0].GetMessage(), e.err)
}

func (e *rowsError) Unwrap() error { return e.err }

func answer(r *storagepb.AppendRowsResponse, offset int64) error {
	if e := r.GetError(); e != nil {
		err := status.ErrorProto(e)
		if rows := r.GetRowErrors(); len(rows) > 0 {
			return &rowsError{rows, err}
		}
		return err
	}
	if got := r.GetAppendResult().GetOffset(); offset != anywhere && got != nil && got.GetValue() != offset {
		return fmt.Errorf("rows meant for offset %d were appended at %d: this endpoint does not keep Storage Write's promises", offset, got.GetValue())
	}
	return nil
}
