// Package gcs is the archive's Bucket on Cloud Storage: immutable objects, created under the precondition that there is
// none of the name. It needs storage.objects.create, .get and .list, and neither deletes nor overwrites.
package gcs

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"net/http"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"

	"github.com/spanledger/spanledger/archive"
)

// Bucket implements archive.Bucket below a prefix of a Cloud Storage bucket.
type Bucket struct {
	handle *storage.BucketHandle
	prefix string
	chunk  int
}

// New makes the Bucket of a prefix, which is "" or ends with a slash. The client stays the caller's.
func New(client *storage.Client, bucket, prefix string) *Bucket {
	return &Bucket{client.Bucket(bucket), prefix, defaultChunk}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// defaultChunk is the most a single request uploads; a larger object is sent in pieces, each of them retried by itself.
// The client's memory for an upload is one chunk, so it is no larger than the object.
const defaultChunk = 8 << 20

// attempts is how often one request of an upload is sent. The client alone would repeat it until the context ends, unseen by
// whoever waits.
const attempts = 4

// Create implements archive.Bucket. The client sends a failed upload again by itself, which the precondition makes safe;
// if an answer was lost, its second attempt gets the answer ErrExists.
func (b *Bucket) Create(ctx context.Context, o archive.Object, data []byte) (archive.Object, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // an upload left half-way makes no object
	failures, bound := 0, attempts+len(data)/b.chunk
	patience := storage.WithErrorFunc(func(err error) bool {
		if !storage.ShouldRetry(err) {
			return false
		}
		failures++
		return failures < bound
	})
	// I6, I7: the condition is what makes a place of a chain writable once.
	w := b.handle.Object(b.prefix + o.Name).Retryer(patience).If(storage.Conditions{DoesNotExist: true}).NewWriter(ctx)
	w.ContentType, w.Metadata = o.ContentType, o.Metadata
	w.ChunkSize = min(b.chunk, max(len(data), 1)) // rounded up to 256 KiB by the client
	w.CRC32C, w.SendCRC32C = crc32.Checksum(data, castagnoli), true
	_, err := w.Write(data)
	if closeErr := w.Close(); err == nil || closeErr != nil {
		err = closeErr // Write's error only says that the upload ended; Close's says why
	}
	if err != nil {
		return archive.Object{}, b.refused(ctx, o.Name, err)
	}
	attrs := w.Attrs()
	if attrs.Size != int64(len(data)) || attrs.CRC32C != w.CRC32C {
		return archive.Object{}, fmt.Errorf("%s was stored as %d bytes with CRC32C %08x, but %d bytes with %08x were sent", o.Name, attrs.Size, attrs.CRC32C, len(data), w.CRC32C)
	}
	return b.object(attrs), nil
}

// refused tells what an upload's error means. Beside the condition's own 412, an object of the name can show as 403, where
// permission to replace it or its retention is looked at first, and as 404 or 410, where the session of an upload that
// came to its end unseen is gone. Only the object itself tells those from a missing right or bucket.
func (b *Bucket) refused(ctx context.Context, name string, err error) error {
	e, ok := errors.AsType[*googleapi.Error](err)
	if !ok {
		return err
	}
	switch e.Code {
	case http.StatusPreconditionFailed:
	case http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		if _, statErr := b.Stat(ctx, name); statErr != nil {
			return b.lost(ctx, e, err)
		}
	default:
		return err
	}
	return fmt.Errorf("%s: %w", name, archive.ErrExists)
}

// lost tells a missing bucket from a lost session: only the second can be tried again.
func (b *Bucket) lost(ctx context.Context, e *googleapi.Error, err error) error {
	if e.Code == http.StatusForbidden {
		return err
	}
	if _, listErr := b.handle.Objects(ctx, &storage.Query{Prefix: b.prefix}).Next(); listErr != nil && !errors.Is(listErr, iterator.Done) {
		return listErr
	}
	return fmt.Errorf("the upload's session was lost before its end: %s", e.Error()) // not wrapped: the 404 is the session's
}

func (b *Bucket) object(a *storage.ObjectAttrs) archive.Object {
	return archive.Object{Name: a.Name[len(b.prefix):], Generation: a.Generation, Size: a.Size, ContentType: a.ContentType, Metadata: a.Metadata}
}

// Stat implements archive.Bucket.
func (b *Bucket) Stat(ctx context.Context, name string) (archive.Object, error) {
	attrs, err := b.handle.Object(b.prefix + name).Attrs(ctx)
	if err != nil {
		return archive.Object{}, notFound(err)
	}
	return b.object(attrs), nil
}

// Open implements archive.Bucket.
func (b *Bucket) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := b.handle.Object(b.prefix + name).NewReader(ctx)
	if err != nil {
		return nil, notFound(err)
	}
	return r, nil
}

func notFound(err error) error {
	if errors.Is(err, storage.ErrObjectNotExist) {
		return archive.ErrNotFound
	}
	return err
}

// List implements archive.Bucket.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		q := &storage.Query{Prefix: b.prefix + prefix}
		if err := q.SetAttrSelection([]string{"Name", "Generation", "Size", "ContentType", "Metadata"}); err != nil {
			yield(archive.Object{}, err)
			return
		}
		it := b.handle.Objects(ctx, q)
		for {
			attrs, err := it.Next()
			if errors.Is(err, iterator.Done) {
				return
			}
			if err != nil {
				yield(archive.Object{}, err)
				return
			}
			if !yield(b.object(attrs), nil) {
				return
			}
		}
	}
}
