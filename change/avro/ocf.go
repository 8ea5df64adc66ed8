package avro

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/spanledger/spanledger/change"
)

// Metadata is one entry of a container's header.
type Metadata struct{ Key, Value string }

// Container says how changes are framed as an Avro object container.
type Container struct {
	// Codec compresses the blocks; "" is Deflate at its fastest level.
	Codec Codec
	// Metadata goes into the header behind Avro's own, in this order. Keys are unique and do not begin with "avro.".
	Metadata []Metadata
	// BlockBytes is the size, before compression, at which a block is closed; 0 is 64 KiB, which compresses nearly as well
	// as larger ones and lets readers split files.
	BlockBytes int
}

const (
	defaultBlock = 64 << 10
	// maxBlock bounds a block for a reader, packed or unpacked: far above a block with Spanner's largest row (of one commit's
	// 100 MiB, before and after, escaped).
	maxBlock = 1 << 30
	// maxHeader bounds a header for a reader: Spanner's widest table has 1,024 columns.
	maxHeader = 16 << 20
)

var magic = []byte("Obj\x01")

// AppendOCF appends a whole container file: the header with the schema, and the changes in blocks. Equal arguments give
// equal bytes: the sync marker is a digest of the header, not a random number (I9). Errors are those of Schema.Append, or
// name a codec or metadata that cannot be; dst is then returned as it was.
func AppendOCF(dst []byte, s *Schema, o Container, changes []change.Change) ([]byte, error) {
	start := len(dst)
	if o.Codec == "" {
		o.Codec = Deflate
	}
	if o.BlockBytes <= 0 {
		o.BlockBytes = defaultBlock
	}
	dst = append(dst, magic...)
	dst = appendLong(dst, int64(2+len(o.Metadata)))
	dst = appendString(dst, "avro.schema")
	dst = appendBytes(dst, s.text)
	dst = appendString(dst, "avro.codec")
	dst = appendString(dst, string(o.Codec))
	for i, m := range o.Metadata {
		if len(m.Key) >= 5 && m.Key[:5] == "avro." {
			return dst[:start], fmt.Errorf("avro: container metadata %q: keys that begin with avro. are Avro's own", m.Key)
		}
		for _, other := range o.Metadata[:i] {
			if other.Key == m.Key {
				return dst[:start], fmt.Errorf("avro: container metadata %q is there twice", m.Key)
			}
		}
		dst = appendString(dst, m.Key)
		dst = appendString(dst, m.Value)
	}
	dst = append(dst, 0)
	// I9: the marker follows from the header. A segment's header holds positions, which no writer of data can foresee, so
	// nobody can plant the marker inside a block.
	digest := sha256.Sum256(dst[start:])
	dst = append(dst, digest[:16]...)

	scratch := blocks.Get().(*blockBuffers)
	defer blocks.Put(scratch)
	block := scratch.block[:0]
	count := 0
	for i := range changes {
		var err error
		if block, err = s.Append(block, &changes[i]); err != nil {
			return dst[:start], err
		}
		count++
		if len(block) < o.BlockBytes && i < len(changes)-1 {
			continue
		}
		if len(block) > maxBlock {
			return dst[:start], fmt.Errorf("avro: change %s of table %s needs more than %d bytes", changes[i].ID(), s.table.Name, maxBlock)
		}
		packed, err := o.Codec.compress(scratch.packed[:0], block)
		if err != nil {
			return dst[:start], err
		}
		dst = appendLong(dst, int64(count))
		dst = appendBytes(dst, packed)
		dst = append(dst, digest[:16]...)
		block, scratch.packed, count = block[:0], packed, 0
	}
	if cap(block) <= 1<<20 { // a giant row must not stay in the pool
		scratch.block = block
	}
	if cap(scratch.packed) > 1<<20 {
		scratch.packed = nil
	}
	return dst, nil
}

type blockBuffers struct{ block, packed []byte }

var blocks = sync.Pool{New: func() any { return new(blockBuffers) }}

// Reader reads a container of changes as a stream: memory is bounded by one block, whatever the file claims about itself.
type Reader struct {
	r        *bufio.Reader
	schema   *Schema
	codec    Codec
	metadata []Metadata
	sync     [16]byte

	packed, unpacked []byte // memory for a block, used again
	block            []byte // what is left of the block
	left             int64  // records left in the block
	number           int    // of the block, for errors
	d                decoder
	err              error
}

