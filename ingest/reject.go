package ingest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Reject is a record, or an event made from one, that could not be stored: one
// line of the reject file.
type Reject struct {
	File   string `json:"file"`
	Line   int64  `json:"line"`             // where the record starts, from 1
	Record int64  `json:"record"`           // $n: line, row or document, from 1
	Output int64  `json:"output,omitempty"` // which of the map's results, from 1; 0 means the record itself
	Reason string `json:"reason"`
	// Input is the record's text as it is in the file, up to 64 KiB.
	Input          string `json:"input,omitempty"`
	InputTruncated bool   `json:"input_truncated,omitempty"`
	// Event is what the map made of the record, if that is what was refused.
	Event json.RawMessage `json:"event,omitempty"`
}

// maxRejectInput keeps a document of many events from being repeated whole with
// each of them.
const maxRejectInput = 64 << 10

func newReject(file string, in input, err error) Reject {
	r := Reject{File: file, Line: in.line, Record: in.number, Input: in.text}
	if len(r.Input) > maxRejectInput {
		// Cut off half a character, and let go of the whole text.
		r.Input = strings.Clone(strings.ToValidUTF8(r.Input[:maxRejectInput], "\ufffd"))
		r.InputTruncated = true
	}
	if err != nil {
		r.Reason = err.Error()
	}
	return r
}

// setEvent adds the map's result; a large record's text is left out then.
func (r *Reject) setEvent(v any) {
	text, err := encodeJSON(v)
	if err != nil {
		return // not to be written as JSON: the reason says so
	}
	r.Event = text
	if r.InputTruncated {
		r.Input, r.InputTruncated = "", true
	}
}

// rejectWriter writes a reject file, which it makes with the first reject.
type rejectWriter struct {
	path string
	file *os.File
	out  *bufio.Writer
}

func (w *rejectWriter) write(r Reject) error {
	if w.path == "" {
		return nil
	}
	if w.file == nil {
		file, err := os.Create(w.path)
		if err != nil {
			return fmt.Errorf("cannot write rejects: %w", err)
		}
		w.file, w.out = file, bufio.NewWriter(file)
	}
	line, err := json.Marshal(r)
	if err == nil {
		_, err = w.out.Write(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("cannot write rejects to %s: %w", w.path, err)
	}
	return nil
}

func (w *rejectWriter) close() error {
	if w.file == nil {
		return nil
	}
	err := errors.Join(w.out.Flush(), w.file.Close())
	w.file = nil
	if err != nil {
		return fmt.Errorf("cannot write rejects to %s: %w", w.path, err)
	}
	return nil
}
