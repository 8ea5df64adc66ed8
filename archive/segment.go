package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/avro"
)

// Segment is what is known of a stored or encoded segment.
type Segment struct {
	change.Segment
	// PreviousLast is the last position of the chain's segment before this one, the zero Position for the first.
	PreviousLast change.Position
}

// Link is what a segment says of the one before it; the zero Link stands before a chain's first segment.
type Link struct {
	Last   change.Position
	SHA256 string
}

// Link is what the segment after s says of it.
func (s *Segment) Link() Link { return Link{s.Last, s.SHA256} }

// The keys of a segment's metadata, in the object and in the file's header alike; the digest of the whole file can stand
// in the object's only.
const (
	keyFormat       = "spanledger-format"
	keyPipeline     = "spanledger-pipeline"
	keyIncarnation  = "spanledger-incarnation"
	keyToken        = "spanledger-token"
	keyTable        = "spanledger-table"
	keyFirst        = "spanledger-first"
	keyLast         = "spanledger-last"
	keyCount        = "spanledger-count"
	keyFingerprint  = "spanledger-fingerprint"
	keyPreviousLast = "spanledger-previous-last"
	keyPrevious     = "spanledger-previous-sha256"
	keySHA256       = "spanledger-sha256"
)

// ContentType is a segment's media type.
const ContentType = "application/avro"

func (s *Segment) metadata() ([]avro.Metadata, error) {
	first, err := s.First.AppendText(nil)
	if err != nil {
		return nil, err
	}
	last, err := s.Last.AppendText(nil)
	if err != nil {
		return nil, err
	}
	m := []avro.Metadata{
		{Key: keyFormat, Value: strconv.Itoa(Format)},
		{Key: keyPipeline, Value: s.Chain.Pipeline},
		{Key: keyIncarnation, Value: strconv.FormatInt(s.Chain.Incarnation, 10)},
		{Key: keyToken, Value: s.Chain.Token},
		{Key: keyTable, Value: s.Chain.Table},
		{Key: keyFirst, Value: string(first)},
		{Key: keyLast, Value: string(last)},
		{Key: keyCount, Value: strconv.FormatInt(s.Count, 10)},
		{Key: keyFingerprint, Value: s.Fingerprint},
	}
	if s.Previous != "" {
		previous, err := s.PreviousLast.AppendText(nil)
		if err != nil {
			return nil, err
		}
		m = append(m, avro.Metadata{Key: keyPreviousLast, Value: string(previous)}, avro.Metadata{Key: keyPrevious, Value: s.Previous})
	}
	return m, nil
}

// Run is how many of the changes, which are in position order, one segment may hold, at least 1, and the schema to write
// them with: a segment must not leave an hour of commit time, and one schema must write all. A commit timestamp is never
// torn, so inside one the newest version writes all and what has changed its type goes to the raw field. schemaOf is
// avro.SchemaOf or a cache of it. Changes out of order are an error.
func Run(changes []change.Change, schemaOf func(*change.Table) (*avro.Schema, error)) (n int, schema *avro.Schema, err error) {
	if schema, err = schemaOf(changes[0].Table); err != nil {
		return 0, nil, err
	}
	start := 0 // of the current commit timestamp
	for i := range changes {
		c := &changes[i]
		if i > 0 {
			before := &changes[i-1]
			if !c.Position.After(before.Position) {
				return 0, nil, fmt.Errorf("archive: change %s comes after %s in a chain's batch: it must be in position order", c.ID(), before.ID())
			}
			if c.Position.Commit != before.Position.Commit {
				if hour(c.Position.Commit) != hour(changes[0].Position.Commit) {
					return i, schema, nil
				}
				start = i
			}
			if c.Table == before.Table {
				continue
			}
		}
		if schema.Covers(c.Table) {
			continue
		}
		newer, err := schemaOf(c.Table)
		if err != nil {
			return 0, nil, err
		}
		if start > 0 && !newer.Covers(schema.Table()) {
			return start, schema, nil
		}
		schema = newer
	}
	return len(changes), schema, nil
}