// NewReader reads the header. It refuses what is no Avro container, or one whose schema this package did not write.
func NewReader(r io.Reader) (*Reader, error) {
	br, ok := r.(*bufio.Reader)
	if !ok {
		br = bufio.NewReaderSize(r, 64<<10)
	}
	c := &Reader{r: br}
	if err := c.header(); err != nil {
		return nil, fmt.Errorf("avro: container header: %w", noEOF(err))
	}
	c.d.schema = c.schema
	return c, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *Reader) header() error {
	var head [4]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return err
	}
	if !bytes.Equal(head[:], magic) {
		return fmt.Errorf("it begins with %q, which is no Avro container", head[:])
	}
	var schema []byte
	r.codec = None
	budget := int64(maxHeader)
	for {
		n, err := binary.ReadVarint(r.r)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if n < 0 {
			n = -n
			if _, err := binary.ReadVarint(r.r); err != nil {
				return err
			}
		}
		if n < 0 || n > budget {
			return errors.New("too many entries")
		}
		for range n {
			key, err := r.bytes(nil, &budget)
			if err != nil {
				return err
			}
			value, err := r.bytes(nil, &budget)
			if err != nil {
				return err
			}
			switch string(key) {
			case "avro.schema":
				schema = value
			case "avro.codec":
				r.codec = Codec(value)
			default:
				r.metadata = append(r.metadata, Metadata{string(key), string(value)})
			}
		}
	}
	if _, err := io.ReadFull(r.r, r.sync[:]); err != nil {
		return err
	}
	switch r.codec {
	case None, Deflate, Snappy, Zstandard:
	default:
		return fmt.Errorf("unknown codec %.50q", string(r.codec))
	}
	if schema == nil {
		return errors.New("it has no schema")
	}
	var err error
	r.schema, err = ParseSchema(schema)
	return err
}

// bytes reads length and bytes into dst, growing it as they come, so that a false length costs nothing.
func (r *Reader) bytes(dst []byte, budget *int64) ([]byte, error) {
	n, err := binary.ReadVarint(r.r)
	if err != nil {
		return nil, err
	}
	if n < 0 || n > *budget {
		return nil, fmt.Errorf("a length of %d bytes is out of bounds", n)
	}
	*budget -= n
	dst = dst[:0]
	for n > 0 {
		step := min(n, max(64<<10, int64(len(dst))))
		mark := len(dst)
		dst = append(dst, make([]byte, step)...)
		if _, err := io.ReadFull(r.r, dst[mark:]); err != nil {
			return nil, noEOF(err)
		}
		n -= step
	}
	if dst == nil {
		dst = []byte{}
	}
	return dst, nil
}

// Schema is the schema the container was written with.
func (r *Reader) Schema() *Schema { return r.schema }

// Metadata are the header's entries, Avro's own left out, in the order they stand in.
func (r *Reader) Metadata() []Metadata { return r.metadata }

// Next reads the next change into c, in the manner of Schema.Decode. It returns io.EOF after the last, and an error that
// names the block if the container is damaged; after an error it returns the same again. A file cut off exactly between
// two blocks cannot be told from a whole one: compare the count with one from elsewhere.
func (r *Reader) Next(c *change.Change) error {
	if r.err != nil {
		return r.err
	}
	if r.left == 0 {
		if err := r.nextBlock(); err != nil {
			if !errors.Is(err, io.EOF) {
				err = fmt.Errorf("avro: container of table %s, block %d: %w", r.schema.table.Name, r.number, noEOF(err))
			}
			r.err = err
			return err
		}
	}
	rest, err := r.d.decode(r.block, c)
	if err == nil {
		r.block = rest
		if r.left--; r.left == 0 && len(rest) > 0 {
			err = fmt.Errorf("%d bytes follow the last record", len(rest))
		}
	}
	if err != nil {
		r.err = fmt.Errorf("avro: container of table %s, block %d: %w", r.schema.table.Name, r.number, err)
	}
	return r.err
}

// nextBlock returns io.EOF itself only at the end of the file.
func (r *Reader) nextBlock() error {
	if _, err := r.r.Peek(1); err != nil {
		return err
	}
	r.number++
	count, err := binary.ReadVarint(r.r)
	if err != nil {
		return noEOF(err)
	}
	if count <= 0 {
		return fmt.Errorf("a count of %d records", count)
	}
	budget := int64(maxBlock)
	if r.packed, err = r.bytes(r.packed, &budget); err != nil {
		return noEOF(err)
	}
	var sync [16]byte
	if _, err := io.ReadFull(r.r, sync[:]); err != nil {
		return noEOF(err)
	}
	if sync != r.sync {
		return errors.New("its sync marker is wrong: the file is damaged")
	}
	// The decoder copies, so the former block's memory is free.
	if r.block, err = r.codec.expand(r.unpacked, r.packed); err != nil {
		return noEOF(err)
	}
	if r.codec != None {
		r.unpacked = r.block[:0]
	}
	r.left = count
	return nil
}
