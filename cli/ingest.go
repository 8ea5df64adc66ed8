package cli

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/spanledger/spanledger/app"
	"github.com/spanledger/spanledger/ingest"
)

func ingestCommand() *cobra.Command {
	var o app.IngestOptions
	var asJSON bool
	var format string
	cmd := &cobra.Command{
		Use:   "ingest [FILE...]",
		Short: "Append events from files to the events table",
		Long: `Ingest reads JSON (also one big document), JSON lines or CSV, turns each record into events with a jq map, and appends
them to the events table of a Spanner database. Versions follow the order of the input within each stream. It may be run
again after any failure: events that are there already are counted, not stored twice.

The exit code is 0 if every record went in, 3 if some were rejected, and 1 if it could not go on.

It connects to SPANNER_EMULATOR_HOST if that is set, else to Cloud Spanner with application default credentials.`,
		Example: `  spanledger ingest orders.csv --database projects/p/instances/i/databases/d \
    --map '{stream: ("order/" + .order), id: .line, type: "order.line", data: .}' --reject rejected.jsonl

  # one document that holds many events; ids made from their place in it
  spanledger ingest flights.json --database projects/p/instances/i/databases/d \
    --map 'to_entries[] | {stream: ("airport/" + .value.origin), id: "flight-\(.key)", type: "flight.departed", data: .value}'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 && o.Example == "" {
				return usage("name at least one file, or - for standard input")
			}
			if len(args) > 0 && o.Example != "" {
				return usage("--example brings its own events: it goes without files")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.Logger, err = logger(cmd); err != nil {
				return err
			}
			if o.Database == "" {
				return usage("--database is required: projects/PROJECT/instances/INSTANCE/databases/DATABASE")
			}
			if o.Load.Format, err = ingest.ParseFormat(format); err != nil {
				return usage("--format: %w", err)
			}
			o.Load.Stdin = cmd.InOrStdin()
			o.Load.Progress = cmd.ErrOrStderr()
			o.Load.IsTerminal = isTerminal(cmd.ErrOrStderr())
			sum, err := app.Ingest(cmd.Context(), args, o)
			if !asJSON {
				if sum != nil {
					fmt.Fprintln(cmd.OutOrStdout(), sum)
				}
				return err
			}
			if sum != nil {
				if werr := json.NewEncoder(cmd.OutOrStdout()).Encode(sum); werr != nil && err == nil {
					err = fmt.Errorf("write the summary: %w", werr)
				}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Database, "database", "", "the `DATABASE`: projects/PROJECT/instances/INSTANCE/databases/DATABASE")
	f.StringVar(&o.Load.Map, "map", "", "the jq `PROGRAM` that turns a record into events: {stream, id, type, time, data, …}; $n is the record's number, $file the file")
	f.StringVar(&format, "format", "", "the files' format: json, jsonl or csv (default: by name, then by content)")
	f.StringVar(&o.Load.Stream, "stream", "", "the stream of events that do not name one")
	f.StringVar(&o.Load.Source, "source", "", "the source of events that do not name one (default: the file's path)")
	f.StringVar(&o.Load.Reject, "reject", "", "write records that cannot be stored to this `FILE`, as JSON lines with the reason")
	f.IntVar(&o.MaxTransactions, "max-transactions", 0, "how many transactions may run at once; Google's emulator needs 1 (default: no bound, 1 on an emulator)")
	f.StringVar(&o.Example, "example", "", "load the example `NAME` that comes with the program: earthquakes")
	f.BoolVar(&asJSON, "json", false, "print one summary object on standard output")
	return cmd
}
