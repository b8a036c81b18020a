//go:build !unix

package pluginrpc

import "os"

func createMemory() (*os.File, error) { return nil, ErrNoSharedMemory }

func mapMemory(*os.File, int64, int64) ([]byte, error) { return nil, ErrNoSharedMemory }

func unmapMemory([]byte) error { return nil }

func closeOnExec(uintptr) {}
