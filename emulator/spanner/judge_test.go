package spanner_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cloudspanner "cloud.google.com/go/spanner"
	database "cloud.google.com/go/spanner/admin/database/apiv1"
	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/emulator/official"
	"github.com/spanledger/spanledger/emulator/spanner"
)

var writeJudged = flag.Bool("judge.write", false, "write the results of Google's emulator into testdata/*.judged where they are missing")

// judged is one statement and its result. The files testdata/*.judged hold blocks of
//
//	the statement
//	-> the result: column types and rows, or the error's code
//	official: what Google's emulator answers, where that differs
//	why: the reason of the difference
//
// The statements of a file run in order in a database of its own. A line "// …" is a comment. Statements that begin with
// CREATE, ALTER or DROP are schema changes, those about the proto bundle with the descriptors of testdata/shop.textpb; others
// run in a read-write transaction if they write. PARTITION before a query reads it in partitions, PDML before a statement runs
// it as partitioned DML.
type judged struct {
	sql, want, official, why string
	line                     int
}

func readJudged(t *testing.T, path string) (out []judged) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var j judged
	for n, line := range strings.Split(string(data), "\n") {
		switch {
		case strings.HasPrefix(line, "//"):
		case line == "":
			if j.sql != "" {
				out = append(out, j)
			}
			j = judged{}
		case strings.HasPrefix(line, "-> "):
			j.want = line[3:]
		case strings.HasPrefix(line, "official: "):
			j.official = line[len("official: "):]
		case strings.HasPrefix(line, "why: "):
			j.why = line[len("why: "):]
		default:
			if j.sql == "" {
				j.line = n + 1
			} else {
				j.sql += "\n"
			}
			j.sql += line
		}
	}
	return out
}

