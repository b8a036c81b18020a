//go:build !linux

package host

import "os"

// executable returns the path of the running program.
func executable() (string, error) { return os.Executable() }
