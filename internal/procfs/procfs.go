// Package procfs reads what Linux tells about processes.
package procfs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// PeakRSS returns the most memory in bytes that a process, by its number or "self", has had resident; 0 where there is no such file system.
func PeakRSS(process string) (int64, error) {
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

// RSS returns the memory in bytes that a process, by its number or "self", has resident now.
func RSS(process string) (int64, error) {
	data, err := os.ReadFile("/proc/" + process + "/statm")
	if err != nil {
		return 0, fmt.Errorf("memory of process %s: %w", process, err)
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0, fmt.Errorf("memory of process %s: statm reads %q", process, data)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("memory of process %s: %w", process, err)
	}
	return pages * int64(os.Getpagesize()), nil
}
