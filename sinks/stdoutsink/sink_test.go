package stdoutsink

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/sinktest"
)

func TestConformance(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{
		Make: func(t *testing.T) sinktest.Destination {
			var out bytes.Buffer
			return sinktest.Destination{
				Sink: func(t *testing.T) sinks.Sink { return New("test", &out) },
				ReadBack: func(t *testing.T) (all []sinktest.Delivered) {
					lines := bufio.NewScanner(bytes.NewReader(out.Bytes()))
					for lines.Scan() {
						all = append(all, parse(t, lines.Bytes()))
					}
					return all
				},
			}
		},
		Refuse: func(c *change.Change) { c.Position.Commit = -1 },
	})
}

func parse(t *testing.T, line []byte) sinktest.Delivered {
	t.Helper()
	var doc struct {
		ID, Table, Op      string
		Key, After, Before map[string]json.RawMessage
	}
	if err := json.Unmarshal(line, &doc); err != nil {
		t.Fatalf("%v: %q", err, line)
	}
	d := sinktest.Delivered{ID: doc.ID, Table: doc.Table, Op: doc.Op, After: map[string]string{}, Before: map[string]string{}}
	// The generator's tables by name, their keys in order.
	for _, table := range sinktest.NewGenerator(0).Tables() {
		if table.Name == doc.Table {
			var key []string
			for _, column := range table.Keys() {
				key = append(key, string(doc.Key[table.Columns[column].Name]))
			}
			d.Key = "[" + strings.Join(key, ",") + "]"
		}
	}
	for name, v := range doc.After {
		d.After[name] = string(v)
	}
	for name, v := range doc.Before {
		d.Before[name] = string(v)
	}
	return d
}

// narrow takes at most some bytes of the first write, then fails, as a full disk does.
type narrow struct {
	bytes.Buffer
	room int
	err  error
}

func (n *narrow) Write(b []byte) (int, error) {
	if n.err == nil {
		return n.Buffer.Write(b)
	}
	err := n.err
	n.err = nil
	written, _ := n.Buffer.Write(b[:n.room])
	return written, err
}

func TestTornLine(t *testing.T) {
	out := &narrow{room: 10, err: syscall.ENOSPC}
	s := New("test", out)
	batch := &sinks.Batch{Changes: sinktest.NewGenerator(1).NextOf(1, 2)}
	if err := s.Write(t.Context(), batch); !errors.Is(err, syscall.ENOSPC) || sinks.IsStop(err) {
		t.Fatalf("Write: %v", err)
	}
	if err := s.Write(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 3 || json.Valid([]byte(lines[0])) || !json.Valid([]byte(lines[1])) || !json.Valid([]byte(lines[2])) {
		t.Errorf("lines %q, want a torn one and two whole ones", lines)
	}
}

func TestClosedPipe(t *testing.T) {
	s := New("test", &narrow{err: syscall.EPIPE})
	err := s.Write(t.Context(), &sinks.Batch{Changes: sinktest.NewGenerator(1).NextOf(1, 1)})
	if !sinks.IsStop(err) {
		t.Errorf("Write: %v, want Stop", err)
	}
}
