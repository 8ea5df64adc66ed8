package ingest

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// rows reads CSV: the first row names the columns.
type rows struct {
	csv    *csv.Reader
	kept   *keeper
	header []string
	number int64
}

func newRows(r io.Reader) (*rows, error) {
	kept := &keeper{r: r}
	reader := csv.NewReader(kept)
	reader.FieldsPerRecord = -1 // counted here: a wrong row is rejected, not fatal
	header, err := reader.Read()
	if err == io.EOF {
		return nil, errors.New("the file is empty; CSV needs a header row")
	}
	if err != nil {
		return nil, fmt.Errorf("header row: %w", err)
	}
	seen := make(map[string]bool, len(header))
	for i, name := range header {
		switch {
		case name == "":
			return nil, fmt.Errorf("header row: column %d has no name", i+1)
		case !utf8.ValidString(name):
			return nil, fmt.Errorf("header row: the name of column %d, %.60q, is not valid UTF-8", i+1, name)
		case seen[name]:
			return nil, fmt.Errorf("header row: two columns are named %q", name)
		}
		seen[name] = true
	}
	kept.take(reader.InputOffset())
	return &rows{csv: reader, kept: kept, header: header}, nil
}

func (r *rows) next() (input, error) {
	fields, err := r.csv.Read()
	var parse *csv.ParseError
	if err != nil && !errors.As(err, &parse) {
		return input{}, err
	}
	r.number++
	in := input{number: r.number, text: r.kept.take(r.csv.InputOffset())}
	if parse != nil {
		in.line = int64(parse.StartLine)
		in.err = fmt.Errorf("CSV: %w", err)
		return in, nil
	}
	line, _ := r.csv.FieldPos(0)
	in.line = int64(line)
	if len(fields) != len(r.header) {
		in.err = fmt.Errorf("CSV: the row has %d fields, the header has %d", len(fields), len(r.header))
		return in, nil
	}
	object := make(map[string]any, len(fields))
	for i, value := range fields {
		if !utf8.ValidString(value) {
			in.err = fmt.Errorf("CSV: column %q is not valid UTF-8: %.60q", r.header[i], value)
			return in, nil
		}
		object[r.header[i]] = value
	}
	in.value = object
	return in, nil
}

// keeper remembers what it passed on, so that a rejected row can be shown as it
// is in the file.
type keeper struct {
	r     io.Reader
	kept  []byte
	start int64 // offset of kept[0]
}

func (k *keeper) Read(p []byte) (int, error) {
	if len(k.kept) > maxRecordBytes {
		// Most likely a quote that is never closed.
		return 0, fmt.Errorf("the row that starts at byte %d is longer than %d bytes; is a quote not closed?", k.start, maxRecordBytes)
	}
	n, err := k.r.Read(p)
	k.kept = append(k.kept, p[:n]...)
	return n, err
}

// take returns the text up to an offset and forgets it.
func (k *keeper) take(to int64) string {
	n := to - k.start
	text := k.kept[:n]
	s := strings.Trim(string(text), "\r\n") // also of empty lines before it
	k.kept = append(k.kept[:0], k.kept[n:]...)
	k.start = to
	return s
}
