//go:build !windows

package clock

import "time"

var began = time.Now()

func now() time.Duration { return time.Since(began) }
