package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/spanledger/spanledger/app"
)

func initCommand() *cobra.Command {
	var o app.InitOptions
	var file string
	var asJSON, events, printDDL bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make what a configuration file names and is not there yet",
		Long: `Init waits until the services answer, looks for everything a configuration file names, makes what is missing and leaves
what is there as it is; it may be run again at any time. It makes the events table, change streams, the tables of the
pipelines' state, topics and subscriptions, buckets and BigQuery datasets. Instances and databases it makes on emulators
only: on Cloud Spanner a database that does not exist is an error that names the command to make it.

Like run it connects to the emulators named by SPANNER_EMULATOR_HOST, PUBSUB_EMULATOR_HOST, STORAGE_EMULATOR_HOST and
BIGQUERY_EMULATOR_HOST, and to Google Cloud where they are not set.`,
		Example: `  spanledger init -c spanledger.yaml

  # to show a database administrator what would be run, without running it
  spanledger init -c spanledger.yaml --print-ddl

  # own tables instead of the events table; setup.watch in the file says which
  spanledger init -c spanledger.yaml --events=false`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Logger, err = logger(cmd); err != nil {
				return err
			}
			if o.Timeout <= 0 {
				return usage("--timeout must be above zero")
			}
			if o.Config, err = loadConfig(file); err != nil {
				return err
			}
			if cmd.Flags().Changed("events") {
				o.Events = &events
			}
			if printDDL {
				ddl, err := app.DDL(o)
				if err == nil {
					_, err = fmt.Fprint(cmd.OutOrStdout(), ddl)
				}
				return err
			}
			o.Out = cmd.OutOrStdout()
			if asJSON {
				o.Out = cmd.ErrOrStderr()
			}
			summary, err := app.Init(cmd.Context(), o)
			if asJSON {
				err = errors.Join(err, printJSON(cmd, summary))
			}
			return err
		},
	}
	configFlag(cmd, &file)
	f := cmd.Flags()
	f.BoolVar(&events, "events", true, "make the events table (default: what setup.events says)")
	f.DurationVar(&o.Timeout, "timeout", time.Minute, "how long to wait for the services, and for all to be made")
	f.BoolVar(&printDDL, "print-ddl", false, "print the statements for each database, and do nothing")
	f.BoolVar(&asJSON, "json", false, "print one object on standard output: items with kind, name, in and made")
	return cmd
}
