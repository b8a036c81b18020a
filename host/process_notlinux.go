//go:build !linux

package host

import "os"

// awaitEnd leaves waiting to os.Process.Wait.
func awaitEnd(*os.Process) {}

// threadID and killNewborn do nothing: these systems do not list the children of a thread.
func threadID() int { return 0 }

func killNewborn(int) {}
