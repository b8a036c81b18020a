// Package panicked puts a recovered panic into a line. Its function is safe for concurrent use.
package panicked

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// Text says what the value that recover returned is, and where it came from, the innermost call first: "index out of range (net.go:71 < net.go:34)". It
// is for the deferred function that recovers, while the stack is still there. It has at most some 280 bytes.
func Text(value any) string {
	const most = 3 // calls; further out everything looks the same
	pcs := make([]uintptr, 100)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	var calls []string
	found := false
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		switch {
		case f.Function == "runtime.gopanic": // above it is what recovers, and of a panic that was passed on, what passed it on
			calls, found = nil, true
		case found && len(calls) < most && !strings.HasPrefix(f.Function, "runtime."):
			calls = append(calls, fmt.Sprintf("%.30s:%d", filepath.Base(f.File), f.Line))
		}
	}
	return fmt.Sprintf("%.150s (%s)", fmt.Sprint(value), strings.Join(calls, " < "))
}
