package check

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/snappy"
	"github.com/linkedin/goavro/v2"
)

// container is an Avro object container, its records decoded by goavro.
type container struct {
	// schema is the schema's text as stored; fingerprint is computed from it here.
	schema      []byte
	fingerprint string
	metadata    map[string]string
	table       string
	contents    []*content
}

// containers reads containers. It keeps what follows from a schema alone: messages carry their schema each, and there are
// few different ones. It is not safe for concurrent use.
type containers struct{ schemas map[string]*schema }

// schema is what follows from a schema's text.
type schema struct {
	codec       *goavro.Codec
	fingerprint string
	columns     *columns
}

func (r *containers) schema(text []byte) (*schema, error) {
	if s := r.schemas[string(text)]; s != nil {
		return s, nil
	}
	s := &schema{}
	var err error
	if s.codec, err = goavro.NewCodec(string(text)); err != nil {
		return nil, fmt.Errorf("its schema: %w", err)
	}
	if s.fingerprint, err = fingerprint(text); err != nil {
		return nil, err
	}
	if s.columns, err = readColumns(text); err != nil {
		return nil, err
	}
	if r.schemas == nil {
		r.schemas = map[string]*schema{}
	}
	r.schemas[string(text)] = s
	return s, nil
}

// read decodes a container. An error in the middle comes with what was read before it.
func (r *containers) read(data []byte) (*container, error) {
	f, err := readFrame(data)
	if err != nil {
		return nil, fmt.Errorf("it is not an Avro container: %w", err)
	}
	c := &container{metadata: f.metadata, schema: []byte(f.metadata["avro.schema"])}
	codec := f.metadata["avro.codec"]
	delete(f.metadata, "avro.schema")
	delete(f.metadata, "avro.codec")
	s, err := r.schema(c.schema)
	if err != nil {
		return nil, err
	}
	c.fingerprint, c.table = s.fingerprint, s.columns.table
	for _, b := range f.blocks {
		rest, err := decompress(codec, b.data)
		if err != nil {
			return c, fmt.Errorf("after record %d: %w", len(c.contents), err)
		}
		for range b.count {
			var native any
			if native, rest, err = s.codec.NativeFromBinary(rest); err != nil {
				return c, fmt.Errorf("record %d: %w", len(c.contents), err)
			}
			m, err := s.columns.content(native)
			if err != nil {
				return c, fmt.Errorf("record %d: %w", len(c.contents), err)
			}
			c.contents = append(c.contents, m)
		}
		if len(rest) > 0 {
			return c, fmt.Errorf("after record %d: %d bytes follow the last record of a block", len(c.contents), len(rest))
		}
	}
	return c, nil
}

// maxBlock bounds what one compressed block may grow to, so that a hostile one cannot take all memory.
const maxBlock = 1 << 30

func decompress(codec string, data []byte) ([]byte, error) {
	switch codec {
	case "", "null":
		return data, nil
	case "deflate":
		out, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(data)), maxBlock+1))
		if err == nil && len(out) > maxBlock {
			err = fmt.Errorf("a block grows beyond %d bytes", maxBlock)
		}
		return out, err
	case "snappy":
		if len(data) < 4 {
			return nil, errors.New("a snappy block lacks its checksum")
		}
		body, sum := data[:len(data)-4], binary.BigEndian.Uint32(data[len(data)-4:])
		if n, err := snappy.DecodedLen(body); err != nil || n > maxBlock {
			return nil, fmt.Errorf("a snappy block of %d bytes: %w", n, errors.Join(err, errors.New("broken, or too large")))
		}
		out, err := snappy.Decode(nil, body)
		if err == nil && crc32.ChecksumIEEE(out) != sum {
			err = errors.New("a snappy block does not match its checksum")
		}
		return out, err
	}
	return nil, fmt.Errorf("its codec %q is not one that can be checked: null, deflate, snappy", short(codec))
}

// frame is a container's framing.
type frame struct {
	metadata map[string]string
	blocks   []block
}

type block struct {
	count int64
	data  []byte
}

// readFrame walks the container's framing by hand: libraries allocate what a length claims, and stop quietly at some ends
// of a file.
func readFrame(data []byte) (*frame, error) {
	rest, cut := data, errors.New("it is cut short or claims more than there is")
	long := func() (int64, error) {
		v, n := binary.Varint(rest)
		if n <= 0 {
			return 0, cut
		}
		rest = rest[n:]
		return v, nil
	}
	next := func(n int64) ([]byte, error) {
		if n < 0 || n > int64(len(rest)) {
			return nil, cut
		}
		b := rest[:n]
		rest = rest[n:]
		return b, nil
	}
	text := func() ([]byte, error) {
		n, err := long()
		if err != nil {
			return nil, err
		}
		return next(n)
	}
	if !bytes.HasPrefix(rest, []byte("Obj\x01")) {
		return nil, errors.New("it does not begin like one")
	}
	rest = rest[4:]
	f := &frame{metadata: map[string]string{}}
	for {
		entries, err := long()
		if err != nil {
			return nil, err
		}
		if entries == 0 {
			break
		}
		if entries < 0 || entries > int64(len(rest)) {
			return nil, errors.New("its header has a block of metadata with a size or too many entries")
		}
		for range entries {
			key, err := text()
			if err != nil {
				return nil, err
			}
			value, err := text()
			if err != nil {
				return nil, err
			}
			f.metadata[string(key)] = string(value)
		}
	}
	marker, err := next(16)
	if err != nil {
		return nil, err
	}
	for len(rest) > 0 {
		b := block{}
		if b.count, err = long(); err != nil {
			return nil, err
		}
		if b.data, err = text(); err != nil {
			return nil, err
		}
		if b.count <= 0 || !bytes.HasPrefix(rest, marker) {
			return nil, fmt.Errorf("the block before byte %d counts %d records or lacks its marker", len(data)-len(rest), b.count)
		}
		rest = rest[16:]
		f.blocks = append(f.blocks, b)
	}
	return f, nil
}
