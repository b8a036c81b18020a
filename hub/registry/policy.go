package registry

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrRollback says that an index is older than one seen before.
	ErrRollback = errors.New("registry index is older than one seen before")
	// ErrExpired says that an index is past its expiry and the days of grace.
	ErrExpired = errors.New("registry index has expired")
)

// Policy decides whether a well-formed index may be used.
type Policy struct {
	// Floor is the highest version seen before. Zero: none.
	Floor int64
	// Now is the time to judge the expiry by.
	Now time.Time
	// Grace is how long after its expiry an index is still used, with a warning.
	Grace time.Duration
	// Fixed marks an index that cannot be replaced by a newer one, such as the one in the program: its expiry only warns.
	Fixed bool
}

// DefaultGrace is the time between an index's expiry and its refusal.
const DefaultGrace = 30 * 24 * time.Hour

// Check returns a warning to show, if any, or an error that wraps ErrRollback or ErrExpired.
func (p Policy) Check(x *Index) (warning string, err error) {
	if x.Version < p.Floor {
		return "", fmt.Errorf("%w: version %d, and version %d was seen: somebody may be serving an old index; ask who runs the registry", ErrRollback, x.Version, p.Floor)
	}
	late := p.Now.Sub(x.Expires)
	day := x.Expires.UTC().Format(time.DateOnly)
	switch {
	case late <= 0:
		return "", nil
	case p.Fixed:
		return fmt.Sprintf("the registry index in this program expired on %s: update zoo", day), nil
	case late <= p.Grace:
		return fmt.Sprintf("the registry index expired on %s and is refused from %s on: get a newer one", day, x.Expires.Add(p.Grace).UTC().Format(time.DateOnly)), nil
	}
	return "", fmt.Errorf("%w: on %s; somebody may be holding back newer ones: ask who runs the registry, or check this machine's clock", ErrExpired, day)
}
