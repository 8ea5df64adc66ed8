package bigquery

import (
	"errors"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/spanledger/spanledger/emulator/bigquery/row"
	"github.com/spanledger/spanledger/emulator/bigquery/store"
)

// maxRequestBytes is the limit of one AppendRows request, https://cloud.google.com/bigquery/quotas#write-api-limits.
const maxRequestBytes = 20_000_000

// connection is the state of one AppendRows call. One goroutine uses it.
type connection struct {
	store   *store.Store
	now     func() time.Time
	writers map[store.StreamName]*writer
	current *writer
	// missing is the interpretation of missing values that stays until a request sets another.
	missing storagepb.AppendRowsRequest_MissingValueInterpretation
}

// writer is one destination of a connection.
type writer struct {
	name    store.StreamName
	schema  *descriptorpb.DescriptorProto
	decoder *row.Decoder
	// tableID and version are what decoder was made for.
	tableID, version int64
	// told is the schema version the client knows; a newer one is announced once.
	told int64
}

// append carries out one request. An error of inStream's kind answers the request; any other ends the connection.
func (c *connection) append(req *storagepb.AppendRowsRequest) (*storagepb.AppendRowsResponse, error) {
	if n := proto.Size(req); n > maxRequestBytes {
		return nil, status.Errorf(codes.InvalidArgument, "bigquery emulator: AppendRows request too large: %d bytes, the limit is %d", n, maxRequestBytes)
	}
	first := c.current == nil
	if err := c.route(req); err != nil {
		return nil, err
	}
	w := c.current
	resp, err := c.write(w, req)
	if err == nil {
		return resp, nil
	}
	// A connection that starts with a stream or table that is not there ends; later on, only the request fails.
	if _, ok := errors.AsType[*store.Error](err); ok {
		err = rpcError(err)
	}
	if first && status.Code(err) == codes.NotFound {
		return nil, err
	}
	return nil, InStream(err)
}

// route makes the writer a request is for the current one.
func (c *connection) route(req *storagepb.AppendRowsRequest) error {
	if req.DefaultMissingValueInterpretation != 0 {
		c.missing = req.DefaultMissingValueInterpretation
	}
	schema := req.GetProtoRows().GetWriterSchema().GetProtoDescriptor()
	if req.GetArrowRows() != nil {
		return unimplemented("AppendRows with Arrow rows")
	}
	if req.WriteStream == "" {
		if c.current == nil {
			return status.Error(codes.InvalidArgument, "bigquery emulator: the first AppendRows request has no write_stream")
		}
	} else {
		name, err := store.ParseStream(req.WriteStream)
		if err != nil {
			return rpcError(err)
		}
		if c.current != nil && name != c.current.name && (name.ID != store.DefaultStream || c.current.name.ID != store.DefaultStream) {
			return status.Errorf(codes.InvalidArgument, "bigquery emulator: the connection writes to %s and cannot switch to %s: "+
				"only default streams can share one", c.current.name, name)
		}
		w := c.writers[name]
		if w == nil {
			w = &writer{name: name}
			c.writers[name] = w
		}
		c.current = w
	}
	// On an explicit stream only the first request's schema counts, as on the service.
	if w := c.current; schema != nil && (w.schema == nil || w.name.ID == store.DefaultStream) {
		w.schema, w.decoder = schema, nil
	}
	return nil
}

// write decodes and appends a request's rows.
func (c *connection) write(w *writer, req *storagepb.AppendRowsRequest) (*storagepb.AppendRowsResponse, error) {
	info, err := c.store.Stream(w.name)
	if err != nil {
		return nil, err
	}
	if w.schema == nil {
		return nil, status.Errorf(codes.InvalidArgument, "bigquery emulator: no writer_schema has been given for %s", w.name)
	}
	table := info.Table
	if w.tableID != table.TableID {
		w.decoder, w.tableID, w.told = nil, table.TableID, table.SchemaVersion
	}
	if w.decoder == nil || w.version != table.SchemaVersion {
		if w.decoder, err = row.NewDecoder(w.schema, table.Fields); err != nil {
			w.decoder = nil
			return nil, c.schemaError(w, err)
		}
		w.version = table.SchemaVersion
	}
	resp := &storagepb.AppendRowsResponse{WriteStream: w.name.String()}
	rows, bad := c.decode(w, table.Fields, req)
	if len(bad) > 0 {
		// The whole request is refused: nothing may be appended beside a bad row.
		resp.RowErrors = bad
		resp.Response = &storagepb.AppendRowsResponse_Error{Error: status.Newf(codes.InvalidArgument,
			"Errors found while processing rows. Please refer to the row_errors field for details. The list may not be complete "+
				"because of the size limitations. Entity: %s", w.name).Proto()}
		return resp, nil
	}
	var offset *int64
	if req.Offset != nil {
		offset = proto.Int64(req.Offset.Value)
	}
	at, err := c.store.Append(w.name, w.tableID, offset, rows)
	if err != nil {
		return nil, err
	}
	result := &storagepb.AppendRowsResponse_AppendResult{}
	if w.name.ID != store.DefaultStream {
		result.Offset = wrapperspb.Int64(at)
	}
	resp.Response = &storagepb.AppendRowsResponse_AppendResult_{AppendResult: result}
	if w.told < table.SchemaVersion {
		w.told = table.SchemaVersion
		resp.UpdatedSchema = tableSchema(table.Fields)
	}
	return resp, nil
}