// writeBack fills the results that are missing from the file.
func writeBack(t *testing.T, path string, got map[int]string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	pending := ""
	for n, line := range strings.Split(string(data), "\n") {
		if line == "" && pending != "" {
			out = append(out, "-> "+pending)
			pending = ""
		}
		if strings.HasPrefix(line, "-> ") {
			pending = ""
		}
		if r, ok := got[n+1]; ok {
			pending = r
		}
		out = append(out, line)
	}
	if err := os.WriteFile(path, []byte(strings.Join(out, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
}

// bench is one of the two servers, as a test of statements sees it.
type bench struct {
	ctx    context.Context
	name   string
	admin  *database.DatabaseAdminClient
	client *cloudspanner.Client
	// descriptors go with statements about the proto bundle.
	descriptors []byte
}

func (b *bench) run(sql string) string {
	word := strings.ToUpper(strings.Fields(sql)[0])
	var out string
	var err error
	switch word {
	case "CREATE", "ALTER", "DROP", "ANALYZE", "GRANT", "REVOKE", "RENAME":
		var op *database.UpdateDatabaseDdlOperation
		req := &databasepb.UpdateDatabaseDdlRequest{Database: b.name, Statements: []string{sql}}
		if strings.Contains(sql, "PROTO BUNDLE") {
			req.ProtoDescriptors = b.descriptors
		}
		op, err = b.admin.UpdateDatabaseDdl(b.ctx, req)
		if err == nil {
			err = op.Wait(b.ctx)
		}
		out = "OK"
	case "INSERT", "UPDATE", "DELETE":
		_, err = b.client.ReadWriteTransaction(b.ctx, func(ctx context.Context, tx *cloudspanner.ReadWriteTransaction) error {
			it := tx.Query(ctx, cloudspanner.NewStatement(sql))
			var err error
			if out, err = shown(it); err == nil {
				out = fmt.Sprintf("%d: %s", it.RowCount, out)
			}
			return err
		})
	case "PARTITION": // and a query, which is partitioned, and its partitions read
		var n int
		n, err = b.partitioned(sql[len(word):])
		out = fmt.Sprintf("%d rows", n)
	case "PDML": // and a statement, which runs as partitioned DML
		var n int64
		n, err = b.client.PartitionedUpdate(b.ctx, cloudspanner.NewStatement(sql[len(word):]))
		out = fmt.Sprintf("%d rows", n)
	case "DDL":
		var r *databasepb.GetDatabaseDdlResponse
		if r, err = b.admin.GetDatabaseDdl(b.ctx, &databasepb.GetDatabaseDdlRequest{Database: b.name}); err == nil {
			out = strings.ReplaceAll(strings.Join(r.GetStatements(), "; "), "\n", " ")
		}
	default:
		out, err = shown(b.client.Single().Query(b.ctx, cloudspanner.NewStatement(sql)))
	}
	if err != nil {
		var sub interface{ GRPCStatus() *status.Status }
		if errors.As(err, &sub) {
			return "ERROR " + sub.GRPCStatus().Code().String()
		}
		return "ERROR " + status.Code(err).String()
	}
	return out
}

// partitioned counts the rows of a query's partitions.
func (b *bench) partitioned(sql string) (rows int, err error) {
	tx, err := b.client.BatchReadOnlyTransaction(b.ctx, cloudspanner.StrongRead())
	if err != nil {
		return 0, err
	}
	defer tx.Close()
	parts, err := tx.PartitionQuery(b.ctx, cloudspanner.NewStatement(sql), cloudspanner.PartitionOptions{})
	if err != nil {
		return 0, err
	}
	for _, p := range parts {
		if err := tx.Execute(b.ctx, p).Do(func(*cloudspanner.Row) error { rows++; return nil }); err != nil {
			return 0, err
		}
	}
	return rows, nil
}

// shown writes a result in one line: the columns with their types, and the rows.
func shown(it *cloudspanner.RowIterator) (string, error) {
	rows, err := texts(it)
	if err != nil {
		return "", err
	}
	var cols []string
	for _, f := range it.Metadata.GetRowType().GetFields() {
		cols = append(cols, strings.TrimSpace(f.GetName()+" "+typeText(f.GetType())))
	}
	return strings.ReplaceAll(fmt.Sprintf("(%s) %v", strings.Join(cols, ", "), rows), "\n", `\n`), nil
}

func typeText(t *sppb.Type) string {
	switch t.GetCode() {
	case sppb.TypeCode_ARRAY:
		return "ARRAY<" + typeText(t.GetArrayElementType()) + ">"
	case sppb.TypeCode_STRUCT:
		var fs []string
		for _, f := range t.GetStructType().GetFields() {
			fs = append(fs, strings.TrimSpace(f.GetName()+" "+typeText(f.GetType())))
		}
		return "STRUCT<" + strings.Join(fs, ", ") + ">"
	}
	return t.GetCode().String()
}

// Every statement of the files answers here what the file says, and where Google's emulator is installed it answers the
// same there, but for the differences that the file lists with their reasons.
func TestJudged(t *testing.T) {
	files, err := filepath.Glob("testdata/*.judged")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".judged"), func(t *testing.T) {
			w := start(t, spanner.Options{})
			ours := &bench{ctx: w.ctx, name: dbName, admin: w.admin, client: w.client, descriptors: shopDescriptors(t)}
			for _, j := range readJudged(t, path) {
				if got := ours.run(j.sql); got != j.want {
					t.Errorf("%s:%d: %s\n got %s\nwant %s", path, j.line, j.sql, got, j.want)
				}
				if j.official != "" && j.why == "" {
					t.Errorf("%s:%d: a difference without a reason", path, j.line)
				}
			}
		})
	}
	t.Run("official", func(t *testing.T) {
		p := official.SpannerForTest(t, official.SpannerOptions{})
		for i, path := range files {
			b := officialBench(t, p, fmt.Sprintf("%s/instances/%s/databases/judged%d", project, instanceID, i))
			got := map[int]string{}
			for _, j := range readJudged(t, path) {
				want := j.want
				if j.official != "" {
					want = j.official
				}
				r := b.run(j.sql)
				if want == "" && *writeJudged {
					got[j.line] = r
				} else if r != want {
					t.Errorf("%s:%d: %s\n Google's %s\n    want %s", path, j.line, j.sql, r, want)
				}
			}
			if len(got) > 0 {
				writeBack(t, path, got)
			}
		}
	})
}

func officialBench(t *testing.T, p *official.Process, name string) *bench {
	t.Helper()
	if err := p.CreateDatabase(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	admin, err := database.NewDatabaseAdminClient(t.Context(), p.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin.Close() })
	client, err := cloudspanner.NewClientWithConfig(t.Context(), name, cloudspanner.ClientConfig{DisableNativeMetrics: true}, append(p.ClientOptions(), option.WithoutAuthentication())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &bench{ctx: t.Context(), name: name, admin: admin, client: client, descriptors: shopDescriptors(t)}
}
