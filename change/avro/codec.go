package avro

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Codec is how a container's blocks are compressed, by Avro's name for it.
type Codec string

// The codecs. Every Avro reader knows Deflate and None; Snappy and Zstandard are worth a check of the readers in use.
const (
	Deflate   Codec = "deflate"
	Snappy    Codec = "snappy"
	Zstandard Codec = "zstandard"
	None      Codec = "null"
)

// ParseCodec reads the name of a codec as people write it: deflate, snappy, zstd or zstandard, none or null.
func ParseCodec(name string) (Codec, error) {
	switch name {
	case "deflate":
		return Deflate, nil
	case "snappy":
		return Snappy, nil
	case "zstd", "zstandard":
		return Zstandard, nil
	case "none", "null":
		return None, nil
	}
	return "", fmt.Errorf("avro: unknown codec %q: use deflate, snappy, zstd or none", name)
}

// Compressors are pooled: a new one costs more than the blocks of a small segment.
var (
	deflaters = sync.Pool{New: func() any {
		w, err := flate.NewWriter(io.Discard, flate.BestSpeed)
		if err != nil {
			panic(err) // only for a level out of range
		}
		return w
	}}
	inflaters   = sync.Pool{New: func() any { return flate.NewReader(bytes.NewReader(nil)) }}
	zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			panic(err) // only for options out of range
		}
		return e
	})
	zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxBlock))
		if err != nil {
			panic(err)
		}
		return d
	})
)

// appender is an io.Writer onto a slice.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

func (c Codec) compress(dst, block []byte) ([]byte, error) {
	switch c {
	case None:
		return append(dst, block...), nil
	case Deflate:
		w := deflaters.Get().(*flate.Writer)
		defer deflaters.Put(w)
		out := appender{dst}
		w.Reset(&out)
		if _, err := w.Write(block); err != nil {
			return dst, err
		}
		if err := w.Close(); err != nil {
			return dst, err
		}
		return out.b, nil
	case Snappy:
		if len(block) > maxBlock {
			return dst, fmt.Errorf("avro: a block of %d bytes is too large for snappy", len(block))
		}
		n := s2.MaxEncodedLen(len(block))
		mark := len(dst)
		dst = append(dst, make([]byte, n)...)
		dst = dst[:mark+len(s2.EncodeSnappy(dst[mark:], block))]
		return binary.BigEndian.AppendUint32(dst, crc32.ChecksumIEEE(block)), nil
	case Zstandard:
		return zstdEncoder().EncodeAll(block, dst), nil
	}
	return dst, fmt.Errorf("avro: unknown codec %q", string(c))
}

var errBlockSize = fmt.Errorf("a block is larger than %d bytes when unpacked", maxBlock)

// expand unpacks a block into dst's memory. A block that claims to unpack beyond maxBlock is refused.
func (c Codec) expand(dst, block []byte) ([]byte, error) {
	dst = dst[:0]
	switch c {
	case None:
		return block, nil
	case Deflate:
		r := inflaters.Get().(io.ReadCloser)
		defer inflaters.Put(r)
		if err := r.(flate.Resetter).Reset(bytes.NewReader(block), nil); err != nil {
			return dst, err
		}
		out := bytes.NewBuffer(dst)
		n, err := out.ReadFrom(io.LimitReader(r, maxBlock+1))
		if err == nil && n > maxBlock {
			err = errBlockSize
		}
		return out.Bytes(), err
	case Snappy:
		if len(block) < 4 {
			return dst, io.ErrUnexpectedEOF
		}
		sum := binary.BigEndian.Uint32(block[len(block)-4:])
		block = block[:len(block)-4]
		n, err := s2.DecodedLen(block)
		if err != nil {
			return dst, err
		}
		if n > maxBlock || n > 64*len(block)+64 {
			return dst, errBlockSize // snappy packs 64 bytes into 3 at best
		}
		if dst, err = s2.Decode(dst[:cap(dst)], block); err != nil {
			return dst, err
		}
		if crc32.ChecksumIEEE(dst) != sum {
			return dst, errors.New("a block's checksum is wrong")
		}
		return dst, nil
	case Zstandard:
		return zstdDecoder().DecodeAll(block, dst)
	}
	return dst, fmt.Errorf("unknown codec %q", string(c))
}
