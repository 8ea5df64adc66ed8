package changestream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/civil"
	"cloud.google.com/go/spanner"
	database "cloud.google.com/go/spanner/admin/database/apiv1"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	"github.com/google/uuid"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/emulator/official"
	embedded "github.com/spanledger/spanledger/emulator/spanner"
)

// conformanceCase is one case of conformance.md that this reader shows on a live server.
type conformanceCase struct {
	number int
	ddl    []string
	run    func(*bed)
	// notOfficial is why Google's emulator cannot show it; "" if it can.
	notOfficial string
}

// bed is a database of its own for one case.
type bed struct {
	*testing.T
	name    string
	options []option.ClientOption
	client  *spanner.Client
	server  *embedded.Server // nil on Google's emulator
	// from is Spanner's time when the database had been made, last the last commit's.
	from, last change.Timestamp
}

// TestConformance runs the cases that concern a reader against the embedded Spanner, and what Google's emulator can do against
// that: the same code, the same answers.
func TestConformance(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		srv, err := embedded.Start(t.Context(), embedded.Options{})
		must(t, err)
		t.Cleanup(func() { must(t, srv.Close()) })
		options := []option.ClientOption{
			option.WithEndpoint("passthrough:///" + srv.Addr()), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		}
		runConformance(t, srv, options, func(name string, ddl []string) error {
			_, err := srv.CreateDatabase(t.Context(), name, ddl...)
			return err
		})
	})
	t.Run("official", func(t *testing.T) {
		emulator := official.SpannerForTest(t, official.SpannerOptions{})
		runConformance(t, nil, emulator.ClientOptions(), func(name string, ddl []string) error {
			return emulator.CreateDatabase(t.Context(), name, ddl...)
		})
	})
}

func runConformance(t *testing.T, srv *embedded.Server, options []option.ClientOption, create func(string, []string) error) {
	for _, c := range conformanceCases {
		t.Run(fmt.Sprint("case ", c.number), func(t *testing.T) {
			if srv == nil && c.notOfficial != "" {
				t.Skip(c.notOfficial)
			}
			t.Parallel() // what takes time is to wait for heartbeats
			b := &bed{T: t, name: fmt.Sprint("projects/reader/instances/reader/databases/case-", c.number), options: options, server: srv}
			must(t, create(b.name, c.ddl))
			var err error
			b.client, err = spanner.NewClientWithConfig(t.Context(), b.name, spanner.ClientConfig{DisableNativeMetrics: true}, options...)
			must(t, err)
			defer b.client.Close()
			b.from, err = b.open("s", Options{}).Now(t.Context())
			must(t, err)
			c.run(b)
		})
	}
}

func (b *bed) open(stream string, o Options) *Reader {
	b.Helper()
	o.Database, o.Stream, o.ClientOptions, o.Heartbeat = b.name, stream, b.options, minHeartbeat
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r, err := New(b.Context(), o)
	must(b.T, err)
	b.Cleanup(func() { must(b.T, r.Close()) })
	return r
}

func (b *bed) ddl(statements ...string) {
	b.Helper()
	admin, err := database.NewDatabaseAdminClient(b.Context(), b.options...)
	must(b.T, err)
	defer admin.Close()
	op, err := admin.UpdateDatabaseDdl(b.Context(), &databasepb.UpdateDatabaseDdlRequest{Database: b.name, Statements: statements})
	must(b.T, err)
	must(b.T, op.Wait(b.Context()))
}

// apply commits, and answers the commit timestamp.
func (b *bed) apply(ms ...*spanner.Mutation) change.Timestamp {
	b.Helper()
	return b.applyWith(nil, ms...)
}

func (b *bed) applyWith(options []spanner.ApplyOption, ms ...*spanner.Mutation) change.Timestamp {
	b.Helper()
	at, err := b.client.Apply(b.Context(), ms, options...)
	must(b.T, err)
	b.last = change.TimestampOf(at)
	return b.last
}

// changes are the stream's with commit timestamps from through to.
func (b *bed) changes(stream string, from, to change.Timestamp) []change.Change {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	var out []change.Change
	through, err := b.open(stream, Options{}).Follow(ctx, from, to, func(f *change.Frame) error {
		out = append(out, f.Changes...)
		return nil
	})
	must(b.T, err)
	if through != to {
		b.Errorf("read through %v, want %v", through, to)
	}
	return out
}

