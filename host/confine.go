package host

import (
	"io/fs"
	"os"
	"slices"
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
	// was is what they were when the process was started. The kernel grants that, and nothing that takes its place.
	was map[string]fs.FileInfo
}

// note records what the grants are.
func (g *grants) note() {
	g.was = map[string]fs.FileInfo{}
	for _, p := range slices.Concat(g.read, g.write) {
		if info, err := os.Stat(p); err == nil {
			g.was[p] = info
		}
	}
}

// cover reports whether a process with these grants may do what other asks for.
func (g grants) cover(other grants) bool {
	return g.allow(other.read, slices.Concat(g.read, g.write)) && g.allow(other.write, g.write)
}

// allow reports whether each of paths is one of those granted, or lies below one.
func (g grants) allow(paths, granted []string) bool {
	for _, p := range paths {
		if !slices.ContainsFunc(granted, func(of string) bool { return within(p, of) && g.same(of) }) {
			return false
		}
	}
	return true
}

// same reports whether a path still leads to what was granted.
func (g grants) same(path string) bool {
	now, err := os.Stat(path)
	if err != nil {
		return g.was[path] == nil
	}
	return os.SameFile(g.was[path], now)
}
