package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/app"
	"github.com/spanledger/spanledger/sinks"
)

// Exit codes.
const (
	exitFailed      = 1   // it did not work; standard error says what, and what to do
	exitUsage       = 2   // the command line is wrong
	exitRejected    = 3   // everything worked, but some records could not be stored
	exitBroken      = 4   // a pipeline goes on only in a new incarnation: changes are lost, or its configuration has changed
	exitInterrupted = 130 // stopped by a signal before the work was done
)

// Main is a whole program: it registers the sinks beside the built-in ones, runs the command of os.Args until it is done
// or a signal stops it, and exits the process with the command's code. A second signal ends it at once. It panics if a
// sink's type has no name, no New, or a name that is taken.
func Main(extra ...sinks.Type) {
	for _, t := range extra {
		sinks.Register(t)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default is back: a second one ends the process at once, which loses nothing either.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is Main without the process: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if child := (*exitError)(nil); errors.As(err, &child) {
		return child.code
	}
	fmt.Fprintln(stderr, "spanledger: "+err.Error())
	switch {
	case errors.As(err, new(*usageError)):
		return exitUsage
	case errors.Is(err, app.ErrInterrupted) || isInterruption(ctx, err):
		return exitInterrupted
	case errors.Is(err, app.ErrRejected):
		return exitRejected
	case app.NeedsIncarnation(err):
		return exitBroken
	}
	return exitFailed
}

// isInterruption reports whether err is about the end of ctx. What failed although ctx has ended, such as a check after
// Ctrl-C, keeps its own code.
func isInterruption(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)) || status.Code(err) == codes.Canceled)
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error {
	return &usageError{fmt.Errorf(format+" (see --help)", args...)}
}

// noArgs refuses arguments of a command that takes flags only.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("unexpected argument %q", args[0])
	}
	return nil
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "spanledger",
		Short: "Turn Cloud Spanner into an event-sourced system",
		Long: `Spanledger appends events to Cloud Spanner, whose commit timestamps give them one order for all time, and carries every
committed change, in that order, to an archive on Cloud Storage, to Pub/Sub and to BigQuery.

Start with 'spanledger dev': it needs nothing but this program.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unknown command %q", args[0])
			}
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%w", err) })
	root.PersistentFlags().String("log-level", "warn", "what to log on standard error: debug, info, warn or error")
	root.AddCommand(devCommand(), emulatorCommand(), configCommand(), initCommand(), runCommand(), pipelineCommand(), snapshotCommand(), tailCommand(), ingestCommand(), healthCommand())
	return root
}

// release is what the linker was told (-X), for builds that do not carry their history.
var release string

// version is this module's, also inside a program of another module.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown)"
	}
	m := info.Main
	for _, d := range info.Deps {
		if d.Path == "github.com/spanledger/spanledger" {
			m = *d
		}
	}
	if m.Version == "" {
		return "(unknown)"
	}
	return m.Version
}

func logger(cmd *cobra.Command) (*slog.Logger, error) {
	name, err := cmd.Flags().GetString("log-level")
	if err != nil {
		return nil, err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return nil, usage("--log-level %q: want debug, info, warn or error", name)
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
	slog.SetDefault(log)
	return log, nil
}

// isTerminal reports whether a stream is a terminal: it can be redrawn, or somebody sits at it.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
