package host

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// PeakRSS returns the most memory, in bytes, that the session's process has had resident; 0 where the system does not tell
// (it is read from /proc).
func (s *Session) PeakRSS(ctx context.Context) (int64, error) {
	pr, _, err := s.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer pr.release()
	return pr.peakRSS(), nil
}

// peakRSS is the most memory that the process has had resident, 0 if the system does not tell or the process is gone.
func (p *process) peakRSS() int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.child.pid()))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
