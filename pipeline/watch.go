package pipeline

import (
	"encoding/binary"
	"encoding/json"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spanledger/spanledger/change"
)

// watches put the rows of snapshots between the changes of the stream. One is opened before a chunk is read, and sees every
// change on its way from the reader to the lanes until the chunk has been handed to them (I1): a row whose key has a newer
// change on its way before it is left out, and once it is decided which rows go, newer changes of those wait behind them.
type watches struct {
	open atomic.Int32 // of no use but to be quick while there are none

	mu   sync.Mutex
	list []*watch
}

// watch is one chunk's. Its fields are guarded by watches.mu.
type watch struct {
	table string
	// at is the timestamp that the chunk was read at, 0 while that is not known.
	at change.Timestamp
	// newest is the newest commit seen of each key, until rows is known.
	newest map[string]change.Timestamp
	// rows are the chunk's keys, true for those left out; nil until they are known.
	rows map[string]bool
	// gate makes newer changes of rows not left out wait. Those that do not hold the whole row do so in any case: behind one a
	// row cannot be left out, or its other columns would be lost (I2).
	gate bool
	// known is closed when rows is known, or never will be; passed when nothing need wait any more.
	known, passed chan struct{}
}

// watch opens a watch of a table. For a chunk that was handed on before a crash, at is its timestamp: as long as its rows are
// not known, every newer change of the table waits. 0 is for a chunk that will be read.
func (ws *watches) watch(table string, at change.Timestamp) *watch {
	w := &watch{table: table, at: at, gate: at != 0, newest: map[string]change.Timestamp{}, known: make(chan struct{}), passed: make(chan struct{})}
	ws.mu.Lock()
	ws.list = append(ws.list, w)
	ws.mu.Unlock()
	ws.open.Add(1)
	return w
}

// admit lets changes of the stream pass, all or none. Where one must wait for a chunk it answers that chunk's timestamp, at
// and below which changes may go on, 0 while it is not known, and what to wait for before asking again.
func (ws *watches) admit(changes []change.Change) (at change.Timestamp, wait <-chan struct{}) {
	if ws.open.Load() == 0 || len(changes) == 0 {
		return 0, nil
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	var keys matchKeys
	for _, w := range ws.list {
		for i := range changes {
			if until := w.blocks(&changes[i], &keys); until != nil && (wait == nil || w.at < at) {
				at, wait = w.at, until
			}
		}
	}
	if wait != nil {
		return at, wait
	}
	for _, w := range ws.list {
		for i := range changes {
			w.note(&changes[i], &keys)
		}
	}
	return 0, nil
}

// blocks answers what a change has to wait for, nil for nothing.
func (w *watch) blocks(c *change.Change, keys *matchKeys) <-chan struct{} {
	if c.Table.Name != w.table || !w.gate && holdsRow(c) || w.at != 0 && c.Position.Commit <= w.at {
		return nil
	}
	if w.rows == nil {
		return w.known
	}
	if out, ok := w.rows[keys.of(c)]; ok && !out {
		return w.passed
	}
	return nil
}

// holdsRow reports whether a change says everything of its row, so that nothing of an older one is missed.
func holdsRow(c *change.Change) bool {
	return c.Op == change.Insert || c.Op == change.Delete || c.Capture == change.NewRow || c.Capture == change.NewRowAndOldValues
}

// note is told of every change that goes to the lanes before the chunk.
func (w *watch) note(c *change.Change, keys *matchKeys) {
	if c.Table.Name != w.table {
		return
	}
	if w.rows == nil {
		k := keys.of(c)
		w.newest[k] = max(w.newest[k], c.Position.Commit)
		return
	}
	if c.Position.Commit > w.at {
		if k := keys.of(c); !w.rows[k] {
			if _, ok := w.rows[k]; ok {
				w.rows[k] = true // I1: the row is older than what goes before it
			}
		}
	}
}

// read tells the watch what its chunk holds.
func (ws *watches) read(w *watch, at change.Timestamp, rows []change.Change) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	var keys matchKeys
	w.at, w.rows = at, make(map[string]bool, len(rows))
	for i := range rows {
		k := keys.of(&rows[i])
		w.rows[k] = w.newest[k] > at // I1: likewise
	}
	w.newest = nil
	close(w.known)
}

// decide freezes which rows are left out, and answers that: from now on newer changes of the others wait.
func (ws *watches) decide(w *watch) (out func(*change.Change) bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w.gate = true // I1: what is stored as handed on must not be overtaken between the store and the lanes
	var keys matchKeys
	return func(c *change.Change) bool { return w.rows[keys.of(c)] }
}

// earlier reports whether another chunk of the watch's table, read earlier, is still on its way.
func (ws *watches) earlier(w *watch) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, other := range ws.list {
		if other != w && other.table == w.table && other.at != 0 && other.at < w.at {
			return true
		}
	}
	return false
}

// pass ends a watch: its rows are in the lanes, or never will be.
func (ws *watches) pass(w *watch) {
	ws.mu.Lock()
	for i, other := range ws.list {
		if other == w {
			ws.list = append(ws.list[:i:i], ws.list[i+1:]...)
			ws.open.Add(-1)
			if w.rows == nil {
				close(w.known)
			}
			close(w.passed)
			break
		}
	}
	ws.mu.Unlock()
}

// matchKeys makes texts of keys that are equal for equal keys, whoever wrote them: the stream and the result of a read may
// escape a string, or write a number or a time, in different ways.
type matchKeys struct{ buf []byte }

func (m *matchKeys) of(c *change.Change) string {
	m.buf = m.buf[:0]
	keys := c.Table.Keys()
	for i, v := range c.Key {
		var t *change.Type
		if i < len(keys) {
			t = c.Table.Columns[keys[i]].Type
		}
		start := len(m.buf)
		m.buf = appendMatch(append(m.buf, 0, 0, 0, 0), v, t)
		binary.BigEndian.PutUint32(m.buf[start:], uint32(len(m.buf)-start)) // a text may hold any byte
	}
	return string(m.buf)
}

func appendMatch(dst []byte, v change.Value, t *change.Type) []byte {
	if len(v) > 1 && v[0] == '"' {
		text := v[1 : len(v)-1]
		for _, b := range text {
			if b == '\\' {
				var s string
				if json.Unmarshal(v, &s) == nil {
					text = []byte(s)
				}
				break
			}
		}
		if t != nil && t.Code == change.CodeTimestamp {
			if at, err := time.Parse(time.RFC3339Nano, string(text)); err == nil {
				return at.UTC().AppendFormat(append(dst, '"'), time.RFC3339Nano)
			}
		}
		return append(append(dst, '"'), text...) // the quote tells "null" from null
	}
	if f, err := strconv.ParseFloat(string(v), 64); err == nil {
		if t != nil && t.Code == change.CodeFloat32 {
			f = float64(float32(f))
		}
		return strconv.AppendFloat(dst, f, 'g', -1, 64)
	}
	return append(dst, v...)
}
