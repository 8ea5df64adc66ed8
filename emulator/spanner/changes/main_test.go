package changes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/spanner/apiv1/spannerpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is one database: it commits as the store does, with timestamps from the clock.
type bench struct {
	t   testing.TB
	log *Log

	mu      sync.Mutex
	last    int64
	txns    int
	streams []*store.ChangeStream
	tables  []*store.Table
}

var (
	int64Type  = &store.Type{Code: store.Int64}
	stringType = &store.Type{Code: store.String}

	// tableT is T(k INT64, a STRING, b INT64) PRIMARY KEY(k).
	tableT = &store.Table{Name: "T", Key: []store.KeyPart{{Column: 0}}, Columns: []store.Column{
		{Name: "k", Type: int64Type, Ordinal: 1, NotNull: true}, {Name: "a", Type: stringType, Ordinal: 2}, {Name: "b", Type: int64Type, Ordinal: 3},
	}}
	tableU = &store.Table{Name: "U", Key: []store.KeyPart{{Column: 0}}, Columns: []store.Column{
		{Name: "k", Type: int64Type, Ordinal: 1}, {Name: "a", Type: stringType, Ordinal: 2},
	}}
	// tableC is interleaved in T.
	tableC = &store.Table{Name: "C", Parent: "T", Key: []store.KeyPart{{Column: 0}, {Column: 1}}, Columns: []store.Column{
		{Name: "k", Type: int64Type, Ordinal: 1}, {Name: "n", Type: int64Type, Ordinal: 2}, {Name: "v", Type: stringType, Ordinal: 3},
	}}
)

func newBench(t testing.TB, o Options) *bench {
	b := &bench{t: t, tables: []*store.Table{tableT, tableU, tableC}}
	if o.SafeTime == nil {
		o.SafeTime = b.safe
	}
	b.log = New(o)
	b.log.ObserveTables(b.tables)
	return b
}

func (b *bench) safe() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(b.last, time.Now().UnixMicro()-1)
}

func (b *bench) tick() int64 {
	b.last = max(b.last+1, time.Now().UnixMicro())
	return b.last
}

// ddl replaces the streams of the given names, or adds them.
func (b *bench) ddl(defs ...*store.ChangeStream) int64 {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.tick()
	for _, d := range defs {
		found := false
		for i, s := range b.streams {
			if s.Name == d.Name {
				d.Created, found = s.Created, true
				b.streams[i] = d
			}
		}
		if !found {
			d.Created = at
			b.streams = append(b.streams, d)
		}
	}
	if err := b.log.ObserveSchema(b.streams, at); err != nil {
		b.t.Fatal(err)
	}
	return at
}

func (b *bench) dropAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streams = nil
	if err := b.log.ObserveSchema(nil, b.tick()); err != nil {
		b.t.Fatal(err)
	}
}

func all(name string, options ...string) *store.ChangeStream {
	d := &store.ChangeStream{Name: name, All: true}
	for i := 0; i < len(options); i += 2 {
		d.Options = append(d.Options, store.Option{Name: options[i], Value: options[i+1]})
	}
	return d
}

func watching(name string, w []store.Watch, options ...string) *store.ChangeStream {
	d := all(name, options...)
	d.All, d.Watch = false, w
	return d
}

func (b *bench) commit(changes ...store.RowChange) int64 {
	return b.commitAs(store.Commit{}, changes...)
}

func (b *bench) commitAs(c store.Commit, changes ...store.RowChange) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.txns++
	c.Timestamp, c.TransactionID, c.Changes = b.tick(), strconv.Itoa(1000+b.txns), changes
	b.log.Observe(&c)
	return c.Timestamp
}

func num(n int64) store.Value                   { return store.Value{Valid: true, Int: n} }
func str(s string) store.Value                  { return store.Value{Valid: true, Text: s} }
func rowT(k int64, a string, n int64) store.Row { return store.Row{num(k), str(a), num(n)} }

func insert(t *store.Table, r store.Row) store.RowChange {
	return store.RowChange{Table: t, Key: t.KeyOf(r), Op: store.Insert, New: r}
}

func remove(t *store.Table, r store.Row) store.RowChange {
	return store.RowChange{Table: t, Key: t.KeyOf(r), Op: store.Delete, Old: r}
}

