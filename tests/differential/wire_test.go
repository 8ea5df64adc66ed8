package differential

import (
	"encoding/json"
	"fmt"
	"strings"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

// splitJSON cuts a line of JSON values into its values.
func splitJSON(line string) ([]string, error) {
	var out []string
	for dec := json.NewDecoder(strings.NewReader(line)); dec.More(); {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, fmt.Errorf("values %q: %w", line, err)
		}
		out = append(out, string(raw))
	}
	return out, nil
}

func listOf(text string) (*structpb.ListValue, error) {
	var list structpb.ListValue
	if err := protojson.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("values %s: %w", text, err)
	}
	return &list, nil
}

// mutation is the API's form of an operation, or nil for a statement.
func (o op) mutation() (*sppb.Mutation, error) {
	var lists []*structpb.ListValue
	for _, v := range o.values {
		list, err := listOf(v)
		if err != nil {
			return nil, err
		}
		lists = append(lists, list)
	}
	write := &sppb.Mutation_Write{Table: o.table, Columns: o.columns, Values: lists}
	keys := &sppb.KeySet{}
	switch o.kind {
	case insert:
		return &sppb.Mutation{Operation: &sppb.Mutation_Insert{Insert: write}}, nil
	case update:
		return &sppb.Mutation{Operation: &sppb.Mutation_Update{Update: write}}, nil
	case upsert:
		return &sppb.Mutation{Operation: &sppb.Mutation_InsertOrUpdate{InsertOrUpdate: write}}, nil
	case replace:
		return &sppb.Mutation{Operation: &sppb.Mutation_Replace{Replace: write}}, nil
	case remove:
		keys.Keys = lists
	case clear:
		keys.All = true
	case span:
		if len(lists) != 2 || len(o.bounds) != 2 {
			return nil, fmt.Errorf("%s: want bounds such as [) and two keys", o)
		}
		r := &sppb.KeyRange{StartKeyType: &sppb.KeyRange_StartClosed{StartClosed: lists[0]}, EndKeyType: &sppb.KeyRange_EndClosed{EndClosed: lists[1]}}
		if o.bounds[0] == '(' {
			r.StartKeyType = &sppb.KeyRange_StartOpen{StartOpen: lists[0]}
		}
		if o.bounds[1] == ')' {
			r.EndKeyType = &sppb.KeyRange_EndOpen{EndOpen: lists[1]}
		}
		keys.Ranges = []*sppb.KeyRange{r}
	default:
		return nil, nil
	}
	return &sppb.Mutation{Operation: &sppb.Mutation_Delete_{Delete: &sppb.Mutation_Delete{Table: o.table, KeySet: keys}}}, nil
}

// decode turns a value of the API into plain Go values: structs become maps by field name, all else is as JSON has it.
func decode(t *sppb.Type, v *structpb.Value) any {
	if _, null := v.GetKind().(*structpb.Value_NullValue); null {
		return nil
	}
	switch t.GetCode() {
	case sppb.TypeCode_ARRAY:
		out := []any{}
		for _, e := range v.GetListValue().GetValues() {
			out = append(out, decode(t.GetArrayElementType(), e))
		}
		return out
	case sppb.TypeCode_STRUCT:
		out := map[string]any{}
		for i, f := range t.GetStructType().GetFields() {
			out[f.GetName()] = decode(f.GetType(), v.GetListValue().GetValues()[i])
		}
		return out
	}
	return v.AsInterface()
}

// merge joins a chunked value with what follows it.
func merge(a, b *structpb.Value) *structpb.Value {
	if s, ok := a.GetKind().(*structpb.Value_StringValue); ok {
		return structpb.NewStringValue(s.StringValue + b.GetStringValue())
	}
	x, y := a.GetListValue().GetValues(), b.GetListValue().GetValues()
	if len(x) > 0 && len(y) > 0 {
		last := x[len(x)-1]
		_, text := last.GetKind().(*structpb.Value_StringValue)
		_, list := last.GetKind().(*structpb.Value_ListValue)
		if text || list {
			x, y = append(x[:len(x)-1:len(x)-1], merge(last, y[0])), y[1:]
		}
	}
	return structpb.NewListValue(&structpb.ListValue{Values: append(x, y...)})
}

// typeName is a type as DDL writes it, without lengths.
func typeName(t *sppb.Type) string {
	if t.GetCode() == sppb.TypeCode_ARRAY {
		return "ARRAY<" + typeName(t.GetArrayElementType()) + ">"
	}
	return t.GetCode().String()
}
