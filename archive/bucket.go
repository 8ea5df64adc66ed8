package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Bucket is where an archive lies: immutable objects below one prefix, which the Bucket adds to every name. Methods are safe
// for concurrent use.
type Bucket interface {
	// Create stores an object whole if none has its name, and returns it with its generation and size. If there is one, the
	// error is ErrExists, even if it was a lost answer of this very call's own that made it.
	Create(ctx context.Context, object Object, data []byte) (Object, error)
	// Stat describes an object, or returns ErrNotFound.
	Stat(ctx context.Context, name string) (Object, error)
	// Open reads an object, or returns ErrNotFound. The caller closes it.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// List gives the objects whose names begin with prefix, in the names' byte order, metadata included. It ends at the
	// first error.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
}

// Object describes an object of a Bucket.
type Object struct {
	// Name is below the archive's prefix.
	Name        string
	Generation  int64
	Size        int64 // in bytes
	ContentType string
	Metadata    map[string]string
}

// Errors of a Bucket; test with errors.Is.
var (
	ErrExists   = errors.New("the object exists already")
	ErrNotFound = errors.New("there is no such object")
)

// Memory is a Bucket in memory, for tests. The zero Memory is empty and ready.
type Memory struct {
	mu      sync.Mutex
	objects map[string]memoryObject
	writes  int64
}

type memoryObject struct {
	Object
	data []byte
}

// NewMemory makes an empty Bucket in memory.
func NewMemory() *Memory { return new(Memory) }

// Create implements Bucket.
func (m *Memory) Create(ctx context.Context, o Object, data []byte) (Object, error) {
	if err := ctx.Err(); err != nil {
		return Object{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[o.Name]; ok {
		return Object{}, fmt.Errorf("%s: %w", o.Name, ErrExists)
	}
	if m.objects == nil {
		m.objects = map[string]memoryObject{}
	}
	m.writes++
	o.Generation, o.Size, o.Metadata = m.writes, int64(len(data)), maps.Clone(o.Metadata)
	m.objects[o.Name] = memoryObject{o, bytes.Clone(data)}
	return o, nil
}

// Stat implements Bucket.
func (m *Memory) Stat(ctx context.Context, name string) (Object, error) {
	if err := ctx.Err(); err != nil {
		return Object{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[name]
	if !ok {
		return Object{}, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	o.Metadata = maps.Clone(o.Metadata)
	return o.Object, nil
}

// Open implements Bucket.
func (m *Memory) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return io.NopCloser(bytes.NewReader(o.data)), nil
}

// List implements Bucket.
func (m *Memory) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		m.mu.Lock()
		names := slices.Sorted(maps.Keys(m.objects))
		m.mu.Unlock()
		for _, name := range names {
			if !strings.HasPrefix(name, prefix) {
				continue
			}
			if o, err := m.Stat(ctx, name); !yield(o, err) || err != nil {
				return
			}
		}
	}
}