// want compares all changes of stream s since from, as text, with the lines.
func (b *bed) want(from change.Timestamp, lines ...string) {
	b.Helper()
	b.wantOf("s", from, lines...)
}

func (b *bed) wantOf(stream string, from change.Timestamp, lines ...string) {
	b.Helper()
	var got []string
	for _, c := range b.changes(stream, from, b.last) {
		got = append(got, describeChange(&c))
	}
	if !slices.Equal(got, lines) {
		b.Errorf("%s:\ngot  %s\nwant %s", stream, strings.Join(got, "\n     "), strings.Join(lines, "\n     "))
	}
}

// describeChange is an operation, table and key, what was captured after the change, and, behind a stroke, before it.
func describeChange(c *change.Change) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", c.Op, c.Table.Name)
	for i, k := range c.Table.Keys() {
		fmt.Fprintf(&b, " %s=%s", c.Table.Columns[k].Name, c.Key[i])
	}
	for _, row := range []change.Row{c.After, c.Before} {
		b.WriteString(" |")
		for i, v := range row {
			if v != nil {
				fmt.Fprintf(&b, " %s=%s", c.Table.Columns[i].Name, v)
			}
		}
	}
	return b.String()
}

// only is the stream's one partition.
func (b *bed) only() (*Reader, change.Partition) {
	b.Helper()
	r := b.open("s", Options{})
	first, err := r.Partitions(b.Context(), b.from)
	must(b.T, err)
	if len(first) != 1 {
		b.Fatalf("%d partitions", len(first))
	}
	return r, first[0]
}

// readWhole reads a partition to its end, and answers its changes and last frame.
func (b *bed) readWhole(r *Reader, p change.Partition) (changes []change.Change, last *change.Frame) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	must(b.T, r.Read(ctx, p, 0, func(f *change.Frame) error {
		changes, last = append(changes, f.Changes...), f
		return nil
	}))
	if !last.Ended {
		b.Errorf("the last frame is %+v", last)
	}
	return changes, last
}

// captured is a table and a stream for each capture type, of which s is the first.
func captured() (ddl []string) {
	for i, capture := range captureTypes {
		name := []string{"s", "s1", "s2", "s3"}[i]
		ddl = append(ddl, fmt.Sprintf("CREATE TABLE T%d (k INT64 NOT NULL, a STRING(MAX), b INT64) PRIMARY KEY (k)", i),
			fmt.Sprintf("CREATE CHANGE STREAM %s FOR T%d OPTIONS (value_capture_type = '%s')", name, i, capture))
	}
	return ddl
}

// underEachCapture changes a row (1, "x", 5) and wants these lines, in the order of captureTypes.
func (b *bed) underEachCapture(m func(table string) *spanner.Mutation, lines ...string) {
	for i, capture := range captureTypes {
		table := fmt.Sprint("T", i)
		from := b.apply(spanner.Insert(table, []string{"k", "a", "b"}, []any{1, "x", 5})) + 1
		b.apply(m(table))
		got := b.changes([]string{"s", "s1", "s2", "s3"}[i], from, b.last)
		if want := fmt.Sprintf(lines[i], table); len(got) != 1 || got[0].Capture.String() != capture || describeChange(&got[0]) != want {
			b.Errorf("%s: got %d changes, %+v, want %s", capture, len(got), got, want)
		}
	}
}

