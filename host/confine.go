package host

import (
	"os"
	"syscall"

	"github.com/hashicorp/go-hclog"
)

// confinement is what a plugin process may do. The zero value lets it do everything.
type confinement struct {
	isolation Isolation
	grants    grants
	exe       string // to execute
	dir       string // of its socket
	memory    int64  // bytes, 0 for no ceiling
	log       hclog.Logger
}

// starter starts a process with the given attributes.
type starter func(*syscall.SysProcAttr) (*os.Process, error)

// grants are the files and folders that a process may use besides the system's.
type grants struct {
	read, write []string // absolute, links resolved
}

// cover reports whether a process with these grants may do what other asks for.
func (g grants) cover(other grants) bool {
	return subset(other.read, append(append([]string(nil), g.read...), g.write...)) && subset(other.write, g.write)
}

func subset(list, of []string) bool {
	for _, p := range list {
		if !within(p, of) {
			return false
		}
	}
	return true
}
