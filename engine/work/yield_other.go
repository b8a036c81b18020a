//go:build !linux

package work

func yieldCore() {}
