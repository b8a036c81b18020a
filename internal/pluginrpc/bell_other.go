//go:build !linux

package pluginrpc

import (
	"sync/atomic"
	"time"
)

const canSleep = false

func futexWait(*atomic.Uint32, uint32, time.Duration) {}

func futexWake(*atomic.Uint32) {}
