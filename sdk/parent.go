package sdk

import (
	"io"
	"os"

	"github.com/hashicorp/go-hclog"
)

// watchParent ends this process, and its children, when the host is gone. The host holds the other end of standard
// input and never writes to it; the end of file comes whatever way the host dies. Its goroutine lives as long as the process.
func watchParent(log hclog.Logger) {
	in := os.Stdin
	os.Stdin = nil // for the host alone
	go func() {
		if _, err := io.Copy(io.Discard, in); err != nil {
			log.Warn("watching the host failed", "error", err)
		}
		log.Debug("the host is gone: ending")
		endGroup()
		os.Exit(0)
	}()
}
