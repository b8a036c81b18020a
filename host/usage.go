package host

import (
	"context"
	"strconv"

	"github.com/go-modelzoo/zoo/internal/rss"
)

// PeakRSS returns the most memory, in bytes, that the session's process has had resident; 0 where the system does not tell
// (Linux and Windows do).
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
	peak, err := rss.Peak(strconv.Itoa(p.child.pid()))
	if err != nil {
		p.log.Debug("reading memory", "error", err)
		return 0
	}
	return peak
}
