package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/spanledger/spanledger/app"
)

func devCommand() *cobra.Command {
	var o app.DevOptions
	var asJSON bool
	var sinkFlags []string
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run the whole system in one process, on an embedded Google Cloud",
		Long: `Dev runs everything at once on loopback ports of this machine, without Docker or an account: an embedded Spanner with
change streams, Pub/Sub, Cloud Storage and BigQuery; the event store; and a pipeline that carries every change into an
archive, to Pub/Sub and to BigQuery. At the end an independent reader checks what each sink holds against the change stream
and the events table, and the exit code says whether all is well.

Without --ingest it loads a week of earthquakes that comes with the program, shows what each sink has, and waits for
Ctrl-C.`,
		Example: `  # a look around; Ctrl-C ends it
  spanledger dev

  # your own events, checked, as one JSON object
  spanledger dev --ingest orders.csv --map '{stream: ("order/" + .order), id: .line, type: "order.line", data: .}' \
    --exit-when-idle --json --data-dir ./data

  # one more sink, such as one of your own
  spanledger dev --sink jsonlines='{"file":"changes.jsonl"}' --exit-when-idle

  # on a change stream with mutable key ranges (partition_mode MUTABLE_KEY_RANGE)
  spanledger dev --mutable --exit-when-idle

  # with snapshots of the table taken meanwhile, whose rows are checked as well
  spanledger dev --snapshot --exit-when-idle

  # the same against Google's own emulators, where they are installed
  spanledger dev --official --exit-when-idle`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.IsTerminal = isTerminal(cmd.ErrOrStderr()) && !asJSON; o.IsTerminal {
				cmd.SetErr(app.NewScreen(cmd.ErrOrStderr())) // the log's lines above the table
			}
			if o.Logger, err = logger(cmd); err != nil {
				return err
			}
			if o.Map != "" && len(o.Ingest) == 0 {
				return usage("--map needs --ingest: it says how the files' records become events")
			}
			if o.Official && o.Mutable {
				return usage("--official and --mutable exclude each other: Google's emulator has no change streams with mutable key ranges")
			}
			if o.Sinks, err = parseSinks(sinkFlags); err != nil {
				return err
			}
			if asJSON && slices.ContainsFunc(o.Sinks, func(s app.SinkConfig) bool { return s.Type == "stdout" }) {
				return usage("--json and --sink stdout both write on standard output: leave one out")
			}
			o.Out = cmd.ErrOrStderr()
			summary, err := app.Dev(cmd.Context(), o)
			if !asJSON {
				fmt.Fprint(cmd.OutOrStdout(), summary)
				return err
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			out.SetIndent("", "  ")
			if werr := out.Encode(summary); werr != nil && err == nil {
				err = fmt.Errorf("write the summary: %w", werr)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.Ingest, "ingest", nil, "load events from this `FILE` (JSON, JSON lines or CSV; repeatable)")
	f.StringVar(&o.Map, "map", "", "the jq `PROGRAM` that turns a record into events: {stream, id, type, time, data, …}; $n is the record's number, $file the file")
	f.StringVar(&o.Reject, "reject", "", "write records that cannot be stored to this `FILE`, as JSON lines with the reason")
	f.BoolVar(&o.ExitWhenIdle, "exit-when-idle", false, "end once every sink has everything")
	f.BoolVar(&asJSON, "json", false, "print one summary object on standard output")
	f.StringVar(&o.DataDir, "data-dir", "", "keep the objects as plain files in `DIR`/storage/BUCKET")
	f.StringArrayVar(&sinkFlags, "sink", nil, "add a sink, `TYPE[=OPTIONS]`, its options a JSON object; its name is its type's (repeatable)")
	f.StringVar(&o.Admin, "admin", "", "serve metrics, readiness and status on this `HOST:PORT` (default: a free port of 127.0.0.1)")
	f.BoolVar(&o.Profiler, "pprof", false, "serve Go's profiler on the admin address, under /debug/pprof/")
	f.BoolVar(&o.Mutable, "mutable", false, "read a change stream with mutable key ranges, whose partitions hand keys over while they live")
	f.BoolVar(&o.Snapshot, "snapshot", false, "take snapshots of the events table beside the stream while events are loaded, and one of all of them")
	f.BoolVar(&o.Official, "official", false, "use Google's own Spanner and Pub/Sub emulators")
	return cmd
}

// parseSinks reads the values of --sink. A sink is named after its type, so a type comes once.
func parseSinks(flags []string) ([]app.SinkConfig, error) {
	var all []app.SinkConfig
	for _, f := range flags {
		typ, options, has := strings.Cut(f, "=")
		if has && !json.Valid([]byte(options)) {
			return nil, usage("--sink %s: want TYPE=OPTIONS with the options as a JSON object, not %q", typ, options)
		}
		if slices.ContainsFunc(all, func(s app.SinkConfig) bool { return s.Name == typ }) {
			return nil, usage("--sink %s is given twice", typ)
		}
		if slices.Contains(app.DevSinks, typ) {
			return nil, usage("--sink %s: dev has a sink of that name already", typ)
		}
		all = append(all, app.SinkConfig{Name: typ, Type: typ, Options: json.RawMessage(options)})
	}
	return all, nil
}
