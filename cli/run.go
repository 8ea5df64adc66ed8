package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/spanledger/spanledger/app"
)

func runCommand() *cobra.Command {
	var o app.RunOptions
	var file string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the pipelines of a configuration file",
		Long: `Run carries every change of the configured change streams to their sinks until it is told to stop. SIGINT or SIGTERM
stops reading and lets what was read become durable (drain_timeout); a second signal ends at once. Neither loses
anything: what was not durable is read again after the next start.

What cannot be reached at start (Spanner, or a sink) is an error within a minute, for a wrong name looks the same as a
server that is down; let the supervisor start it again. What is lost later is tried again for as long as it takes.
A pipeline that fails for good ends the others, drained: pipelines that must not depend on one another are run in
processes of their own, with --pipeline.

A pipeline with an end in its source stops once everything through that is delivered; the command ends when all have.

The exit code is 0 after a stop by a signal, or at the end, 2 if the command line is wrong, 4 if a pipeline can go on only in
a new incarnation, because changes are lost or its filter has changed ('spanledger pipeline restart'), and 1 if anything else
failed.

It connects to the emulators named by SPANNER_EMULATOR_HOST, PUBSUB_EMULATOR_HOST, STORAGE_EMULATOR_HOST,
BIGQUERY_EMULATOR_HOST and BIGQUERY_STORAGE_EMULATOR_HOST, and to Google Cloud with application default credentials
where they are not set.`,
		Example: `  spanledger run -c spanledger.yaml

  # one pipeline of the file, in a process of its own
  spanledger run -c spanledger.yaml --pipeline ledger --log-level info`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Logger, err = logger(cmd); err != nil {
				return err
			}
			if o.StartTimeout <= 0 {
				return usage("--start-timeout must be above zero")
			}
			if o.Config, err = loadConfig(file); err != nil {
				return err
			}
			o.Out = cmd.ErrOrStderr() // standard output may be a sink's
			return app.Run(cmd.Context(), o)
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringArrayVar(&o.Pipelines, "pipeline", nil, "run only the pipeline of this `NAME` (repeatable)")
	cmd.Flags().DurationVar(&o.StartTimeout, "start-timeout", time.Minute, "how long connecting to Spanner may take at start")
	return cmd
}
