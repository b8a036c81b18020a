//go:build !linux

package work

// affinity is not known to these systems.
type affinity struct{}

func newAffinity(int) *affinity { return nil }

func (*affinity) pin(int) {}

func (*affinity) unpin() {}
