//go:build !linux

package sdk

// goOnWithoutParent does nothing: of these systems none signals the death of a parent.
func goOnWithoutParent() error { return nil }
