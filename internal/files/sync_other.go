//go:build !unix

package files

// syncDir does nothing: renames are durable in time, and a folder cannot be flushed here.
func syncDir(string) error { return nil }
