package cli

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/spanledger/spanledger/app"
)

// configFlag adds the flag that names the configuration file.
func configFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVarP(into, "config", "c", "", "the configuration `FILE` (required; 'spanledger config example' prints one)")
}

// loadConfig reads the file that -c names.
func loadConfig(path string) (*app.Config, error) {
	if path == "" {
		return nil, usage("-c FILE is required: the configuration file; 'spanledger config example' prints one")
	}
	return app.LoadConfig(path)
}

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check a configuration file, or print an example",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("config: unknown command %q: use check or example", args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(configCheckCommand(), configExampleCommand())
	return cmd
}

func configCheckCommand() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration file",
		Long: `Check reads a configuration file, with its environment variables, and reports every mistake with its line: unknown keys,
wrong types, names used twice, bad expressions and what the sinks say of their options. It touches no network: whether
databases and topics exist is seen by init and run.

The exit code is 0 if the file is good and 1 if it is not.`,
		Example: `  spanledger config check -c spanledger.yaml
  spanledger config check -c spanledger.yaml --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(file)
			if !asJSON {
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%s%s is good\n", c.Summary(), file)
				}
				return err
			}
			out := struct {
				OK     bool               `json:"ok"`
				Errors app.ConfigErrors   `json:"errors,omitempty"`
				Config *app.ConfigSummary `json:"config,omitempty"`
			}{OK: err == nil}
			if err == nil {
				s := c.Summary()
				out.Config = &s
			} else if !errors.As(err, &out.Errors) {
				return err
			}
			if werr := printJSON(cmd, out); werr != nil {
				return errors.Join(err, werr)
			}
			return err
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one object on standard output: ok, errors with file, line, column, message and hint, or the config in short")
	return cmd
}

func configExampleCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "example",
		Short:   "Print a complete, commented configuration file",
		Example: `  spanledger config example > spanledger.yaml`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), app.ExampleConfig())
			return err
		},
	}
}

// printJSON prints one object on standard output.
func printJSON(cmd *cobra.Command, v any) error {
	out := json.NewEncoder(cmd.OutOrStdout())
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	if err := out.Encode(v); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}