// everyType writes and reads a column of each type. Google's emulator cuts fractions of TIMESTAMP, and does not encode NaN and
// UUID, nor FLOAT32 as it is; a NULL in an array is the string NULL there.
func (b *bed) everyType() {
	columns := []struct {
		name, typ, want string
		value           any
		notOfficial     bool
	}{
		{"b", "BOOL", `true`, true, false},
		{"i", "INT64", `"-9223372036854775808"`, int64(math.MinInt64), false},
		{"f", "FLOAT64", `1.5`, 1.5, false},
		{"nan", "FLOAT64", `"NaN"`, math.NaN(), true},
		{"g", "FLOAT32", `3.14`, float32(3.14), true},
		{"n", "NUMERIC", `"-12.345"`, *big.NewRat(-12345, 1000), false},
		{"s", "STRING(MAX)", `"é\n\""`, "é\n\"", false},
		{"y", "BYTES(MAX)", `"AP8="`, []byte{0, 255}, false},
		{"d", "DATE", `"2026-02-03"`, civil.Date{Year: 2026, Month: 2, Day: 3}, false},
		{"w", "TIMESTAMP", `"2026-02-03T04:05:06Z"`, time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), false},
		{"t", "TIMESTAMP", `"2026-02-03T04:05:06.000007Z"`, time.Date(2026, 2, 3, 4, 5, 6, 7_000, time.UTC), true},
		{"j", "JSON", `"{\"x\":\"y\"}"`, spanner.NullJSON{Value: map[string]any{"x": "y"}, Valid: true}, false},
		{"u", "UUID", `"f47ac10b-58cc-4372-a567-0e02b2c3d479"`, uuid.MustParse("F47AC10B-58CC-4372-A567-0E02B2C3D479"), true},
		{"a", "ARRAY<INT64>", `["9223372036854775807","0"]`, []int64{math.MaxInt64, 0}, false},
		{"o", "ARRAY<INT64>", `["1",null]`, []spanner.NullInt64{{Int64: 1, Valid: true}, {}}, true},
		{"e", "ARRAY<STRING(MAX)>", `[]`, []string{}, false},
		{"z", "STRING(MAX)", `null`, spanner.NullString{}, false},
	}
	names, values, want := []string{"k"}, []any{1}, []string{}
	var ddl []string
	for _, c := range columns {
		if c.notOfficial && b.server == nil {
			continue
		}
		ddl = append(ddl, "ALTER TABLE T ADD COLUMN "+c.name+" "+c.typ)
		names, values, want = append(names, c.name), append(values, c.value), append(want, c.name+"="+c.want)
	}
	b.ddl(ddl...)
	b.apply(spanner.Insert("T", names, values))
	b.want(b.from, `INSERT T k="1" | `+strings.Join(want, " ")+" |")
}

// conformanceRow is a line of conformance.md.
var conformanceRow = regexp.MustCompile(`(?m)^\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$`)

// readerCases are the cases of the reference that a reader must satisfy.
var readerCases = []int{5, 6, 8, 19, 20, 21, 22, 23, 24, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 58, 59, 60}

// TestEveryConformanceCaseHasItsTests holds conformance.md to the code: every case once, every test there, and what is said
// of the servers is what TestConformance does.
func TestEveryConformanceCaseHasItsTests(t *testing.T) {
	text, err := os.ReadFile("conformance.md")
	must(t, err)
	live := map[int]conformanceCase{}
	for _, c := range conformanceCases {
		live[c.number] = c
	}
	var numbers []int
	for _, row := range conformanceRow.FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.Atoi(row[1])
		must(t, err)
		numbers = append(numbers, n)
		tests := strings.Split(row[3], ", ")
		for _, name := range tests {
			pkg, test, ok := strings.Cut(name, ".")
			if !ok || !hasTest(t, pkg, test) {
				t.Errorf("case %d: there is no test %s", n, name)
			}
		}
		c, isLive := live[n]
		if isLive != slices.Contains(tests, "changestream.TestConformance") {
			t.Errorf("case %d: TestConformance has it: %v, and its row says something else", n, isLive)
		}
		if isLive && (row[4] != "yes" || (c.notOfficial == "") != (row[5] == "yes") || c.notOfficial != "" && row[5] != "no: "+c.notOfficial) {
			t.Errorf("case %d: its row says %q and %q of the servers; TestConformance has %q", n, row[4], row[5], c.notOfficial)
		}
	}
	if !slices.Equal(numbers, readerCases) {
		t.Errorf("conformance.md has the cases %v, want %v", numbers, readerCases)
	}
}

// hasTest reports whether a package, below the module's root, has a test function.
func hasTest(t *testing.T, pkg, test string) bool {
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(pkg), "*_test.go"))
	must(t, err)
	return slices.ContainsFunc(files, func(name string) bool {
		b, err := os.ReadFile(name)
		return err == nil && strings.Contains(string(b), "\nfunc "+test+"(")
	})
}

var errEnough = errors.New("enough")
