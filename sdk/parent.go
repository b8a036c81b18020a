package sdk

import (
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-hclog"
)

// watchParent ends this process, and its children, when the host is gone. The host holds the other end of standard
// input and never writes to it; the end of file comes whatever way the host dies. SIGTERM and SIGHUP mean the same; the host has the
// system send the first where it cannot have all children killed with this process. A process that is stopped sees neither, so the system
// is asked to let it go on when the host dies. The goroutines live as long as the process.
func watchParent(log hclog.Logger) {
	in := os.Stdin
	os.Stdin = nil // for the host alone
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
	closed := make(chan error, 1)
	go func() {
		if err := goOnWithoutParent(); err != nil {
			log.Warn("if this process is stopped it will outlive its host", "error", err)
		}
		_, err := io.Copy(io.Discard, in)
		closed <- err
	}()
	go func() {
		select {
		case sig := <-signals:
			log.Debug("ending", "signal", sig)
		case err := <-closed:
			log.Debug("the host is gone: ending", "error", err)
		}
		endGroup()
		os.Exit(0)
	}()
}
