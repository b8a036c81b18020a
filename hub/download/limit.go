package download

import (
	"context"
	"sync"
	"time"

	"github.com/go-modelzoo/zoo/hub/source"
)

// Limiter bounds the bytes per second of all that share it. A nil Limiter does not. Safe for concurrent use.
type Limiter struct {
	rate float64 // bytes per second

	mu   sync.Mutex
	free time.Time // when the bytes let through so far are paid for
}

// NewLimiter returns a limiter of the given bytes per second; nil for 0.
func NewLimiter(bytesPerSecond int64) *Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	return &Limiter{rate: float64(bytesPerSecond)}
}

// Wait is called after n bytes came, and waits until they fit the rate or the context ends.
func (l *Limiter) Wait(ctx context.Context, n int) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
	wait := l.free.Sub(now)
	l.mu.Unlock()
	return source.Sleep(ctx, wait)
}
