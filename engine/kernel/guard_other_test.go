//go:build !linux

package kernel

func guarded[T any](n int) []T { return make([]T, n) }
