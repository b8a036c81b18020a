//go:build !linux

package host

import (
	"errors"
	"os"
	"syscall"
)

// start starts a process unconfined, which is all that this system offers.
func (c confinement) start(start starter) (*os.Process, error) {
	if c.isolation == IsolateRequired {
		return nil, errors.New("plugins cannot be isolated on this system")
	}
	if c.isolation == IsolateDefault {
		c.log.Warn("plugins run with the rights of the user: this system offers no isolation")
	}
	if c.memory > 0 {
		c.log.Warn("the memory ceiling is only a goal for the garbage collector on this system")
	}
	sys := &syscall.SysProcAttr{}
	ownGroup(sys)
	return start(sys)
}
