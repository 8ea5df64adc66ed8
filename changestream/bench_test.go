package changestream

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/spanner"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/change"
)

// benchRecord has four columns and about 380 bytes of JSON in each mod.
func benchRecord(mods int) []byte {
	r := cart(1_000_000, "16312314578341", "x")
	r.columns = append(r.columns, testColumn{"Updated", `{"code":"TIMESTAMP"}`, false})
	r.capture, r.op, r.mods = "OLD_AND_NEW_VALUES", "UPDATE", nil
	values := func(i int) string {
		return fmt.Sprintf(`{"Items":"%d","Note":"%s","Updated":"2026-01-02T03:04:05.678901Z"}`, i, strings.Repeat("word and ", 9))
	}
	for i := range mods {
		r.mods = append(r.mods, testMod{keys: fmt.Sprintf(`{"CartId":"cart-%032d"}`, i), after: values(i + 1), before: values(i)})
	}
	m := &sppb.PartialResultSet{Values: []*structpb.Value{r.row()}, ResumeToken: []byte("0123456789abcdef")}
	return marshal(m)
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

// BenchmarkDecode measures a record per operation, and in the same run how many times longer the others take.
func BenchmarkDecode(b *testing.B) {
	for _, mods := range []int{1, 10} {
		m := benchRecord(mods)
		b.Run(fmt.Sprintf("mods=%d", mods), func(b *testing.B) {
			d := newTestDecoder()
			if err := d.message(message(heartbeatRow("1970-01-01T00:00:00.000005Z"))); err != nil {
				b.Fatal(err)
			}
			decode := func() {
				if err := d.message(m); err != nil {
					b.Fatal(err)
				}
				if len(d.frames.held) >= 1000 { // a frame of this size is handed over
					d.frames.held = make([]change.Change, 0, 1000+mods)
					d.frames.runs = d.frames.runs[:0]
				}
			}
			typ := recordType()
			const n = 2000
			began := time.Now()
			for range n {
				if _, err := walkTree(m); err != nil {
					b.Fatal(err)
				}
			}
			tree := float64(time.Since(began)) / n
			began = time.Now()
			for range n {
				if _, err := clientStructs(m, typ); err != nil {
					b.Fatal(err)
				}
			}
			structs := float64(time.Since(began)) / n
			b.SetBytes(int64(len(m)))
			b.ReportAllocs()
			for b.Loop() {
				decode()
			}
			ours := float64(b.Elapsed()) / float64(b.N)
			b.ReportMetric(tree/ours, "tree/ours")
			b.ReportMetric(structs/ours, "client/ours")
		})
	}
}
