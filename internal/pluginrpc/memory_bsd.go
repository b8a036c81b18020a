//go:build unix && !linux

package pluginrpc

import (
	"fmt"
	"os"
)

// createMemory makes a file that only this process and its children can reach: it loses its name at once.
func createMemory() (*os.File, error) {
	f, err := os.CreateTemp("", "zoo-tensors-")
	if err != nil {
		return nil, fmt.Errorf("create shared memory: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, fmt.Errorf("create shared memory: %w", err)
	}
	return f, nil
}
