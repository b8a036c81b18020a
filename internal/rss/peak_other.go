//go:build !windows

package rss

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// peak is 0 where there is no such file system.
func peak(process string) (int64, error) {
	data, err := os.ReadFile("/proc/" + process + "/status")
	if err != nil {
		return 0, nil
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("peak memory of process %s: %w", process, err)
			}
			return kib << 10, nil
		}
	}
	return 0, nil
}
