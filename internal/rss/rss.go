// Package rss tells how much memory processes have resident: on Linux, and the most of it on Windows too. Functions are safe for concurrent use.
package rss

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Peak returns the most memory in bytes that a process, by its number or "self", has had resident; 0 where the system does not tell.
func Peak(process string) (int64, error) { return peak(process) }

// Current returns the memory in bytes that a process, by its number or "self", has resident now.
func Current(process string) (int64, error) {
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