// update writes the named columns.
func update(t *store.Table, from, to store.Row, written ...string) store.RowChange {
	w := make([]bool, len(t.Columns))
	for _, name := range written {
		w[t.ColumnIndex(name)] = true
	}
	return store.RowChange{Table: t, Key: t.KeyOf(to), Op: store.Update, Old: from, New: to, Written: w}
}

// row is a decoded record of any form.
type row struct {
	Record
	seq, txn, table, modType, capture, tag string
	last, system                           bool
	records, partitions                    int
	cols                                   []string
	types                                  map[string]string
	mods                                   []mod
	children                               []child
	in, out                                []string
}

type mod struct{ keys, new, old string }

type child struct {
	token   string
	parents []string
}

func (m mod) String() string { return m.keys + " " + m.new + " " + m.old }

// query builds a query of stream S with a heartbeat of a second.
func query(start, end int64, token string) Query {
	q := Query{Stream: "S", HeartbeatMillis: new(int64(1000))}
	q.Start = new(micros(start))
	if end != 0 {
		q.End = new(micros(end))
	}
	if token != "" {
		q.Token = &token
	}
	return q
}

// read runs a query to its end.
func (b *bench) read(q Query) []row {
	b.t.Helper()
	rows, err := b.tryRead(q)
	if err != nil {
		b.t.Fatalf("query: %v", err)
	}
	return rows
}

func (b *bench) tryRead(q Query) ([]row, error) {
	var rows []row
	err := b.log.Query(context.Background(), q, func(r Record) error {
		rows = append(rows, decode(b.t, r))
		return nil
	})
	return rows, err
}

// data reads all data rows of a partition between two times.
func (b *bench) data(start, end int64, token string) []row {
	b.t.Helper()
	var out []row
	for _, r := range b.read(query(start, end, token)) {
		if r.Kind == Data {
			out = append(out, r)
		}
	}
	return out
}

// tokens runs the initial query.
func (b *bench) tokens(at int64) []string {
	b.t.Helper()
	q := query(at, 0, "")
	q.End = q.Start
	var out []string
	for _, r := range b.read(q) {
		for _, c := range r.children {
			out = append(out, c.token)
		}
	}
	return out
}

func wantCode(t testing.TB, err error, code codes.Code) {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("got %v, want code %v", err, code)
	}
}

func canonical(t testing.TB, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("bad JSON %q: %v", text, err)
	}
	out, _ := json.Marshal(v)
	return string(out)
}

// decode reads a record without knowing how it was written.
func decode(t testing.TB, r Record) row {
	t.Helper()
	out := row{Record: r, types: map[string]string{}}
	v := r.Value()
	if text, ok := v.Kind.(*structpb.Value_StringValue); ok {
		if len(text.StringValue) > 0 && text.StringValue[0] == '{' {
			decodeJSON(t, text.StringValue, &out)
		} else {
			decodeProto(t, text.StringValue, &out)
		}
		return out
	}
	var record struct{ name string }
	fields := asStruct(changeRecordType().ArrayElementType, only(t, v))
	var rec map[string]*structpb.Value
	for name, list := range fields {
		if n := len(list.GetListValue().GetValues()); n == 1 {
			if record.name != "" {
				t.Fatalf("two records in one row: %v", v)
			}
			record.name = name
			for _, f := range changeRecordType().ArrayElementType.StructType.Fields {
				if f.Name == name {
					rec = asStruct(f.Type.ArrayElementType, only(t, list))
				}
			}
		}
	}
	if record.name != r.Kind.String() {
		t.Fatalf("record of kind %v shows a %s", r.Kind, record.name)
	}
	switch r.Kind {
	case Data:
		out.seq, out.txn, out.table = rec["record_sequence"].GetStringValue(), rec["server_transaction_id"].GetStringValue(), rec["table_name"].GetStringValue()
		out.last, out.system = rec["is_last_record_in_transaction_in_partition"].GetBoolValue(), rec["is_system_transaction"].GetBoolValue()
		out.modType, out.capture, out.tag = rec["mod_type"].GetStringValue(), rec["value_capture_type"].GetStringValue(), rec["transaction_tag"].GetStringValue()
		out.records, _ = strconv.Atoi(rec["number_of_records_in_transaction"].GetStringValue())
		out.partitions, _ = strconv.Atoi(rec["number_of_partitions_in_transaction"].GetStringValue())
		for _, c := range rec["column_types"].GetListValue().Values {
			f := c.GetListValue().Values
			out.cols = append(out.cols, f[0].GetStringValue())
			out.types[f[0].GetStringValue()] = f[1].GetStringValue()
			if _, err := strconv.Atoi(f[3].GetStringValue()); err != nil {
				t.Fatalf("ordinal_position: %v", err)
			}
			_ = f[2].Kind.(*structpb.Value_BoolValue)
		}
		for _, m := range rec["mods"].GetListValue().Values {
			f := m.GetListValue().Values
			out.mods = append(out.mods, mod{canonical(t, f[0].GetStringValue()), canonical(t, f[1].GetStringValue()), canonical(t, f[2].GetStringValue())})
		}
		checkTime(t, rec["commit_timestamp"].GetStringValue(), r)
	case Heartbeat:
		checkTime(t, rec["timestamp"].GetStringValue(), r)
	case ChildPartitions:
		checkTime(t, rec["start_timestamp"].GetStringValue(), r)
		out.seq = rec["record_sequence"].GetStringValue()
		for _, c := range rec["child_partitions"].GetListValue().Values {
			f := c.GetListValue().Values
			ch := child{token: f[0].GetStringValue()}
			for _, p := range f[1].GetListValue().Values {
				ch.parents = append(ch.parents, p.GetStringValue())
			}
			out.children = append(out.children, ch)
		}
	}
	return out
}

