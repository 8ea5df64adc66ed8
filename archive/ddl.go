package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spanledger/spanledger/change"
)

const ddlFolder = "ddl/"

// ddlText is how a schema is stored: its statements in order.
func ddlText(statements []string) string {
	var text strings.Builder
	for _, s := range statements {
		text.WriteString(strings.TrimSpace(s))
		text.WriteString(";\n\n")
	}
	return text.String()
}

// StoreDDL stores the database's schema as first seen at t: the statements in order. To store the same again is no error;
// other statements at the same instant are a *CorruptError.
func StoreDDL(ctx context.Context, b Bucket, t change.Timestamp, statements []string) error {
	text, name := ddlText(statements), DDLName(t)
	_, err := b.Create(ctx, Object{Name: name, ContentType: "text/plain; charset=utf-8"}, []byte(text))
	if !errors.Is(err, ErrExists) {
		if err != nil {
			return fmt.Errorf("archive: create %s: %w", name, err)
		}
		return nil
	}
	have, err := readSmall(ctx, b, name)
	if err != nil {
		return err
	}
	if string(have) != text {
		return corrupt(name, "it holds other statements than those of the database")
	}
	return nil
}

// StoreNewDDL is StoreDDL where the newest schema stored is another one, or none is; it reports whether that was so. It lists
// all that are stored.
func StoreNewDDL(ctx context.Context, b Bucket, t change.Timestamp, statements []string) (stored bool, err error) {
	newest := ""
	for o, err := range b.List(ctx, ddlFolder) {
		if err != nil {
			return false, fmt.Errorf("archive: list %s: %w", ddlFolder, err)
		}
		newest = o.Name // names sort by time
	}
	if newest != "" {
		have, err := readSmall(ctx, b, newest)
		if err != nil {
			return false, err
		}
		if string(have) == ddlText(statements) {
			return false, nil
		}
	}
	return true, StoreDDL(ctx, b, t, statements)
}
