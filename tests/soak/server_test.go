package soak

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	embedded "github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/changes"
	"github.com/spanledger/spanledger/emulator/spanner/fault"
	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// serverVar makes the test program the Spanner of a run, with the load as JSON: a process of its own, whose memory is not
// counted as the reader's.
const serverVar = "SPANLEDGER_SOAK_SERVER"

const database = "projects/soak/instances/soak/databases/soak"

func TestMain(m *testing.M) {
	if text := os.Getenv(serverVar); text != "" {
		if err := serve(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

// load is what happens to the Spanner of a run.
type load struct {
	// Changes are made in commits of Rows, at most PerSecond, over Keys keys in turn: the i-th change of a key is i.
	Changes, Rows, PerSecond, Keys int
	Partitions                     int
	Churn                          time.Duration
	Mutable                        bool
	Faults                         string
}

// summary is what the server tells at the end.
type summary struct {
	Last       int64 // the last commit's timestamp, in microseconds since 1970
	Took       time.Duration
	Partitions int
	Struck     map[fault.Kind]int
}

// serve tells its address, writes the load once it reads a line, tells the summary so far, and again at each further line. It
// ends with standard input, which ends with the parent.
func serve(text string) (err error) {
	var l load
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return err
	}
	faults, err := fault.Parse(l.Faults)
	if err != nil {
		return err
	}
	srv, err := embedded.Start(context.Background(), embedded.Options{
		Partitions: l.Partitions, Faults: faults, VersionRetention: time.Second,
		Churn: changes.Churn{Interval: l.Churn, Ways: 3, MaxPartitions: l.Partitions + l.Partitions/20 + 2, Seed: 1},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.Close()) }()
	mode := "IMMUTABLE_KEY_RANGE"
	if l.Mutable {
		mode = "MUTABLE_KEY_RANGE"
	}
	db, err := srv.CreateDatabase(context.Background(), database, "CREATE TABLE T (K BYTES(4) NOT NULL, N INT64, V STRING(MAX)) PRIMARY KEY (K)",
		"CREATE CHANGE STREAM S FOR ALL OPTIONS (partition_mode = '"+mode+"')")
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(srv.Addr()); err != nil {
		return err
	}
	s := summary{Struck: map[fault.Kind]int{}}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if s.Last == 0 {
			began := time.Now()
			if s.Last, err = l.write(db.Store()); err != nil {
				return err
			}
			s.Took = time.Since(began)
		}
		all, err := db.Log().Partitions("S")
		if err != nil {
			return err
		}
		s.Partitions = len(all)
		for _, k := range fault.Kinds() {
			if n := srv.Faults().Count(k); n > 0 {
				s.Struck[k] = n
			}
		}
		if err := out.Encode(s); err != nil {
			return err
		}
	}
	return nil
}

// write makes the changes and answers the last commit's timestamp.
func (l load) write(db *store.Database) (last int64, err error) {
	schema := db.Schema()
	began := time.Now()
	for i := 0; i < l.Changes; {
		m := store.Mutation{Op: store.InsertOrUpdateRow, Table: schema.Tables[0], Columns: []int{0, 1, 2}}
		for ; i < l.Changes && len(m.Rows) < l.Rows; i++ {
			m.Rows = append(m.Rows, store.Row{
				{Valid: true, Text: string(keyBytes(i % l.Keys))},
				{Valid: true, Int: int64(i/l.Keys + 1)},
				{Valid: true, Text: strings.Repeat(string(rune('a'+i%26)), 100)},
			})
		}
		r, err := db.Begin().Commit(store.CommitRequest{Schema: schema, Mutations: []store.Mutation{m}})
		if err != nil {
			return 0, err
		}
		last = r.Timestamp
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(l.PerSecond))))
	}
	return last, nil
}

// keyBytes spreads keys evenly over the partitions, keyNumber takes that back.
func keyBytes(k int) []byte { return binary.BigEndian.AppendUint32(nil, bits.Reverse32(uint32(k))) }

func keyNumber(b []byte) int { return int(bits.Reverse32(binary.BigEndian.Uint32(b))) }

// process is a running serve.
type process struct {
	addr string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
}

func startServer(t *testing.T, l load) *process {
	t.Helper()
	text, err := json.Marshal(l)
	must(t, err)
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), serverVar+"="+string(text))
	p.cmd.Stderr = os.Stderr
	p.in, err = p.cmd.StdinPipe()
	must(t, err)
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	p.out = json.NewDecoder(out)
	must(t, p.cmd.Start())
	t.Cleanup(func() {
		if err := errors.Join(p.in.Close(), p.cmd.Wait()); err != nil {
			t.Error(err)
		}
	})
	must(t, p.out.Decode(&p.addr))
	return p
}

// ask has the server write, the first time, and answers its summary.
func (p *process) ask() (s summary, err error) {
	if _, err = io.WriteString(p.in, "\n"); err == nil {
		err = p.out.Decode(&s)
	}
	return s, err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
