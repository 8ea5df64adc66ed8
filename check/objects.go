package check

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strings"

	"cloud.google.com/go/storage"
	"google.golang.org/api/iterator"
)

// Objects is where an archive lies, read-only.
type Objects interface {
	// List gives every object once, in any order; it ends at the first error.
	List(ctx context.Context) iter.Seq2[Object, error]
	// Read reads an object whole.
	Read(ctx context.Context, name string) ([]byte, error)
}

// Object is one listed object.
type Object struct {
	// Name is below the archive's prefix.
	Name string
	// Metadata is nil where objects have none, such as in a directory.
	Metadata map[string]string
}

// Bucket is an archive below a prefix of a Cloud Storage bucket; the prefix is "" or ends with a slash.
func Bucket(client *storage.Client, bucket, prefix string) Objects {
	return gcsObjects{client.Bucket(bucket), prefix}
}

type gcsObjects struct {
	bucket *storage.BucketHandle
	prefix string
}

func (g gcsObjects) List(ctx context.Context) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		it := g.bucket.Objects(ctx, &storage.Query{Prefix: g.prefix})
		for {
			attrs, err := it.Next()
			if errors.Is(err, iterator.Done) {
				return
			}
			if err != nil {
				yield(Object{}, err)
				return
			}
			metadata := attrs.Metadata
			if metadata == nil {
				metadata = map[string]string{}
			}
			if !yield(Object{strings.TrimPrefix(attrs.Name, g.prefix), metadata}, nil) {
				return
			}
		}
	}
}

func (g gcsObjects) Read(ctx context.Context, name string) ([]byte, error) {
	r, err := g.bucket.Object(g.prefix + name).NewReader(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Directory is an archive as plain files below a directory, as a copy or the embedded storage leaves it. Files have no
// metadata, so what a segment says of itself is read from its header, and no digest of the last segment of a chain can be
// compared.
func Directory(dir string) Objects { return directory{dir} }

type directory struct{ dir string }

func (d directory) List(ctx context.Context) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		stopped := errors.New("stopped")
		err := filepath.WalkDir(d.dir, func(p string, entry fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil || entry.IsDir() {
				return err
			}
			rel, err := filepath.Rel(d.dir, p)
			if err != nil {
				return err
			}
			if !yield(Object{Name: filepath.ToSlash(rel)}, nil) {
				return stopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, stopped) {
			yield(Object{}, err)
		}
	}
}

func (d directory) Read(_ context.Context, name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(d.dir, filepath.FromSlash(path.Clean("/"+name))))
}
