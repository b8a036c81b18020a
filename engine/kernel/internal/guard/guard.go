// Package guard helps tests of kernels: memory that catches those which touch what lies behind their buffers, and checks that refuse before them.
package guard

import "testing"

// Panics wants run to panic. what says what it does wrong.
func Panics(tb testing.TB, what string, run func()) {
	tb.Helper()
	defer func() {
		if recover() == nil {
			tb.Errorf("%s: no panic", what)
		}
	}()
	run()
}
