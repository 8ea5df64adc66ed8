package differential

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// dataRecord is one data change record.
type dataRecord struct {
	commit      time.Time
	transaction string
	sequence    string
	last        bool
	table       string
	columns     []column
	mods        []mod
	modType     string
	capture     string
	records     string
	partitions  string
	tag         string
	system      bool
}

type column struct {
	name, typ, ordinal string
	key                bool
}

// mod is one row; its values are by column name, as JSON has them.
type mod struct{ keys, new, old map[string]any }

// readStream reads a change stream from start to end (both inclusive): the initial query, and every token to its end.
// The records come by commit timestamp, and within a transaction by record sequence.
func (s *server) readStream(ctx context.Context, session, name string, start, end time.Time) ([]dataRecord, error) {
	type token struct {
		token string
		start time.Time
	}
	var out []dataRecord
	seen := map[string]bool{}
	todo := []token{{start: start}}
	for len(todo) > 0 {
		next := todo[0]
		todo = todo[1:]
		t, err := s.execute(ctx, streamQuery(session, name, next.token, next.start, end))
		if err != nil {
			return nil, fmt.Errorf("read change stream %s: %w", name, err)
		}
		for _, row := range t.rows {
			for _, r := range row[0].([]any) {
				rec := r.(map[string]any)
				for _, d := range list(rec["data_change_record"]) {
					data, err := decodeRecord(d)
					if err != nil {
						return nil, err
					}
					out = append(out, data)
				}
				for _, c := range list(rec["child_partitions_record"]) {
					at, err := time.Parse(time.RFC3339Nano, c["start_timestamp"].(string))
					if err != nil {
						return nil, err
					}
					for _, p := range list(c["child_partitions"]) {
						if id := p["token"].(string); !seen[id] {
							seen[id] = true
							todo = append(todo, token{id, at})
						}
					}
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b dataRecord) int {
		if c := a.commit.Compare(b.commit); c != 0 {
			return c
		}
		return strings.Compare(a.sequence, b.sequence)
	})
	return out, nil
}

func streamQuery(session, name, token string, start, end time.Time) *sppb.ExecuteSqlRequest {
	partition := structpb.NewNullValue()
	if token != "" {
		partition = structpb.NewStringValue(token)
	}
	at := func(t time.Time) *structpb.Value { return structpb.NewStringValue(t.UTC().Format(time.RFC3339Nano)) }
	code := func(c sppb.TypeCode) *sppb.Type { return &sppb.Type{Code: c} }
	return &sppb.ExecuteSqlRequest{
		Session: session, Transaction: singleUse(),
		Sql: "SELECT ChangeRecord FROM READ_" + name + "(start_timestamp => @start, end_timestamp => @end, partition_token => @token, heartbeat_milliseconds => @heartbeat)",
		Params: &structpb.Struct{Fields: map[string]*structpb.Value{
			"start": at(start), "end": at(end), "token": partition, "heartbeat": structpb.NewStringValue("300000"),
		}},
		ParamTypes: map[string]*sppb.Type{
			"start": code(sppb.TypeCode_TIMESTAMP), "end": code(sppb.TypeCode_TIMESTAMP),
			"token": code(sppb.TypeCode_STRING), "heartbeat": code(sppb.TypeCode_INT64),
		},
	}
}

// list is an array of structs; NULL is an empty one.
func list(v any) []map[string]any {
	values, _ := v.([]any)
	out := make([]map[string]any, len(values))
	for i, e := range values {
		out[i], _ = e.(map[string]any)
	}
	return out
}

func decodeRecord(r map[string]any) (d dataRecord, err error) {
	text := func(name string) string { s, _ := r[name].(string); return s }
	flag := func(name string) bool { b, _ := r[name].(bool); return b }
	d = dataRecord{
		transaction: text("server_transaction_id"), sequence: text("record_sequence"), last: flag("is_last_record_in_transaction_in_partition"),
		table: text("table_name"), modType: text("mod_type"), capture: text("value_capture_type"),
		records: text("number_of_records_in_transaction"), partitions: text("number_of_partitions_in_transaction"),
		tag: text("transaction_tag"), system: flag("is_system_transaction"),
	}
	if d.commit, err = time.Parse(time.RFC3339Nano, text("commit_timestamp")); err != nil {
		return d, err
	}
	for _, c := range list(r["column_types"]) {
		var typ any
		if typ, err = parseJSON(c["type"]); err != nil {
			return d, err
		}
		d.columns = append(d.columns, column{
			name: fmt.Sprint(c["name"]), typ: jsonText(typ), ordinal: fmt.Sprint(c["ordinal_position"]), key: c["is_primary_key"] == true,
		})
	}
	for _, m := range list(r["mods"]) {
		var out mod
		for name, into := range map[string]*map[string]any{"keys": &out.keys, "new_values": &out.new, "old_values": &out.old} {
			v, err := parseJSON(m[name])
			if err != nil {
				return d, fmt.Errorf("%s of a record of table %s: %w", name, d.table, err)
			}
			*into, _ = v.(map[string]any)
		}
		d.mods = append(d.mods, out)
	}
	return d, nil
}

func parseJSON(v any) (out any, err error) {
	s, _ := v.(string)
	if s == "" {
		return nil, nil
	}
	if err = json.Unmarshal([]byte(s), &out); err != nil {
		return nil, fmt.Errorf("%q: %w", s, err)
	}
	return out, nil
}

// jsonText is a value on one line, members sorted.
func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
