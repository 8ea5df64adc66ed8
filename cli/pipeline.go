package cli

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/spanledger/spanledger/app"
)

func pipelineCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pipeline",
		Short: "Look at pipelines, or begin a new incarnation of one",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("pipeline: unknown command %q: use list, show or restart", args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(pipelineListCommand(), pipelineShowCommand(), pipelineRestartCommand())
	return cmd
}

func pipelineListCommand() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the pipelines in the state databases of a configuration",
		Long: `List reads the state databases that a configuration file names, and shows for each pipeline there its incarnation, how far
every sink has everything, and whether a worker runs it or a gap keeps it from going on.`,
		Example: `  spanledger pipeline list -c spanledger.yaml`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(file)
			if err != nil {
				return err
			}
			list, err := app.Pipelines(cmd.Context(), c, "")
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, list)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), app.PipelineTable(list))
			return err
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one array on standard output, an object a pipeline")
	return cmd
}

func pipelineShowCommand() *cobra.Command {
	var file, name string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Show a pipeline's checkpoints, incarnations and gaps",
		Example: `  spanledger pipeline show -c spanledger.yaml --pipeline ledger`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(file)
			if err != nil {
				return err
			}
			if name, err = onlyPipeline(c, name); err != nil {
				return err
			}
			list, err := app.Pipelines(cmd.Context(), c, name)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, list[0])
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), list[0])
			return err
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&name, "pipeline", "", "the pipeline's `NAME` (may be left out if the file has one only)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one object on standard output")
	return cmd
}

// onlyPipeline is the name given, or that of the only pipeline there is.
func onlyPipeline(c *app.Config, name string) (string, error) {
	if name != "" {
		return name, nil
	}
	if len(c.Pipelines) == 1 {
		return c.Pipelines[0].Name, nil
	}
	return "", usage("--pipeline NAME is required: the file has %d pipelines", len(c.Pipelines))
}

func pipelineRestartCommand() *cobra.Command {
	var o app.RestartOptions
	var file, from string
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "restart",
		Short: "Begin a new incarnation of a pipeline",
		Long: `Restart ends a pipeline's incarnation and opens the next one, which begins where --from says. It is what goes on after lost
changes (the retention period has passed; the change stream was dropped or made again; the database was restored) and
after a change of the filter, the dropped columns or the source in the configuration. It first shows what is lost, which
is recorded as a gap, and what is delivered once more, and then asks; without a terminal to ask on, --yes is needed.

Nothing is read or delivered by it: 'spanledger run' does that, from the new start on.

An archive goes on beside what it has: each incarnation writes chains of its own. At-least-once sinks get again what was
committed between the new start and what they have.`,
		Example: `  spanledger pipeline restart -c spanledger.yaml --pipeline ledger --from earliest

  # nothing lost and nothing repeated, after a change of the filter: from behind what 'pipeline show' calls "through"
  spanledger pipeline restart -c spanledger.yaml --pipeline ledger --from 2026-01-02T15:04:05.000001Z --yes`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Logger, err = logger(cmd); err != nil {
				return err
			}
			if from == "" {
				return usage("--from is required: now, earliest, a timestamp, or snapshot")
			}
			if o.From, err = app.ParseWhen(from); err != nil {
				return usage("--from %w, or snapshot", err)
			}
			if o.Config, err = loadConfig(file); err != nil {
				return err
			}
			if o.Pipeline, err = onlyPipeline(o.Config, o.Pipeline); err != nil {
				return err
			}
			o.Confirm = func(p *app.RestartPlan) (bool, error) { return confirm(cmd, p.String(), yes) }
			plan, err := app.Restart(cmd.Context(), o)
			if asJSON && plan != nil {
				if werr := printJSON(cmd, plan); werr != nil && err == nil {
					err = werr
				}
			}
			if err != nil {
				return err
			}
			if !plan.Done {
				return errNotConfirmed
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "incarnation %d is open: 'spanledger run' reads it from %s on\n", plan.Begins, plan.Start)
			return nil
		},
	}
	configFlag(cmd, &file)
	f := cmd.Flags()
	f.StringVar(&o.Pipeline, "pipeline", "", "the pipeline's `NAME` (may be left out if the file has one only)")
	f.StringVar(&from, "from", "", "where to begin: now, earliest, snapshot, a timestamp such as 2026-01-02T15:04:05Z, or -10m (required)")
	f.BoolVar(&yes, "yes", false, "do not ask")
	f.BoolVar(&o.Fence, "fence", false, "take the pipeline away from a worker that is alive")
	f.BoolVar(&asJSON, "json", false, "print one object on standard output: what was lost, what is repeated")
	return cmd
}

var errNotConfirmed = errors.New("nothing was changed")

// confirm shows what would happen and asks whether it shall.
func confirm(cmd *cobra.Command, text string, yes bool) (bool, error) {
	fmt.Fprint(cmd.ErrOrStderr(), text)
	if yes {
		return true, nil
	}
	if !isTerminal(cmd.InOrStdin()) {
		return false, usage("there is no terminal to ask on: --yes is needed")
	}
	fmt.Fprint(cmd.ErrOrStderr(), "Go ahead? [y/N] ")
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}
