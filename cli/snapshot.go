package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/spanledger/spanledger/app"
)

func snapshotCommand() *cobra.Command {
	var o app.SnapshotOptions
	var file string
	var list, asJSON bool
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Take the rows of a table again, while the stream runs",
		Long: `Snapshot asks the running pipeline to carry the rows that a table holds, whole or between two keys, to its sinks. The
stream goes on: rows that change meanwhile come by the stream only, and nothing older comes after something newer. Rows
of a snapshot are inserts, marked as such ("snapshot": true), with positions of their own.

The pipeline's worker takes the rows in chunks and can be stopped and killed meanwhile. Asking again for rows that are
being taken is harmless; once they are done it takes them again. --list shows all snapshots of the pipeline. A new
pipeline takes a snapshot of every table the stream watches with 'start: snapshot' in its configuration.

Keys are JSON arrays with the values of the first columns of the primary key, such as '["cart-1", 7]', or the bare value
of its first column. --from is the first key, --to the one behind the last, in the order of the primary key.

The exit code is 0 if it was asked for (with --wait: if every row is durable in every sink), 1 if not, 2 if the command
line is wrong, and 130 if --wait was interrupted, which leaves the pipeline at it.`,
		Example: `  spanledger snapshot -c spanledger.yaml --table events --wait
  spanledger snapshot -c spanledger.yaml --table events --from cart-1 --to cart-2
  spanledger snapshot -c spanledger.yaml --list --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Logger, err = logger(cmd); err != nil {
				return err
			}
			switch {
			case list && (o.Table != "" || o.From != "" || o.To != "" || o.Wait):
				return usage("--list goes with -c, --pipeline and --json only")
			case !list && o.Table == "":
				return usage("--table is required: the table to take, or --list")
			}
			if o.Config, err = loadConfig(file); err != nil {
				return err
			}
			o.Out = cmd.ErrOrStderr()
			if list {
				return listSnapshots(cmd, o, asJSON)
			}
			result, err := app.Snapshot(cmd.Context(), o)
			if err == nil && asJSON {
				return printJSON(cmd, result)
			}
			if err == nil && !o.Wait {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), result)
			}
			return err
		},
	}
	configFlag(cmd, &file)
	flags := cmd.Flags()
	flags.StringVar(&o.Pipeline, "pipeline", "", "the pipeline's `NAME`; not needed where the file has one")
	flags.StringVar(&o.Table, "table", "", "the `TABLE` to take, as changes name it")
	flags.StringVar(&o.From, "from", "", "the first `KEY`; the table's first where it is left out")
	flags.StringVar(&o.To, "to", "", "the `KEY` behind the last; the table's end where it is left out")
	flags.BoolVar(&o.Wait, "wait", false, "wait until every row is durable in every sink, showing the progress on standard error")
	flags.BoolVar(&list, "list", false, "list the pipeline's snapshots")
	flags.BoolVar(&asJSON, "json", false, "print the result as JSON on standard output")
	return cmd
}

func listSnapshots(cmd *cobra.Command, o app.SnapshotOptions, asJSON bool) error {
	results, err := app.Snapshots(cmd.Context(), o)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd, results)
	}
	for _, r := range results {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), r); err != nil {
			return err
		}
	}
	return nil
}
