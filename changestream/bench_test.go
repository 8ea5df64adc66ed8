package changestream

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/change"
)

// benchTestRecord has four columns and about 380 bytes of JSON in each mod.
func benchTestRecord(mods int) testRecord {
	r := cart(1_000_000, "16312314578341", "x")
	r.columns = append(r.columns, testColumn{"Updated", `{"code":"TIMESTAMP"}`, false})
	r.capture, r.op, r.mods = "OLD_AND_NEW_VALUES", "UPDATE", nil
	values := func(i int) string {
		return fmt.Sprintf(`{"Items":"%d","Note":"%s","Updated":"2026-01-02T03:04:05.678901Z"}`, i, strings.Repeat("word and ", 9))
	}
	for i := range mods {
		r.mods = append(r.mods, testMod{keys: fmt.Sprintf(`{"CartId":"cart-%032d"}`, i), after: values(i + 1), before: values(i)})
	}
	return r
}

func benchRecord(mods int) []byte {
	return marshal(&sppb.PartialResultSet{Values: []*structpb.Value{benchTestRecord(mods).row()}, ResumeToken: []byte("0123456789abcdef")})
}

// walkTree is the least another reader does: protobuf's own trees, walked by hand.
func walkTree(m []byte) (int, error) {
	var prs sppb.PartialResultSet
	if err := proto.Unmarshal(m, &prs); err != nil {
		return 0, err
	}
	n := 0
	for _, v := range prs.Values {
		for _, record := range v.GetListValue().GetValues() {
			for _, data := range record.GetListValue().GetValues()[0].GetListValue().GetValues() {
				fields := data.GetListValue().GetValues()
				if _, err := time.Parse(time.RFC3339Nano, fields[0].GetStringValue()); err != nil {
					return 0, err
				}
				for _, mod := range fields[6].GetListValue().GetValues() {
					for _, text := range mod.GetListValue().GetValues() {
						n += len(text.GetStringValue())
					}
				}
			}
		}
	}
	return n, nil
}

// clientStructs is what readers on the ordinary client do: rows into structs, JSON into maps.
func clientStructs(m []byte, typ *sppb.Type) (int, error) {
	var prs sppb.PartialResultSet
	if err := proto.Unmarshal(m, &prs); err != nil {
		return 0, err
	}
	row, err := spanner.NewRow([]string{"ChangeRecord"}, []any{spanner.GenericColumnValue{Type: typ, Value: prs.Values[0]}})
	if err != nil {
		return 0, err
	}
	var records []*oracleRecord
	if err := row.Column(0, &records); err != nil {
		return 0, err
	}
	return len(records[0].Data[0].Mods), nil
}

// benchForms are the same record in each form, with what the least and the ordinary other reader do with it.
func benchForms(mods int) []benchForm {
	r := benchTestRecord(mods)
	rows := benchRecord(mods)
	pg := marshal(&sppb.PartialResultSet{Values: []*structpb.Value{text(r.pg("Z"))}, ResumeToken: []byte("0123456789abcdef")})
	b := r.proto()
	protobuf := marshal(&sppb.PartialResultSet{Values: []*structpb.Value{text(base64.StdEncoding.EncodeToString(b))}, ResumeToken: []byte("0123456789abcdef")})
	typ := recordType()
	first := func(m []byte) (*structpb.Value, error) {
		var prs sppb.PartialResultSet
		if err := proto.Unmarshal(m, &prs); err != nil {
			return nil, err
		}
		return prs.Values[0], nil
	}
	protoTree := func(m []byte) error {
		v, err := first(m)
		if err != nil {
			return err
		}
		b, err := base64.StdEncoding.DecodeString(v.GetStringValue())
		if err != nil {
			return err
		}
		return proto.Unmarshal(b, new(sppb.ChangeStreamRecord))
	}
	return []benchForm{
		{"rows", recordType(), rows, func(m []byte) error { _, err := walkTree(m); return err }, func(m []byte) error { _, err := clientStructs(m, typ); return err }},
		{"pg", pgType(), pg, func(m []byte) error {
			v, err := first(m)
			if err != nil {
				return err
			}
			var tree any
			return json.Unmarshal([]byte(v.GetStringValue()), &tree)
		}, func(m []byte) error {
			v, err := first(m)
			if err != nil {
				return err
			}
			_, err = pgOracle(v)
			return err
		}},
		{"proto", &sppb.Type{Code: sppb.TypeCode_PROTO}, protobuf, protoTree, func(m []byte) error {
			v, err := first(m)
			if err != nil {
				return err
			}
			b, err := base64.StdEncoding.DecodeString(v.GetStringValue())
			if err != nil {
				return err
			}
			_, err = protoOracle(b)
			return err
		}},
	}
}

type benchForm struct {
	name         string
	typ          *sppb.Type // which only a query's first message has
	message      []byte
	tree, client func(m []byte) error
}

// BenchmarkDecode measures a record per operation and, in the same run, how many times longer and how many times more
// allocations others take: tree is the least another reader does, client what readers on the ordinary client do.
func BenchmarkDecode(b *testing.B) {
	for _, mods := range []int{1, 10} {
		for _, form := range benchForms(mods) {
			b.Run(fmt.Sprintf("%s/mods=%d", form.name, mods), func(b *testing.B) { benchDecode(b, form, mods) })
		}
	}
}

func benchDecode(b *testing.B, form benchForm, mods int) {
	d := newTestDecoder()
	if err := d.message(marshal(&sppb.PartialResultSet{Metadata: metadataOf(form.typ)})); err != nil {
		b.Fatal(err)
	}
	decode := func() {
		if err := d.message(form.message); err != nil {
			b.Fatal(err)
		}
		if len(d.frames.held) >= 1000 { // a frame of this size is handed over
			d.frames.held = make([]change.Change, 0, 1000+mods)
			d.frames.runs = d.frames.runs[:0]
		}
	}
	measure := func(f func([]byte) error) (time.Duration, float64) {
		const n = 2000
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		for range n {
			if err := f(form.message); err != nil {
				b.Fatal(err)
			}
		}
		took := time.Since(began) / n
		runtime.ReadMemStats(&after)
		return took, float64(after.Mallocs-before.Mallocs) / n
	}
	tree, treeAllocs := measure(form.tree)
	client, clientAllocs := measure(form.client)
	b.SetBytes(int64(len(form.message)))
	b.ReportAllocs()
	for b.Loop() {
		decode()
	}
	ours := float64(b.Elapsed()) / float64(b.N)
	b.ReportMetric(float64(tree)/ours, "tree/ours")
	b.ReportMetric(float64(client)/ours, "client/ours")
	b.ReportMetric(treeAllocs, "tree-allocs")
	b.ReportMetric(clientAllocs, "client-allocs")
}
