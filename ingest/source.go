package ingest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// Format is how a file holds its records.
type Format string

const (
	// FormatJSON is one JSON document or several, one after another; each is a
	// record, whatever its size.
	FormatJSON Format = "json"
	// FormatLines is JSON lines: a record a line; empty lines are skipped.
	FormatLines Format = "jsonl"
	// FormatCSV is RFC 4180 with a header row, whose names become the members
	// of each row's record; all values are strings.
	FormatCSV Format = "csv"
)

// ParseFormat checks a format's name; empty means by file name and content.
func ParseFormat(name string) (Format, error) {
	f := Format(name)
	if f == "" || slices.Contains([]Format{FormatJSON, FormatLines, FormatCSV}, f) {
		return f, nil
	}
	return "", fmt.Errorf("unknown format %q: want json, jsonl or csv", name)
}

// maxRecordBytes bounds a line or a CSV row: an event has at most 10 MiB of
// data, and base64 or escapes may double that.
const maxRecordBytes = 32 << 20

// input is one record of a file.
type input struct {
	number int64  // $n: document, line or row, from 1
	line   int64  // where it starts, from 1
	text   string // as in the file
	value  any    // decoded; nil with err
	err    error  // why it cannot be used
}

// records yields the inputs of a file; io.EOF ends them. Any other error means
// that the rest of the file cannot be read; what is wrong with one record is in
// its err.
type records interface{ next() (input, error) }

// openRecords chooses the format of a file and starts reading it.
func openRecords(name string, r io.Reader, format Format) (records, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	if mark, err := buffered.Peek(3); err == nil && string(mark) == "\ufeff" {
		if _, err := buffered.Discard(3); err != nil {
			return nil, err
		}
	}
	if format == "" {
		var err error
		if format, err = detect(name, buffered); err != nil {
			return nil, err
		}
	}
	switch format {
	case FormatJSON:
		return newDocuments(buffered), nil
	case FormatLines:
		return &lines{r: buffered}, nil
	case FormatCSV:
		return newRows(buffered)
	}
	return nil, fmt.Errorf("unknown format %q: want json, jsonl or csv", format)
}

func detect(name string, r *bufio.Reader) (Format, error) {
	switch ext := strings.ToLower(filepath.Ext(name)); ext {
	case ".json", ".geojson":
		return FormatJSON, nil
	case ".jsonl", ".ndjson":
		return FormatLines, nil
	case ".csv":
		return FormatCSV, nil
	case ".gz", ".zst", ".bz2", ".xz", ".zip":
		return "", fmt.Errorf("compressed files are not read; decompress it, for instance with gunzip")
	}
	head, err := r.Peek(512)
	if err != nil && err != io.EOF {
		return "", err
	}
	if head = bytes.TrimLeft(head, " \t\r\n"); len(head) > 0 && (head[0] == '{' || head[0] == '[') {
		return FormatJSON, nil // JSON lines are documents, too
	}
	return "", fmt.Errorf("neither the name nor the content tells the format; give it with --format json, jsonl or csv")
}

// decodeText decodes one JSON text, refusing what that would silently change.
func decodeText(text []byte) (any, error) {
	if _, err := canonicalJSON(text, jsonLossless); err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // float64 would lose digits
	var v any
	if err := decoder.Decode(&v); err != nil {
		return nil, fmt.Errorf("JSON: %w", err)
	}
	return v, nil
}

// lines reads JSON lines.
type lines struct {
	r      *bufio.Reader
	number int64
}

func (l *lines) next() (input, error) {
	for {
		text, tooLong, err := l.line()
		if err != nil {
			return input{}, err
		}
		l.number++
		in := input{number: l.number, line: l.number, text: string(text)}
		if tooLong {
			in.err = fmt.Errorf("the line is longer than %d bytes", maxRecordBytes)
			return in, nil
		}
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		in.value, in.err = decodeText(text)
		return in, nil
	}
}

// line returns the next line without its end, and only the start of one that is
// too long.
func (l *lines) line() (text []byte, tooLong bool, err error) {
	read := false
	for {
		part, err := l.r.ReadSlice('\n')
		read = read || len(part) > 0
		switch {
		case len(text)+len(part) <= maxRecordBytes:
			text = append(text, part...)
		case !tooLong:
			tooLong = true
			text = text[:min(len(text), 1<<10)]
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF && read, err == nil:
			return bytes.TrimRight(text, "\r\n"), tooLong, nil
		default:
			return nil, false, err
		}
	}
}

// documents reads JSON documents that follow one another.
type documents struct {
	decoder *json.Decoder
	lines   *lineIndex
	number  int64
}

func newDocuments(r io.Reader) *documents {
	index := &lineIndex{r: r, line: 1}
	return &documents{decoder: json.NewDecoder(index), lines: index}
}

func (d *documents) next() (input, error) {
	var text json.RawMessage
	before := d.decoder.InputOffset()
	err := d.decoder.Decode(&text)
	switch {
	case err == io.EOF:
		return input{}, io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		line, _ := d.lines.at(before)
		size := d.lines.read
		last, _ := d.lines.at(size)
		return input{}, fmt.Errorf("the JSON document after line %d is cut off: the file ends at byte %d, line %d, inside it", line, size, last)
	case err != nil:
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			at := max(syntax.Offset-1, 0)
			line, column := d.lines.at(at)
			return input{}, fmt.Errorf("invalid JSON at line %d column %d (byte %d): %w", line, column, at, err)
		}
		return input{}, err
	}
	d.number++
	line, _ := d.lines.at(d.decoder.InputOffset() - int64(len(text)))
	in := input{number: d.number, line: line, text: string(text)}
	in.value, in.err = decodeText(text)
	return in, nil
}

// lineIndex passes reads on and remembers where lines begin, from the offset
// last asked for.
type lineIndex struct {
	r      io.Reader
	read   int64   // bytes
	line   int64   // number of the line that start begins
	start  int64   // offset
	starts []int64 // of the lines after it
}

func (l *lineIndex) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	for i, c := range p[:n] {
		if c == '\n' {
			l.starts = append(l.starts, l.read+int64(i)+1)
		}
	}
	l.read += int64(n)
	return n, err
}

// at returns the line and column, from 1, of an offset not below earlier ones.
func (l *lineIndex) at(offset int64) (line, column int64) {
	passed := 0
	for passed < len(l.starts) && l.starts[passed] <= offset {
		l.start = l.starts[passed]
		passed++
	}
	l.line += int64(passed)
	l.starts = slices.Delete(l.starts, 0, passed)
	return l.line, offset - l.start + 1
}
