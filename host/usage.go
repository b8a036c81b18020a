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
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pr.child.process.Pid))
	if err != nil {
		return 0, nil // no such file system
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, nil
}
