package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"time"
)

// DefaultAttempts is how often something is tried before giving up.
const DefaultAttempts = 5

const (
	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 10 * time.Second
	// maxRetryAfter bounds how long a server may ask to be left alone before the error is shown instead.
	maxRetryAfter = time.Minute
)

// Temporary says whether the error may go away by itself, soon: broken connections, time-outs, stalls and the status codes of
// StatusError.Temporary, unless the server asks for more than a minute. Cancellation, refusals of this side, certificates and missing things are
// not temporary.
func Temporary(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Temporary() && status.RetryAfter <= maxRetryAfter
	}
	for _, permanent := range []error{context.Canceled, ErrOffline, ErrPlainHTTP, ErrNotFound, ErrUnauthorized, ErrChanged, ErrRange} {
		if errors.Is(err, permanent) {
			return false
		}
	}
	for _, temporary := range []error{ErrStalled, io.ErrUnexpectedEOF, io.EOF, syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.EPIPE, syscall.ETIMEDOUT} {
		if errors.Is(err, temporary) {
			return true
		}
	}
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		return true
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.IsTemporary || dns.IsTimeout
	}
	var op *net.OpError
	return errors.As(err, &op)
}

// Backoff is the time to wait after the given number of failures in a row (from 1): doubling from 0.2 to 10 s, of which a random
// half to whole so that clients spread, or what the server asked for.
func Backoff(failures int, err error) time.Duration {
	var status *StatusError
	if errors.As(err, &status) && status.RetryAfter > 0 {
		return status.RetryAfter
	}
	d := maxBackoff
	if failures < 8 {
		d = min(firstBackoff<<(failures-1), maxBackoff)
	}
	return d/2 + rand.N(d/2)
}

// Sleep waits, or returns the context's error.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// Retry calls f until it succeeds, fails for good, or failed the given number of times. Where the context ends before that, the error wraps the
// context's and that of the last failure.
func Retry(ctx context.Context, attempts int, f func() error) error {
	for failures := 1; ; failures++ {
		err := f()
		if err == nil || failures >= attempts || !Temporary(err) {
			return err
		}
		if ended := Sleep(ctx, Backoff(failures, err)); ended != nil {
			if errors.Is(err, ended) {
				return err
			}
			return fmt.Errorf("%w; before that: %w", ended, err)
		}
	}
}
