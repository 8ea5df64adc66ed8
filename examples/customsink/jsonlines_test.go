package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/sinktest"
)

// TestConformance is all a sink's author needs to know that the sink keeps the contract.
func TestConformance(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{
		Make: func(t *testing.T) sinktest.Destination {
			file := filepath.Join(t.TempDir(), "changes.jsonl")
			return sinktest.Destination{
				Sink:     func(t *testing.T) sinks.Sink { return open(t, file) },
				ReadBack: func(t *testing.T) []sinktest.Delivered { return readBack(t, file) },
			}
		},
		Missing: func(t *testing.T) sinks.Sink { return open(t, filepath.Join(t.TempDir(), "absent", "changes.jsonl")) },
	})
}

func TestOptions(t *testing.T) {
	for _, options := range []string{`{}`, `{"file":""}`, `{"file":1}`, `{"file":"f","fiel":"g"}`} {
		_, err := jsonLines.New("lines", func(into any) error {
			d := json.NewDecoder(strings.NewReader(options))
			d.DisallowUnknownFields()
			return d.Decode(into)
		})
		if err == nil {
			t.Errorf("took the options %s", options)
		}
	}
}

// TestDev builds this program, runs the whole system with it, and finds every event in the file.
func TestDev(t *testing.T) {
	dir := t.TempDir()
	program, file := filepath.Join(dir, "customsink"), filepath.Join(dir, "changes.jsonl")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	dev := exec.Command(program, "dev", "--exit-when-idle", "--json", "--sink", fmt.Sprintf("jsonlines={%q:%q}", "file", file))
	dev.Stderr = os.Stderr
	out, err := dev.Output()
	if err != nil {
		t.Fatalf("dev: %v\n%s", err, out)
	}
	var summary struct {
		Ingested  int
		Sinks     map[string]struct{ Delivered, Missing int }
		Unchecked map[string]struct{ Delivered int } `json:"unchecked_sinks"`
	}
	if err := json.Unmarshal(out, &summary); err != nil {
		t.Fatalf("dev's summary: %v\n%s", err, out)
	}
	distinct := make(map[string]bool)
	for _, d := range readBack(t, file) {
		distinct[d.ID] = true
	}
	t.Logf("%d events in, %d changes in the file, archive has %d", summary.Ingested, len(distinct), summary.Sinks["archive"].Delivered)
	if summary.Ingested == 0 || len(distinct) != summary.Ingested || summary.Unchecked["jsonlines"].Delivered < summary.Ingested {
		t.Errorf("%d events in, the file has %d changes; summary:\n%s", summary.Ingested, len(distinct), out)
	}
}

func open(t *testing.T, file string) sinks.Sink {
	t.Helper()
	s, err := jsonLines.New("lines", func(into any) error { into.(*sink).File = file; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func readBack(t *testing.T, file string) (all []sinktest.Delivered) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var c struct {
			ID, Table, Op string
			Key           map[string]json.RawMessage
			After, Before map[string]json.RawMessage
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, sinktest.Delivered{ID: c.ID, Table: c.Table, Key: key(c.Table, c.Key), Op: c.Op, After: texts(c.After), Before: texts(c.Before)})
	}
	return all
}

// key is a key of the suite's tables as an array, in the key columns' order; other tables' keys are not compared.
func key(table string, columns map[string]json.RawMessage) string {
	for _, t := range sinktest.NewGenerator(0).Tables() {
		if t.Name == table {
			var key []string
			for _, k := range t.Keys() {
				key = append(key, string(columns[t.Columns[k].Name]))
			}
			return "[" + strings.Join(key, ",") + "]"
		}
	}
	return ""
}

func texts(values map[string]json.RawMessage) map[string]string {
	m := make(map[string]string)
	for name, v := range values {
		m[name] = string(v)
	}
	return m
}
