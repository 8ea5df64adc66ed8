package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spanledger/spanledger/change/avro"
)

// Format is the version of the archive's format this package reads and writes.
const Format = 1

// Manifest says whose archive this is. It is the archive's first object and never changes.
type Manifest struct {
	Format int `json:"format"`
	// Database is the full name: projects/…/instances/…/databases/….
	Database string `json:"database"`
	// Stream is the change stream's name.
	Stream string `json:"stream"`
	// Identity tells databases of one name apart, such as by creation time; "" if it is not known.
	Identity string `json:"identity,omitempty"`
	// Pipeline is the pipeline that writes it; "" if it is not known. Two pipelines would each write every change, into
	// chains of their own, and neither could see the other's.
	Pipeline string `json:"pipeline,omitempty"`
}

// Claim makes sure that the archive is m's: it creates the manifest if there is none, and refuses another's with a
// *ForeignError. Format is set by Claim. Identities and pipelines are compared only where both are known.
func Claim(ctx context.Context, b Bucket, m Manifest) error {
	m.Format = Format
	have, err := ReadManifest(ctx, b)
	if errors.Is(err, ErrNotFound) {
		text, jsonErr := json.MarshalIndent(m, "", "  ")
		if jsonErr != nil {
			return fmt.Errorf("archive: %w", jsonErr)
		}
		_, err = b.Create(ctx, Object{Name: manifestName, ContentType: "application/json"}, append(text, '\n'))
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrExists) {
			return fmt.Errorf("archive: create %s: %w", manifestName, err)
		}
		have, err = ReadManifest(ctx, b) // another worker was first
	}
	if err != nil {
		return err
	}
	if have.Format != m.Format || have.Database != m.Database || have.Stream != m.Stream ||
		differ(have.Identity, m.Identity) || differ(have.Pipeline, m.Pipeline) {
		return &ForeignError{Have: have, Want: m}
	}
	return nil
}

// differ compares what is known of both.
func differ(a, b string) bool { return a != b && a != "" && b != "" }

// ReadManifest reads the archive's manifest. It returns ErrNotFound if there is no archive.
func ReadManifest(ctx context.Context, b Bucket) (Manifest, error) {
	data, err := readSmall(ctx, b, manifestName)
	if err != nil {
		return Manifest{}, err
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return Manifest{}, corrupt(manifestName, "not a manifest: %w", err)
	}
	if m.Format == 0 {
		return Manifest{}, corrupt(manifestName, "not a manifest: it has no format version")
	}
	return m, nil
}

// maxSmall bounds what is read of a manifest, schema or DDL file: Spanner's DDL is at most 10 MiB.
const maxSmall = 16 << 20

func readSmall(ctx context.Context, b Bucket, name string) ([]byte, error) {
	r, err := b.Open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("archive: read %s: %w", name, err)
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxSmall+1))
	if err != nil {
		return nil, fmt.Errorf("archive: read %s: %w", name, err)
	}
	if len(data) > maxSmall {
		return nil, corrupt(name, "larger than %d bytes", maxSmall)
	}
	return data, nil
}

// StoreSchema stores a schema's file if it is not there yet. What is there under its name must be that schema: anything
// else is a *CorruptError.
func StoreSchema(ctx context.Context, b Bucket, s *avro.Schema) error {
	var text bytes.Buffer
	if err := json.Indent(&text, s.JSON(), "", "  "); err != nil {
		return fmt.Errorf("archive: schema of table %s: %w", s.Table().Name, err)
	}
	text.WriteByte('\n')
	name := SchemaName(s)
	_, err := b.Create(ctx, Object{Name: name, ContentType: "application/json"}, text.Bytes())
	if errors.Is(err, ErrExists) {
		_, err = ReadSchema(ctx, b, s.Table().Name, s.Fingerprint())
		return err
	}
	if err != nil {
		return fmt.Errorf("archive: create %s: %w", name, err)
	}
	return nil
}

// ReadSchema reads a table's schema by its fingerprint.
func ReadSchema(ctx context.Context, b Bucket, table, fingerprint string) (*avro.Schema, error) {
	name := "schemas/" + tablePath(table) + "/" + fingerprint + ".avsc"
	data, err := readSmall(ctx, b, name)
	if err != nil {
		return nil, err
	}
	s, err := avro.ParseSchema(data)
	if err != nil {
		return nil, &CorruptError{name, err}
	}
	if s.Table().Name != table || s.Fingerprint() != fingerprint {
		return nil, corrupt(name, "it holds the schema %s of table %s", s.Fingerprint(), s.Table().Name)
	}
	return s, nil
}
