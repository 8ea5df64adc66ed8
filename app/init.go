package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/spanner"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/ingest"
	"github.com/spanledger/spanledger/state"
)

// InitOptions are the options of `spanledger init`.
type InitOptions struct {
	Config *Config
	// Events says whether to make the events table; nil leaves it to the configuration.
	Events *bool
	// Timeout bounds the whole: waiting for the services and making what is missing; 0 means a minute.
	Timeout time.Duration
	// Out is where people read what was made.
	Out    io.Writer
	Logger *slog.Logger
}

// InitSummary is what `spanledger init` made and what was there.
type InitSummary struct {
	Items   []InitItem `json:"items"`
	Seconds float64    `json:"seconds"`
}

// InitItem is one thing that must be there.
type InitItem struct {
	// Kind is instance, database, table, index, change stream, topic, subscription, bucket or dataset.
	Kind string `json:"kind"`
	Name string `json:"name"`
	// In is the database that holds a table, an index or a change stream, or "".
	In string `json:"in,omitempty"`
	// Made says that it was not there before.
	Made bool `json:"made"`
}

// Init makes what is missing of all that a configuration names, and leaves what is there as it is. It may be run again at
// any time. Instances and databases are made on emulators only. The summary has what was done before an error.
func Init(ctx context.Context, o InitOptions) (*InitSummary, error) {
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("init did not end within %s (--timeout waits longer)", o.Timeout))
	defer cancel()
	i := &initializer{InitOptions: o, Endpoints: EndpointsFromEnv(), summary: &InitSummary{Items: []InitItem{}}}
	err := i.run(ctx)
	i.summary.Seconds = time.Since(began).Seconds()
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && !errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return i.summary, err
}

type initializer struct {
	InitOptions
	Endpoints
	summary *InitSummary
}

// note records one thing, and says it.
func (i *initializer) note(kind, name, in string, made bool) {
	i.summary.Items = append(i.summary.Items, InitItem{Kind: kind, Name: name, In: in, Made: made})
	word := "there"
	if made {
		word = "made"
	}
	text := kind + " " + name
	if in != "" {
		text += " in " + in
	}
	fmt.Fprintf(i.Out, "%-5s  %s\n", word, text)
}

func (i *initializer) run(ctx context.Context) error {
	plan, err := i.plan()
	if err != nil {
		return err
	}
	if err := waitFor(ctx, plan.addresses(i.Endpoints), i.Out); err != nil {
		return err
	}
	for _, db := range plan.databases {
		if err := i.database(ctx, db); err != nil {
			return err
		}
	}
	return i.destinations(ctx, plan)
}

// initDatabase is a database with what must be in it.
type initDatabase struct {
	name       databaseName
	statements []string
}

// initPlan is all that a configuration names, each once.
type initPlan struct {
	databases     []*initDatabase
	topics        []topicTarget
	subscriptions []SubscriptionConfig
	buckets       []bucketTarget
	datasets      []datasetTarget
}