// Encode makes the segment that holds the changes, a whole Run of the chain written with schema, behind the segment that
// previous tells of. It returns the file, and the object to create it as. Equal arguments give equal bytes (I9).
func Encode(chain change.Chain, previous Link, schema *avro.Schema, codec avro.Codec, changes []change.Change) (Segment, Object, []byte, error) {
	fail := func(err error) (Segment, Object, []byte, error) {
		return Segment{}, Object{}, nil, fmt.Errorf("archive: segment of table %s: %w", chain.Table, err)
	}
	if len(changes) == 0 {
		return fail(errors.New("it would hold no change"))
	}
	if schema.Table().Name != chain.Table {
		return fail(fmt.Errorf("the schema is of table %s", schema.Table().Name))
	}
	var s Segment
	s.Chain, s.First, s.Last = chain, changes[0].Position, changes[len(changes)-1].Position
	s.Count, s.Fingerprint = int64(len(changes)), schema.Fingerprint()
	s.Previous, s.PreviousLast = previous.SHA256, previous.Last
	if (previous.SHA256 == "") != previous.Last.IsZero() {
		return fail(errors.New("half a link to the segment before it"))
	}
	if !s.First.After(previous.Last) {
		return fail(fmt.Errorf("it would begin at %s, not after %s where the chain ends (I7)", s.First, previous.Last))
	}
	if hour(s.First.Commit) != hour(s.Last.Commit) {
		return fail(fmt.Errorf("it would reach from %s to %s, over an hour's border", s.First.Commit, s.Last.Commit))
	}
	var err error
	if s.Name, err = SegmentName(chain, s.First); err != nil {
		return fail(err)
	}
	header, err := s.metadata()
	if err != nil {
		return fail(err)
	}
	data, err := avro.AppendOCF(nil, schema, avro.Container{Codec: codec, Metadata: header}, changes)
	if err != nil {
		return fail(err)
	}
	sum := sha256.Sum256(data)
	s.SHA256, s.Bytes = hex.EncodeToString(sum[:]), int64(len(data))
	o := Object{Name: s.Name, Size: s.Bytes, ContentType: ContentType, Metadata: map[string]string{keySHA256: s.SHA256}}
	for _, m := range header {
		o.Metadata[m.Key] = m.Value
	}
	return s, o, data, nil
}

// parse reads a segment's metadata and checks that the name follows from it.
func parse(name string, get func(key string) string) (Segment, error) {
	var s Segment
	bad := func(format string, args ...any) (Segment, error) { return Segment{}, corrupt(name, format, args...) }
	switch v := get(keyFormat); v {
	case strconv.Itoa(Format):
	case "":
		return bad("it is not a segment: it has no %s in its metadata", keyFormat)
	default:
		return bad("its format version is %q, this release reads version %d: use a newer release", v, Format)
	}
	var err error
	s.Chain.Pipeline, s.Chain.Token, s.Chain.Table = get(keyPipeline), get(keyToken), get(keyTable)
	if s.Chain.Incarnation, err = strconv.ParseInt(get(keyIncarnation), 10, 64); err != nil {
		return bad("its %s: %w", keyIncarnation, err)
	}
	if s.Count, err = strconv.ParseInt(get(keyCount), 10, 64); err != nil || s.Count < 1 {
		return bad("its %s is %q", keyCount, get(keyCount))
	}
	if s.First, err = change.ParsePosition(get(keyFirst)); err != nil {
		return bad("its %s: %w", keyFirst, err)
	}
	if s.Last, err = change.ParsePosition(get(keyLast)); err != nil {
		return bad("its %s: %w", keyLast, err)
	}
	s.Fingerprint, s.Previous, s.SHA256 = get(keyFingerprint), get(keyPrevious), get(keySHA256)
	if s.Previous != "" {
		if s.PreviousLast, err = change.ParsePosition(get(keyPreviousLast)); err != nil {
			return bad("its %s: %w", keyPreviousLast, err)
		}
		if !isDigest(s.Previous) {
			return bad("its %s is %.80q", keyPrevious, s.Previous)
		}
	}
	if s.First.After(s.Last) || s.First == s.Last != (s.Count == 1) || !s.First.After(s.PreviousLast) || hour(s.First.Commit) != hour(s.Last.Commit) {
		return bad("its metadata contradict one another: previous %s, first %s, last %s, count %d", s.PreviousLast, s.First, s.Last, s.Count)
	}
	if s.Name, err = SegmentName(s.Chain, s.First); err != nil {
		return bad("%w", err)
	}
	if s.Name != name {
		return bad("its metadata are those of %s", s.Name)
	}
	return s, nil
}

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && strings.ToLower(s) == s
}

// SegmentOf reads a listed object as a segment. An object without the metadata of one is looked into: b is read only then.
// What is no segment is a *CorruptError.
func SegmentOf(ctx context.Context, b Bucket, o Object) (Segment, error) {
	if o.Metadata[keyFormat] == "" {
		return inspect(ctx, b, o)
	}
	s, err := parse(o.Name, func(key string) string { return o.Metadata[key] })
	if err != nil {
		return Segment{}, err
	}
	if !isDigest(s.SHA256) {
		return Segment{}, corrupt(o.Name, "its %s is %.80q", keySHA256, s.SHA256)
	}
	s.Generation, s.Bytes = o.Generation, o.Size
	return s, nil
}

// inspect reads a segment whole for what its metadata should have said.
func inspect(ctx context.Context, b Bucket, o Object) (Segment, error) {
	r, err := open(ctx, b, o.Name)
	if err != nil {
		return Segment{}, err
	}
	defer r.Close()
	var c change.Change
	for err == nil {
		err = r.Next(&c)
	}
	if !errors.Is(err, io.EOF) {
		return Segment{}, err
	}
	s := r.segment
	s.SHA256, s.Bytes, s.Generation = hex.EncodeToString(r.hash.Sum(nil)), r.size, o.Generation
	return s, nil
}

