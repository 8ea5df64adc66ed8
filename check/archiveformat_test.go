package check

import (
	"context"
	"io"
	"iter"
	"testing"

	"github.com/spanledger/spanledger/archive"
	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/avro"
)

// bucket makes an archive.Memory readable here.
type bucket struct{ archive.Bucket }

func (b bucket) List(ctx context.Context) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for o, err := range b.Bucket.List(ctx, "") {
			if !yield(Object{o.Name, o.Metadata}, err) {
				return
			}
		}
	}
}

func (b bucket) Read(ctx context.Context, name string) ([]byte, error) {
	r, err := b.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// TestArchiveFormat: what package archive writes is what is read here from the format's description alone, with every codec
// goavro knows.
func TestArchiveFormat(t *testing.T) {
	for _, codec := range []avro.Codec{avro.Deflate, avro.Snappy, avro.None} {
		t.Run(string(codec), func(t *testing.T) { testArchiveFormat(t, codec) })
	}
}

func testArchiveFormat(t *testing.T, codec avro.Codec) {
	ctx, changes := t.Context(), worldChanges()
	// The last change is over an hour's border.
	changes[11].Position.Commit = worldEnd
	m := archive.NewMemory()
	if err := archive.Claim(ctx, m, archive.Manifest{Database: worldDatabase, Stream: "everything"}); err != nil {
		t.Fatal(err)
	}
	chains := map[string][]change.Change{}
	for _, c := range changes {
		chains[c.Partition] = append(chains[c.Partition], c)
	}
	for token, rest := range chains {
		var end archive.Link
		for len(rest) > 0 {
			n, schema, err := archive.Run(rest, avro.SchemaOf)
			if err != nil {
				t.Fatal(err)
			}
			if err := archive.StoreSchema(ctx, m, schema); err != nil {
				t.Fatal(err)
			}
			chain := change.Chain{Pipeline: "orders", Incarnation: 3, Token: token, Table: schema.Table().Name}
			s, object, data, err := archive.Encode(chain, end, schema, codec, rest[:n])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Create(ctx, object, data); err != nil {
				t.Fatal(err)
			}
			rest, end = rest[n:], s.Link()
		}
	}
	sink, err := Archive(ctx, truthOf(t, changes, worldPartitions()), bucket{m})
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Err(); err != nil || sink.Delivered != 12 {
		t.Errorf("%d delivered: %v", sink.Delivered, err)
	}
}
