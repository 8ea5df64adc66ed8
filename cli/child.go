package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/spanledger/spanledger/app"
)

// childPatience is how long an interrupted command may take to end before it is killed.
const childPatience = 10 * time.Second

// exitError is the end of somebody else's command, which has said itself what was wrong: its code becomes ours, silently.
type exitError struct {
	error
	code int
}

func (e *exitError) Unwrap() error { return e.error }

// freePorts replaces the addresses nobody chose: whoever runs a command need not know them.
func freePorts(cmd *cobra.Command, l *app.Listen) {
	for flag, address := range map[string]*string{
		"spanner": &l.Spanner, "pubsub": &l.PubSub, "storage": &l.Storage, "bigquery": &l.BigQuery, "bigquery-storage": &l.BigQueryStorage,
	} {
		if !cmd.Flags().Changed(flag) {
			*address = "127.0.0.1:0"
		}
	}
}

// runChild runs a command with the variables in its environment and the terminal as its own. If ctx ends first, the command
// is interrupted, as Ctrl-C would.
func runChild(ctx context.Context, cmd *cobra.Command, variables []app.Variable, command []string) error {
	child := exec.CommandContext(ctx, command[0], command[1:]...)
	child.Stdin, child.Stdout, child.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	child.Env = os.Environ()
	for _, v := range variables {
		child.Env = append(child.Env, v.Name+"="+v.Value)
	}
	child.Cancel = func() error { return child.Process.Signal(os.Interrupt) }
	child.WaitDelay = childPatience
	err := child.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &exit):
		code := exit.ExitCode()
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			code = 128 + int(s.Signal()) // as shells count
		}
		return &exitError{err, code}
	case err != nil:
		return fmt.Errorf("command %s: %w: is it installed, and on the PATH?", command[0], err)
	}
	return nil
}