func checkTime(t testing.TB, text string, r Record) {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || !at.Equal(r.Timestamp) {
		t.Fatalf("row shows time %s (%v), Record.Timestamp is %s", text, err, r.Timestamp)
	}
}

func only(t testing.TB, v *structpb.Value) *structpb.Value {
	t.Helper()
	if n := len(v.GetListValue().GetValues()); n != 1 {
		t.Fatalf("want one element, got %d: %v", n, v)
	}
	return v.GetListValue().Values[0]
}

func asStruct(typ *spannerpb.Type, v *structpb.Value) map[string]*structpb.Value {
	out := map[string]*structpb.Value{}
	for i, f := range typ.StructType.Fields {
		out[f.Name] = v.GetListValue().Values[i]
	}
	return out
}

func decodeJSON(t testing.TB, text string, out *row) {
	t.Helper()
	var rec struct {
		Data *struct {
			Commit, Start string
			At            string `json:"commit_timestamp"`
			Seq           string `json:"record_sequence"`
			Txn           string `json:"server_transaction_id"`
			Last          bool   `json:"is_last_record_in_transaction_in_partition"`
			Table         string `json:"table_name"`
			Types         []struct {
				Name    string
				Type    json.RawMessage
				Key     bool `json:"is_primary_key"`
				Ordinal int  `json:"ordinal_position"`
			} `json:"column_types"`
			Mods []struct {
				Keys json.RawMessage
				New  json.RawMessage `json:"new_values"`
				Old  json.RawMessage `json:"old_values"`
			}
			ModType    string `json:"mod_type"`
			Capture    string `json:"value_capture_type"`
			Records    int    `json:"number_of_records_in_transaction"`
			Partitions int    `json:"number_of_partitions_in_transaction"`
			Tag        string `json:"transaction_tag"`
			System     bool   `json:"is_system_transaction"`
		} `json:"data_change_record"`
		Heartbeat *struct{ Timestamp string } `json:"heartbeat_record"`
		Child     *struct {
			Start    string `json:"start_timestamp"`
			Seq      string `json:"record_sequence"`
			Children []struct {
				Token   string
				Parents []string `json:"parent_partition_tokens"`
			} `json:"child_partitions"`
		} `json:"child_partitions_record"`
	}
	if err := json.Unmarshal([]byte(text), &rec); err != nil {
		t.Fatalf("bad JSON record %s: %v", text, err)
	}
	switch {
	case rec.Data != nil && out.Kind == Data:
		d := rec.Data
		checkTime(t, d.At, out.Record)
		out.seq, out.txn, out.last, out.table, out.modType, out.capture, out.tag, out.system = d.Seq, d.Txn, d.Last, d.Table, d.ModType, d.Capture, d.Tag, d.System
		out.records, out.partitions = d.Records, d.Partitions
		for _, c := range d.Types {
			out.cols = append(out.cols, c.Name)
			out.types[c.Name] = string(c.Type)
		}
		for _, m := range d.Mods {
			out.mods = append(out.mods, mod{canonical(t, string(m.Keys)), canonical(t, string(m.New)), canonical(t, string(m.Old))})
		}
	case rec.Heartbeat != nil && out.Kind == Heartbeat:
		checkTime(t, rec.Heartbeat.Timestamp, out.Record)
	case rec.Child != nil && out.Kind == ChildPartitions:
		checkTime(t, rec.Child.Start, out.Record)
		out.seq = rec.Child.Seq
		for _, c := range rec.Child.Children {
			out.children = append(out.children, child{c.Token, c.Parents})
		}
	default:
		t.Fatalf("record of kind %v is %s", out.Kind, text)
	}
}