func (i *initializer) plan() (*initPlan, error) {
	plan := &initPlan{subscriptions: i.Config.Setup.Subscriptions}
	byName := map[string]*initDatabase{}
	add := func(name string, ddl ...string) error {
		n, err := parseDatabase(name)
		if err != nil {
			return err
		}
		db := byName[name]
		if db == nil {
			db = &initDatabase{name: n}
			byName[name] = db
			plan.databases = append(plan.databases, db)
		}
		for _, s := range ddl {
			if !slices.Contains(db.statements, s) {
				db.statements = append(db.statements, s)
			}
		}
		return nil
	}
	events := i.Config.Setup.Events == nil || *i.Config.Setup.Events
	if i.Events != nil {
		events = *i.Events
	}
	watch := i.Config.Setup.Watch
	if watch == "" && events {
		watch = ingest.Table
	}
	for _, p := range i.Config.Pipelines {
		if events {
			if err := add(p.Database, ingest.DDL()...); err != nil {
				return nil, fmt.Errorf("pipeline %s: %w", p.Name, err)
			}
		}
		if err := errors.Join(add(p.Database, streamDDL(p.Stream, watch, i.Config.Setup.Mutable)), add(p.StateDatabase, state.DDL()...)); err != nil {
			return nil, fmt.Errorf("pipeline %s: %w", p.Name, err)
		}
		if err := i.targets(plan, p); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// streamDDL is the statement that makes a change stream of what is to be watched. It captures whole rows and what they were
// before, so that every sink can have all there is to know of a change.
func streamDDL(name, watch string, mutable bool) string {
	options := "value_capture_type = 'NEW_ROW_AND_OLD_VALUES'"
	if mutable {
		options += ", partition_mode = 'MUTABLE_KEY_RANGE'"
	}
	return "CREATE CHANGE STREAM `" + name + "` FOR " + watch + " OPTIONS (" + options + ")"
}

// watchesNothing reports whether a statement would make a change stream of which nobody has said what it watches.
func watchesNothing(statement string) bool { return strings.Contains(statement, "` FOR  OPTIONS") }

// DDL are the statements that init would run on each database of a configuration, if nothing of it were there, in the form
// of a script: commented, each ended by a semicolon.
func DDL(o InitOptions) (string, error) {
	plan, err := (&initializer{InitOptions: o}).plan()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, db := range plan.databases {
		fmt.Fprintf(&b, "-- %s\n", db.name)
		for _, s := range db.statements {
			if watchesNothing(s) {
				s = "-- " + s + "  -- which needs something to watch: set setup.watch"
			}
			fmt.Fprintf(&b, "%s;\n", s)
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// database makes a database, on an emulator, and what is missing in it.
func (i *initializer) database(ctx context.Context, db *initDatabase) error {
	if err := i.ensure(ctx, db.name); err != nil {
		return err
	}
	have, err := i.objects(ctx, db.name)
	if err != nil {
		return err
	}
	var missing []string
	for _, s := range db.statements {
		kind, name := objectOf(s)
		if !have[kind+" "+strings.ToLower(name)] {
			if watchesNothing(s) {
				return fmt.Errorf("database %s has no change stream %s, and with events off setup.watch must say what it is to watch, "+
					"such as orders, customers: or make it yourself with CREATE CHANGE STREAM", db.name, name)
			}
			missing = append(missing, s)
		}
	}
	if len(missing) > 0 {
		if err := i.updateDDL(ctx, db.name, missing); err != nil {
			return err
		}
	}
	for _, s := range db.statements {
		kind, name := objectOf(s)
		i.note(kind, name, db.name.String(), slices.Contains(missing, s))
	}
	return nil
}

// ensure makes a database and its instance on an emulator. On Cloud Spanner it only looks: what to pay for is not init's
// to decide.
func (i *initializer) ensure(ctx context.Context, n databaseName) error {
	if i.Spanner != "" {
		made, err := i.ensureInstance(ctx, n)
		if err != nil {
			return explain(fmt.Errorf("make instance %s: %w", n.parent(), err))
		}
		i.noteOnce("instance", n.parent(), made)
		if made, err = i.createDatabase(ctx, n, nil); err != nil {
			return explain(err)
		}
		i.noteOnce("database", n.String(), made)
		return nil
	}
	admin, err := i.databaseAdmin(ctx)
	if err != nil {
		return fmt.Errorf("look at database %s: %w", n, err)
	}
	defer admin.Close()
	db, err := admin.GetDatabase(ctx, &databasepb.GetDatabaseRequest{Name: n.String()})
	if status.Code(err) == codes.NotFound {
		return fmt.Errorf("database %s does not exist, and init makes databases on emulators only: "+
			"run 'gcloud spanner databases create %s --instance=%s --project=%s' (and before that 'gcloud spanner instances create', if there is no instance): %w",
			n, n.database, n.instance, n.project, err)
	}
	if err != nil {
		return explain(fmt.Errorf("look at database %s: %w", n, err))
	}
	if db.GetDatabaseDialect() == databasepb.DatabaseDialect_POSTGRESQL {
		return fmt.Errorf("database %s has the PostgreSQL dialect: init makes tables in GoogleSQL databases only", n)
	}
	i.noteOnce("database", n.String(), false)
	return nil
}

func (i *initializer) noteOnce(kind, name string, made bool) {
	for _, item := range i.summary.Items {
		if item.Kind == kind && item.Name == name {
			return
		}
	}
	i.note(kind, name, "", made)
}

var createStatement = regexp.MustCompile("(?is)^\\s*CREATE\\s+(?:UNIQUE\\s+|NULL_FILTERED\\s+)*(TABLE|INDEX|CHANGE\\s+STREAM)\\s+(?:IF\\s+NOT\\s+EXISTS\\s+)?`?([A-Za-z_][A-Za-z0-9_]*)")

// objectOf is what a CREATE statement of ours makes.
func objectOf(statement string) (kind, name string) {
	m := createStatement.FindStringSubmatch(statement)
	if m == nil {
		panic("app: not a CREATE statement that init knows: " + statement)
	}
	return strings.ToLower(strings.Join(strings.Fields(m[1]), " ")), m[2]
}

// objects lists what a database has, as "kind name" in lower case: Spanner's names ignore case. Change streams are looked
// up because not every server knows CREATE CHANGE STREAM IF NOT EXISTS.
func (i *initializer) objects(ctx context.Context, n databaseName) (map[string]bool, error) {
	client, err := i.spannerClient(ctx, n.String())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	have := map[string]bool{}
	for kind, query := range map[string]string{
		"table":         "SELECT table_name FROM information_schema.tables WHERE table_schema = ''",
		"index":         "SELECT index_name FROM information_schema.indexes WHERE table_schema = ''",
		"change stream": "SELECT change_stream_name FROM information_schema.change_streams",
	} {
		err := client.Single().Query(ctx, spanner.NewStatement(query)).Do(func(row *spanner.Row) error {
			var name string
			if err := row.Columns(&name); err != nil {
				return err
			}
			have[kind+" "+strings.ToLower(name)] = true
			return nil
		})
		if err != nil {
			return nil, explain(fmt.Errorf("look what is in database %s: %w", n, err))
		}
	}
	return have, nil
}

func (i *initializer) updateDDL(ctx context.Context, n databaseName, statements []string) error {
	admin, err := i.databaseAdmin(ctx)
	if err != nil {
		return fmt.Errorf("change database %s: %w", n, err)
	}
	defer admin.Close()
	op, err := admin.UpdateDatabaseDdl(ctx, &databasepb.UpdateDatabaseDdlRequest{Database: n.String(), Statements: statements})
	if err == nil {
		err = op.Wait(ctx)
	}
	if err != nil {
		return explain(fmt.Errorf("make tables in database %s: %w", n, err))
	}
	return nil
}

// explain adds to an error what its code says an operator can do.
func explain(err error) error {
	var s interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &s) {
		return err
	}
	switch s.GRPCStatus().Code() {
	case codes.PermissionDenied:
		return fmt.Errorf("%w (the account that runs init needs the right to look at and to make it: for Spanner roles/spanner.databaseAdmin, "+
			"for Pub/Sub roles/pubsub.editor; what exists already needs no right to make it)", err)
	case codes.Unauthenticated:
		return fmt.Errorf("%w (there are no credentials: run 'gcloud auth application-default login', or set the emulators' variables)", err)
	}
	return err
}
