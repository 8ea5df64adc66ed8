package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/spanledger/spanledger/app"
)

func tailCommand() *cobra.Command {
	var o app.TailOptions
	var from, to string
	cmd := &cobra.Command{
		Use:   "tail DATABASE [STREAM]",
		Short: "Show the changes of a change stream as they are committed",
		Long: `Tail reads a change stream and shows its changes, one a line, each within a second of its commit: when it was committed, what
happened to which row, and which columns changed, old → new. The changes of a row come in order, over splits, merges and
moves of the stream's partitions; those of different rows may be shown a moment later than they were committed.

It stores nothing and disturbs nobody: a change stream takes 20 readers a partition. STREAM may be left out if the database
has only one. Ctrl-C ends it, and says how to go on without a loss.

With --json the lines are objects as the stdout sink writes them: id, commit_timestamp, table, op, key, after, before and
more; a column that is absent was not captured, which is not the same as NULL. What runs is said on standard error.

It connects to the emulator named by SPANNER_EMULATOR_HOST, and to Google Cloud with application default credentials where
that is not set. The account needs roles/spanner.databaseReader, or --role a database role with SELECT on the change stream
and EXECUTE on its read function.`,
		Example: `  spanledger tail projects/p/instances/i/databases/d

  # the last ten minutes of two tables, then on
  spanledger tail projects/p/instances/i/databases/d everything --from -10m --table orders --table 'sales.*'

  # who touched this row
  spanledger tail projects/p/instances/i/databases/d --from earliest --to now --where 'key.id == "4711"'

  # the first hundred of an hour, for jq
  spanledger tail projects/p/instances/i/databases/d --from 2026-01-02T15:00:00Z --to 2026-01-02T16:00:00Z --limit 100 --json`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usage("tail: which database? projects/PROJECT/instances/INSTANCE/databases/DATABASE")
			case len(args) > 2:
				return usage("unexpected argument %q", args[2])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.Logger, err = logger(cmd); err != nil {
				return err
			}
			if o.From, err = app.ParseWhen(from); err != nil {
				return usage("--from %w", err)
			}
			if to != "" {
				if o.To, err = app.ParseWhen(to); err != nil {
					return usage("--to %w", err)
				}
			}
			if o.Limit < 0 {
				return usage("--limit %d: want a number of changes, or 0 for all", o.Limit)
			}
			o.Database = args[0]
			if len(args) > 1 {
				o.Stream = args[1]
			}
			o.Out, o.Messages = cmd.OutOrStdout(), cmd.ErrOrStderr()
			o.Style.Colour = isTerminal(o.Out) && os.Getenv("NO_COLOR") == ""
			s, err := app.Tail(cmd.Context(), o)
			if s != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), s)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "now", "where to begin: now, earliest, -10m (before now), or a timestamp such as 2026-01-02T15:04:05Z")
	f.StringVar(&to, "to", "", "where to end, included: now, or a time like those of --from (default: never)")
	f.StringArrayVar(&o.Tables, "table", nil, "show this `TABLE` only; * and ? match (repeatable)")
	f.StringVar(&o.Where, "where", "", "show changes only for which this CEL `EXPRESSION` is true, as in a pipeline's filter")
	f.IntVar(&o.Limit, "limit", 0, "end after `N` changes (default: no limit)")
	f.BoolVar(&o.Style.JSON, "json", false, "one JSON object a line")
	f.BoolVar(&o.Style.Raw, "raw", false, "one JSON object a line, with the partition and the types of the columns")
	f.BoolVar(&o.Style.Keys, "keys", false, "keys only, no other columns")
	f.BoolVar(&o.Style.Whole, "whole", false, "do not cut long values")
	f.BoolVar(&o.Style.Partitions, "partitions", false, "show where partitions end and which follow them")
	f.BoolVar(&o.Style.Heartbeats, "heartbeats", false, "show through which timestamp each partition was read")
	f.DurationVar(&o.Heartbeat, "heartbeat", 500*time.Millisecond, "how often idle partitions report: 100ms to 5m; it bounds the delay of the last change before a pause")
	f.StringVar(&o.Role, "role", "", "read as this database `ROLE` (fine-grained access)")
	return cmd
}
