package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/spanledger/spanledger/app"
)

func emulatorCommand() *cobra.Command {
	var o app.EmulatorOptions
	var asJSON bool
	var only []string
	services := map[string]*string{
		"spanner": &o.Listen.Spanner, "pubsub": &o.Listen.PubSub, "storage": &o.Listen.Storage, "bigquery": &o.Listen.BigQuery,
	}
	cmd := &cobra.Command{
		Use:   "emulator",
		Short: "Serve an embedded Google Cloud for tests",
		Long: `Emulator serves Spanner with change streams, Pub/Sub, Cloud Storage and BigQuery from this process, until it is
stopped, and prints the environment variables by which Google's clients and the other commands find them. Databases,
tables and messages live in memory; with --data-dir objects are plain files, DIR/storage/BUCKET/NAME.

The services ask nobody who they are: keep them on loopback addresses. Port 0 takes any free port.`,
		Example: `  # all services, on the ports of Google's own emulators
  spanledger emulator

  # in a script: a free port, the variables as JSON once everything answers
  spanledger emulator --only spanner --spanner 127.0.0.1:0 --json

  # all but Cloud Storage
  spanledger emulator --storage off`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := logger(cmd); err != nil {
				return err
			}
			for _, name := range only {
				if services[name] == nil {
					return usage("--only %s: want spanner, pubsub, storage or bigquery", name)
				}
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
			o.Warn = func(service, address string) {
				fmt.Fprintf(cmd.ErrOrStderr(), "WARNING: %s listens on %s, which other machines may reach: it has no passwords, everybody who reaches it may read and change everything\n", service, address)
			}
			o.Ready = func(e app.Endpoints) error {
				if asJSON {
					values := map[string]string{}
					for _, v := range e.Variables() {
						values[v.Name] = v.Value
					}
					return printJSON(cmd, values)
				}
				var b strings.Builder
				for _, v := range e.Variables() {
					fmt.Fprintf(&b, "export %s=%s\n", v.Name, v.Value)
				}
				_, err := fmt.Fprint(cmd.OutOrStdout(), b.String())
				fmt.Fprintln(cmd.ErrOrStderr(), "serving until Ctrl-C")
				return err
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
	f.BoolVar(&asJSON, "json", false, "print the variables as one JSON object")
	return cmd
}
