// Command zoo pulls pretrained image classifiers, verifies them, runs them, fine-tunes them and publishes the result.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/go-modelzoo/zoo/internal/startup"
	"github.com/go-modelzoo/zoo/internal/ui"
	"github.com/go-modelzoo/zoo/plugins"
	"github.com/go-modelzoo/zoo/sdk"
)

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	sdk.ServeEmbedded(plugins.All) // does not return in a plugin process
	startup.LateCollection()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := interruptible(context.Background())
	defer stop()
	cmd := newRoot(ctx)
	cmd.SetArgs(args)
	cmd, err := cmd.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if strings.HasPrefix(err.Error(), "required flag(s)") { // cobra has no type for these
		err = usagef("this needs %s; usage: %s", strings.Join(missingFlags(cmd), " and "), usageLine(cmd))
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
		err = errors.New("interrupted")
	}
	fmt.Fprintln(os.Stderr, "zoo:", ui.Plain(oneLine(err)))
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailure
}

// interruptible returns a context that the first Ctrl-C or SIGTERM cancels, so that work can save what it has. The second ends the program
// at once.
func interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, cancel) // from now on signals have their default effect
	return ctx, cancel
}

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// oneLine joins the lines of errors.Join, and those of lists, which are indented, with "; ".
func oneLine(err error) string {
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "; ")
}