func decodeProto(t testing.TB, text string, out *row) {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	rec := new(spannerpb.ChangeStreamRecord)
	if err == nil {
		err = proto.Unmarshal(raw, rec)
	}
	if err != nil {
		t.Fatalf("bad proto record: %v", err)
	}
	check := func(kind Kind, at time.Time) {
		if out.Kind != kind || !at.Equal(out.Timestamp) {
			t.Fatalf("record %v at %v is %v", out.Kind, out.Timestamp, rec)
		}
	}
	switch r := rec.Record.(type) {
	case *spannerpb.ChangeStreamRecord_DataChangeRecord_:
		d := r.DataChangeRecord
		check(Data, d.CommitTimestamp.AsTime())
		out.seq, out.txn, out.last, out.table = d.RecordSequence, d.ServerTransactionId, d.IsLastRecordInTransactionInPartition, d.Table
		out.modType, out.capture, out.tag, out.system = d.ModType.String(), d.ValueCaptureType.String(), d.TransactionTag, d.IsSystemTransaction
		out.records, out.partitions = int(d.NumberOfRecordsInTransaction), int(d.NumberOfPartitionsInTransaction)
		for _, c := range d.ColumnMetadata {
			out.cols = append(out.cols, c.Name)
			out.types[c.Name] = c.Type.Code.String()
		}
		object := func(vs []*spannerpb.ChangeStreamRecord_DataChangeRecord_ModValue) string {
			m := map[string]any{}
			for _, v := range vs {
				m[d.ColumnMetadata[v.ColumnMetadataIndex].Name] = v.Value.AsInterface()
			}
			b, _ := json.Marshal(m)
			return string(b)
		}
		for _, m := range d.Mods {
			out.mods = append(out.mods, mod{object(m.Keys), object(m.NewValues), object(m.OldValues)})
		}
	case *spannerpb.ChangeStreamRecord_HeartbeatRecord_:
		check(Heartbeat, r.HeartbeatRecord.Timestamp.AsTime())
	case *spannerpb.ChangeStreamRecord_PartitionStartRecord_:
		check(PartitionStart, r.PartitionStartRecord.StartTimestamp.AsTime())
		out.seq = r.PartitionStartRecord.RecordSequence
		for _, tok := range r.PartitionStartRecord.PartitionTokens {
			out.children = append(out.children, child{token: tok})
		}
	case *spannerpb.ChangeStreamRecord_PartitionEndRecord_:
		check(PartitionEnd, r.PartitionEndRecord.EndTimestamp.AsTime())
		out.seq = r.PartitionEndRecord.RecordSequence
	case *spannerpb.ChangeStreamRecord_PartitionEventRecord_:
		check(PartitionEvent, r.PartitionEventRecord.CommitTimestamp.AsTime())
		out.seq = r.PartitionEventRecord.RecordSequence
		for _, m := range r.PartitionEventRecord.MoveInEvents {
			out.in = append(out.in, m.SourcePartitionToken)
		}
		for _, m := range r.PartitionEventRecord.MoveOutEvents {
			out.out = append(out.out, m.DestinationPartitionToken)
		}
	default:
		t.Fatalf("unknown record %v", rec)
	}
}

func (r row) brief() string {
	return fmt.Sprintf("%s %s %v", r.modType, r.table, r.mods)
}