// Stat finds the segment of that name, or returns ErrNotFound.
func Stat(ctx context.Context, b Bucket, name string) (Segment, error) {
	o, err := b.Stat(ctx, name)
	if err != nil {
		return Segment{}, fmt.Errorf("archive: stat %s: %w", name, err)
	}
	return SegmentOf(ctx, b, o)
}

// SegmentReader reads a segment's changes and proves them on the way: order, bounds, count and, at the end, the digest of
// every byte.
type SegmentReader struct {
	segment Segment
	want    string // the digest, if known
	body    io.ReadCloser
	bodyErr error // what the body's reading failed with, its end aside
	hash    hash.Hash
	size    int64
	avro    *avro.Reader
	last    change.Position
	count   int64
	err     error
}

// Read opens a segment for reading. The reader's changes are to be taken as true only once Next has returned io.EOF.
func Read(ctx context.Context, b Bucket, s Segment) (*SegmentReader, error) {
	r, err := open(ctx, b, s.Name)
	if err != nil {
		return nil, err
	}
	have := r.segment
	have.SHA256, have.Bytes, have.Generation = s.SHA256, s.Bytes, s.Generation
	if have != s {
		r.Close()
		return nil, corrupt(s.Name, "its header says %s to %s, %d changes, schema %s, previous %q: not what its metadata or the seal say", have.First, have.Last, have.Count, have.Fingerprint, have.Previous)
	}
	r.want = s.SHA256
	return r, nil
}

func open(ctx context.Context, b Bucket, name string) (*SegmentReader, error) {
	body, err := b.Open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("archive: read %s: %w", name, err)
	}
	r := &SegmentReader{body: body, hash: sha256.New()}
	r.segment.Name = name
	if r.avro, err = avro.NewReader(meter{r}); err == nil {
		r.segment, err = parse(name, func(key string) string {
			for _, m := range r.avro.Metadata() {
				if m.Key == key {
					return m.Value
				}
			}
			return ""
		})
	} else {
		err = r.fault(err)
	}
	if err == nil && (r.segment.Chain.Table != r.avro.Schema().Table().Name || r.segment.Fingerprint != r.avro.Schema().Fingerprint()) {
		err = corrupt(name, "its schema is %s of table %s", r.avro.Schema().Fingerprint(), r.avro.Schema().Table().Name)
	}
	if err != nil {
		body.Close()
		return nil, err
	}
	return r, nil
}

// meter hashes and counts what is read of the file.
type meter struct{ r *SegmentReader }

func (m meter) Read(p []byte) (int, error) {
	n, err := m.r.body.Read(p)
	m.r.size += int64(n)
	m.r.hash.Write(p[:n])
	if err != nil && !errors.Is(err, io.EOF) {
		m.r.bodyErr = err
	}
	return n, err
}

// fault tells a file that is wrong from one that could not be read.
func (r *SegmentReader) fault(err error) error {
	if r.bodyErr != nil {
		return fmt.Errorf("archive: read %s: %w", r.segment.Name, r.bodyErr)
	}
	return &CorruptError{r.segment.Name, err}
}

// Segment is the segment as its header tells.
func (r *SegmentReader) Segment() Segment { return r.segment }

// Schema is the schema it was written with.
func (r *SegmentReader) Schema() *avro.Schema { return r.avro.Schema() }

// Next reads the next change, Partition included; its memory is its own. It returns io.EOF once every change was read and
// the digest is right, a *CorruptError if anything is not as stated, and after an error the same again.
func (r *SegmentReader) Next(c *change.Change) error {
	if r.err == nil {
		r.err = r.next(c)
	}
	return r.err
}

func (r *SegmentReader) next(c *change.Change) error {
	name := r.segment.Name
	err := r.avro.Next(c)
	if errors.Is(err, io.EOF) {
		sum := hex.EncodeToString(r.hash.Sum(nil))
		switch {
		case r.count != r.segment.Count || r.last != r.segment.Last:
			return corrupt(name, "it ends after %d changes at %s, its header says %d and %s", r.count, r.last, r.segment.Count, r.segment.Last)
		case r.want != "" && r.want != sum:
			return corrupt(name, "its SHA-256 is %s, it should be %s", sum, r.want)
		}
		return io.EOF
	}
	if err != nil {
		return r.fault(err)
	}
	if r.count == 0 && c.Position != r.segment.First {
		return corrupt(name, "it begins at %s, its header says %s", c.Position, r.segment.First)
	}
	if r.count > 0 && !c.Position.After(r.last) {
		return corrupt(name, "%s follows %s", c.Position, r.last)
	}
	r.last = c.Position
	r.count++
	c.Partition = r.segment.Chain.Token
	return nil
}

// Close releases the object.
func (r *SegmentReader) Close() error { return r.body.Close() }