func (c *connection) schemaError(w *writer, err error) error {
	switch {
	case errors.Is(err, row.ErrUnsupported):
		return status.Errorf(codes.Unimplemented, "bigquery emulator: %v", err)
	case errors.Is(err, row.ErrExtraFields):
		return storageError(codes.InvalidArgument, storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS, w.name.String(),
			err.Error()+". Entity: "+w.name.String())
	}
	return status.Errorf(codes.InvalidArgument, "Invalid proto schema: %v. Entity: %s", err, w.name)
}

// maxRowErrors bounds the errors listed in one response.
const maxRowErrors = 1000

func (c *connection) decode(w *writer, fields []row.Field, req *storagepb.AppendRowsRequest) ([]row.Row, []*storagepb.RowError) {
	serialized := req.GetProtoRows().GetRows().GetSerializedRows()
	missing := func(i int) (row.Value, error) {
		how, ok := req.MissingValueInterpretations[fields[i].Name]
		if !ok || how == storagepb.AppendRowsRequest_MISSING_VALUE_INTERPRETATION_UNSPECIFIED {
			how = c.missing
		}
		if how != storagepb.AppendRowsRequest_DEFAULT_VALUE {
			return nil, nil
		}
		return row.Default(&fields[i], c.now())
	}
	rows := make([]row.Row, 0, len(serialized))
	var bad []*storagepb.RowError
	for i, b := range serialized {
		r, err := w.decoder.Decode(b, missing)
		if err == nil {
			rows = append(rows, r)
			continue
		}
		if bad = append(bad, &storagepb.RowError{Index: int64(i), Code: storagepb.RowError_FIELDS_ERROR, Message: err.Error()}); len(bad) == maxRowErrors {
			break
		}
	}
	return rows, bad
}

// tableSchema is a table's columns as the Storage API writes them.
func tableSchema(fields []row.Field) *storagepb.TableSchema {
	return &storagepb.TableSchema{Fields: storageFields(fields)}
}

var storageTypes = map[row.Kind]storagepb.TableFieldSchema_Type{
	row.String: storagepb.TableFieldSchema_STRING, row.Bytes: storagepb.TableFieldSchema_BYTES,
	row.Int64: storagepb.TableFieldSchema_INT64, row.Float64: storagepb.TableFieldSchema_DOUBLE,
	row.Numeric: storagepb.TableFieldSchema_NUMERIC, row.BigNumeric: storagepb.TableFieldSchema_BIGNUMERIC,
	row.Bool: storagepb.TableFieldSchema_BOOL, row.Timestamp: storagepb.TableFieldSchema_TIMESTAMP,
	row.Date: storagepb.TableFieldSchema_DATE, row.Time: storagepb.TableFieldSchema_TIME,
	row.DateTime: storagepb.TableFieldSchema_DATETIME, row.JSON: storagepb.TableFieldSchema_JSON,
	row.Geography: storagepb.TableFieldSchema_GEOGRAPHY, row.Struct: storagepb.TableFieldSchema_STRUCT,
}

var storageModes = [...]storagepb.TableFieldSchema_Mode{
	row.Nullable: storagepb.TableFieldSchema_NULLABLE, row.Required: storagepb.TableFieldSchema_REQUIRED,
	row.Repeated: storagepb.TableFieldSchema_REPEATED,
}

func storageFields(fields []row.Field) []*storagepb.TableFieldSchema {
	out := make([]*storagepb.TableFieldSchema, len(fields))
	for i, f := range fields {
		out[i] = &storagepb.TableFieldSchema{
			Name: f.Name, Type: storageTypes[f.Kind], Mode: storageModes[f.Mode], Fields: storageFields(f.Fields),
			MaxLength: f.MaxLength, Precision: f.Precision, Scale: f.Scale, DefaultValueExpression: f.Default,
		}
	}
	return out
}
