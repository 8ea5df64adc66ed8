package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spanledger/spanledger/app"
	"github.com/spanledger/spanledger/emulator/spanner/changes"
	"github.com/spanledger/spanledger/emulator/spanner/fault"
)

func emulatorCommand() *cobra.Command {
	var o app.EmulatorOptions
	var asJSON bool
	var only []string
	var faults string
	services := map[string]*string{
		"spanner": &o.Listen.Spanner, "pubsub": &o.Listen.PubSub, "storage": &o.Listen.Storage, "bigquery": &o.Listen.BigQuery,
	}
	cmd := &cobra.Command{
		Use:   "emulator [-- COMMAND ARGS...]",
		Short: "Serve an embedded Google Cloud for tests",
		Long: `Emulator serves Spanner with change streams, Pub/Sub, Cloud Storage and BigQuery from this process, until it is
stopped, and prints the environment variables by which Google's clients and the other commands find them. Databases,
tables and messages live in memory; with --data-dir objects are plain files, DIR/storage/BUCKET/NAME.

With a command the services live as long as it runs: it finds the variables in its environment, and its exit code becomes
this command's. Addresses that were not chosen are then free ports, so that several may run at once.

The services ask nobody who they are: keep them on loopback addresses. Port 0 takes any free port, and an address without
a host, such as :9010, is one of 127.0.0.1.

Spanner is as lively and as rude as it is told to be. --churn redraws the partitions of change streams: each time, one of
them is split, merged with its neighbour, or moved. --faults makes calls fail: a plan is a list of rules, separated by
semicolons, each a fault and when it strikes (@FILE reads it from a file, one rule a line):

  ` + faultNames() + `

  p=0.1 the chance; nth=3 only the third time; every=10; times=2 at most twice; method=Commit only calls of this RPC;
  stream=NAME only this change stream; after=5 rows (or 5-20); for=2s how long; by=-1h how far; seed=7 to repeat a run`,
		Example: `  # all services, on the ports of Google's own emulators
  spanledger emulator

  # somebody's tests, in any language, with a Spanner of their own
  spanledger emulator --only spanner -- go test ./...

  # in a script: a free port, the variables as JSON once everything answers
  spanledger emulator --only spanner --spanner 127.0.0.1:0 --json

  # all but Cloud Storage
  spanledger emulator --storage off

  # change streams of 8 partitions that split, merge and move twice a second
  spanledger emulator --only spanner --partitions 8 --churn 500ms

  # a bad day: aborted and lost commits, streams cut in mid-row, the clock an hour back
  spanledger emulator --faults 'seed=7; abort p=0.1; lost p=0.02; cut after=5-50 p=0.3; jump by=-1h nth=100 method=Commit'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() > 0 || cmd.ArgsLenAtDash() < 0 && len(args) > 0 {
				return usage("unexpected argument %q: a command comes behind --", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, command []string) error {
			if _, err := logger(cmd); err != nil {
				return err
			}
			if asJSON && len(command) > 0 {
				return usage("--json prints the variables, which a command finds in its environment")
			}
			for _, name := range only {
				if services[name] == nil {
					return usage("--only %s: want spanner, pubsub, storage or bigquery", name)
				}
			}
			if len(command) > 0 {
				freePorts(cmd, &o.Listen)
			}
			served := false
			for name, address := range services {
				if len(only) > 0 && !slices.Contains(only, name) {
					*address = app.Off
				}
				served = served || *address != app.Off
			}
			if len(only) == 1 && only[0] == "bigquery" && o.Listen.BigQueryStorage == app.Off {
				return usage("--bigquery-storage off leaves BigQuery out: nothing to serve")
			}
			if !served {
				return usage("every service is off: nothing to serve")
			}
			if err := spannerOptions(&o, faults); err != nil {
				return err
			}
			o.Warn = func(service, address string) {
				fmt.Fprintf(cmd.ErrOrStderr(), "WARNING: %s listens on %s, which other machines may reach: it has no passwords, everybody who reaches it may read and change everything\n", service, address)
			}
			o.While = func(ctx context.Context, e app.Endpoints) error {
				if len(command) > 0 {
					return runChild(ctx, cmd, e.Variables(), command)
				}
				if err := printVariables(cmd, e.Variables(), asJSON); err != nil {
					return err
				}
				fmt.Fprintln(cmd.ErrOrStderr(), "serving until Ctrl-C")
				<-ctx.Done()
				return nil
			}
			return app.Emulator(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Listen.Spanner, "spanner", "127.0.0.1:9010", "where Spanner listens (gRPC): `HOST:PORT`, or off")
	f.StringVar(&o.Listen.PubSub, "pubsub", "127.0.0.1:8085", "where Pub/Sub listens (gRPC): `HOST:PORT`, or off")
	f.StringVar(&o.Listen.Storage, "storage", "127.0.0.1:4443", "where Cloud Storage listens (HTTP): `HOST:PORT`, or off")
	f.StringVar(&o.Listen.BigQuery, "bigquery", "127.0.0.1:9050", "where BigQuery listens (HTTP): `HOST:PORT`, or off")
	f.StringVar(&o.Listen.BigQueryStorage, "bigquery-storage", "127.0.0.1:9060", "where BigQuery's Storage API listens (gRPC): `HOST:PORT`")
	f.StringSliceVar(&only, "only", nil, "serve only these `SERVICES`: spanner, pubsub, storage, bigquery (comma-separated, repeatable)")
	f.StringVar(&o.DataDir, "data-dir", "", "keep objects as plain files in `DIR`/storage")
	f.IntVar(&o.Partitions, "partitions", 1, "how many partitions a change stream begins with, 1 to 10000")
	f.DurationVar(&o.Churn, "churn", 0, "redraw the partitions of change streams each `DURATION`, 1ms or more (default: never)")
	f.StringVar(&faults, "faults", "", "what goes wrong in Spanner: `PLAN`, or @FILE")
	f.BoolVar(&asJSON, "json", false, "print the variables as one JSON object")
	return cmd
}

// printVariables prints them as a shell exports them, or as one JSON object.
func printVariables(cmd *cobra.Command, variables []app.Variable, asJSON bool) error {
	if asJSON {
		values := map[string]string{}
		for _, v := range variables {
			values[v.Name] = v.Value
		}
		return printJSON(cmd, values)
	}
	var b strings.Builder
	for _, v := range variables {
		fmt.Fprintf(&b, "export %s=%s\n", v.Name, v.Value)
	}
	_, err := fmt.Fprint(cmd.OutOrStdout(), b.String())
	return err
}

// spannerOptions checks the flags that are Spanner's alone.
func spannerOptions(o *app.EmulatorOptions, faults string) error {
	if o.Partitions < 1 || o.Partitions > changes.MaxPartitions {
		return usage("--partitions %d: want 1 to %d", o.Partitions, changes.MaxPartitions)
	}
	if o.Churn != 0 && o.Churn < time.Millisecond {
		return usage("--churn %v: want 1ms or more", o.Churn)
	}
	text := faults
	if name, isFile := strings.CutPrefix(faults, "@"); isFile {
		b, err := os.ReadFile(name)
		if err != nil {
			return usage("--faults %s: %v", faults, err)
		}
		text = string(b)
	}
	var err error
	if o.Faults, err = fault.Parse(text); err != nil {
		return usage("--faults: %v", err)
	}
	if o.Listen.Spanner == app.Off && (o.Churn != 0 || o.Partitions != 1 || faults != "") {
		return usage("--partitions, --churn and --faults are Spanner's, which is off")
	}
	return nil
}

// faultNames lists the faults for the help.
func faultNames() string {
	names := make([]string, 0, len(fault.Kinds()))
	for _, k := range fault.Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}
