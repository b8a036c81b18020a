// Package startup tunes the first moments of a process.
package startup

import (
	"os"
	"runtime"
	"runtime/debug"
)

// LateCollection puts off the first garbage collection until the heap has 16 MB instead of 4: all of it comes while the process starts, finds
// little, and holds up a command that takes a tenth of a second. The first collection puts GOGC back. It leaves a GOGC that the user has set.
func LateCollection() {
	if os.Getenv("GOGC") != "" {
		return
	}
	before := debug.SetGCPercent(400)
	type sentinel struct{ _ [64]byte }
	runtime.AddCleanup(new(sentinel), func(percent int) { debug.SetGCPercent(percent) }, before)
}
