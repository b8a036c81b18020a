//go:build !unix && !windows

package host

import (
	"os"
	"syscall"
)

// noProgram would be what the system says of a file that is no program for it.
var noProgram []error

// group stands for what a plugin's process and its children belong to: nothing here.
type group struct{}

func ownGroup(*syscall.SysProcAttr) {}

func groupOf(*os.Process) (group, error) { return group{}, nil }

func (group) kill() {}

func (group) close() {}
