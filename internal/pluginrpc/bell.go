package pluginrpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"
)

// BellSize is the size in bytes of a bell in the shared memory.
const BellSize = 64 << 10

// Where the parts of a bell lie, in bytes. Words are 32 bits, little-endian, each on a cache line of its own.
const (
	bellAttended     = 0   // 1 once the plugin waits for calls
	bellAsked        = 64  // how many calls the host has made
	bellAnswered     = 128 // how many the plugin has answered
	bellPluginSleeps = 192 // 1 while the plugin sleeps on this word, or is about to
	bellHostSleeps   = 256 // likewise the host
	bellRequestSize  = 320
	bellStatus       = 384
	bellResponseSize = 388
	bellRequest      = 512
	bellResponse     = BellSize / 2
)

// Sizes of the messages that fit in a bell, in bytes.
const (
	MaxBellRequest  = bellResponse - bellRequest
	MaxBellResponse = BellSize - bellResponse
)

// ErrNoBell says that a bell cannot be used: this system cannot wait for memory to change, or the plugin is not there.
var ErrNoBell = errors.New("no bell")

// ErrGone says that the other side ended while it was waited for.
var ErrGone = errors.New("the other side of the bell is gone")

// Bell is a part of the shared memory through which the host makes one call at a time without a message through a socket: it puts the request
// there, counts up a word and wakes the plugin, which waits for that word, and the answer comes the same way. A call through gRPC wakes four
// goroutines one after another; here each side wakes one thread of the other, on whose processor it then sleeps.
//
// The other side may write anything anywhere in it at any time: what is read is copied first and its length checked. What a plugin gains by
// breaking the order is a wrong answer of its own or a deadline.
//
// A Bell belongs to one goroutine at a time on either side.
type Bell struct {
	data                      []byte
	attended, asked, answered *atomic.Uint32
	pluginSleeps, hostSleeps  *atomic.Uint32
	calls                     uint32 // made by this side's host: its own count, whatever stands in the memory
}

// NewBell returns the bell in a part of the shared memory that is zero, or was attended before. The part begins at a page.
func NewBell(data []byte) (*Bell, error) {
	if !canSleep {
		return nil, ErrNoBell
	}
	if len(data) < BellSize {
		return nil, fmt.Errorf("a bell has %d bytes, not %d", BellSize, len(data))
	}
	b := &Bell{data: data[:BellSize:BellSize]}
	b.attended, b.asked, b.answered = b.word(bellAttended), b.word(bellAsked), b.word(bellAnswered)
	b.pluginSleeps, b.hostSleeps = b.word(bellPluginSleeps), b.word(bellHostSleeps)
	return b, nil
}

func (b *Bell) word(at int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&b.data[at])) }

// Reset makes a bell new, for memory that was used before. The host calls it before the plugin knows of the bell.
func (b *Bell) Reset() {
	clear(b.data[:bellRequest])
	b.calls = 0
}

// Attended reports whether the plugin has begun to wait for calls.
func (b *Bell) Attended() bool { return b.attended.Load() == 1 }

// Ask makes a call. It fails if the request is too large for a bell. Answer must follow before the next Ask.
func (b *Bell) Ask(request []byte) error {
	if len(request) > MaxBellRequest {
		return fmt.Errorf("a request of %d bytes does not fit the %d of a bell", len(request), MaxBellRequest)
	}
	copy(b.data[bellRequest:], request)
	binary.LittleEndian.PutUint32(b.data[bellRequestSize:], uint32(len(request)))
	b.calls++
	b.asked.Store(b.calls)
	rouse(b.pluginSleeps)
	return nil
}

// pace is how often the host looks whether the plugin still lives while it waits for an answer.
const pace = 50 * time.Millisecond

// Answer waits for the answer to the call. It ends early with the context's error, and may then be called again, or with ErrGone once gone is closed.
func (b *Bell) Answer(ctx context.Context, gone <-chan struct{}) (status uint32, response []byte, err error) {
	defer context.AfterFunc(ctx, func() { rouse(b.hostSleeps) })()
	there := func() bool { return b.answered.Load() == b.calls }
	for !there() {
		if err := ctx.Err(); err != nil {
			return 0, nil, err
		}
		select {
		case <-gone:
			return 0, nil, ErrGone
		default:
		}
		sleep(b.hostSleeps, func() bool { return there() || ctx.Err() != nil }, pace)
	}
	size := binary.LittleEndian.Uint32(b.data[bellResponseSize:])
	if size > MaxBellResponse {
		return 0, nil, fmt.Errorf("an answer of %d bytes where a bell has room for %d", size, MaxBellResponse)
	}
	response = append([]byte(nil), b.data[bellResponse:bellResponse+size]...)
	return binary.LittleEndian.Uint32(b.data[bellStatus:]), response, nil
}

// Attend answers calls until the context ends. An answer that is too large for a bell is cut off.
func (b *Bell) Attend(ctx context.Context, answer func(request []byte) (status uint32, response []byte)) {
	defer context.AfterFunc(ctx, func() { rouse(b.pluginSleeps) })()
	done := b.answered.Load()
	b.attended.Store(1)
	defer b.attended.Store(0)
	called := func() bool { return b.asked.Load() != done }
	for ctx.Err() == nil {
		if !called() {
			sleep(b.pluginSleeps, func() bool { return called() || ctx.Err() != nil }, forever)
			continue
		}
		size := min(binary.LittleEndian.Uint32(b.data[bellRequestSize:]), MaxBellRequest)
		status, response := answer(append([]byte(nil), b.data[bellRequest:bellRequest+size]...))
		n := copy(b.data[bellResponse:], response)
		binary.LittleEndian.PutUint32(b.data[bellResponseSize:], uint32(n))
		binary.LittleEndian.PutUint32(b.data[bellStatus:], status)
		done++
		b.answered.Store(done)
		rouse(b.hostSleeps)
	}
}

// forever stands for a wait without a limit.
const forever = time.Duration(-1)

// sleep waits until the word is roused, but not if awake says that there is no need. It may return early.
func sleep(word *atomic.Uint32, awake func() bool, most time.Duration) {
	word.Store(1)
	if !awake() {
		futexWait(word, 1, most)
	}
	word.Store(0)
}

// rouse ends the sleep of whoever sleeps on the word. What it slept for must have been written before.
func rouse(word *atomic.Uint32) {
	if word.Swap(0) == 1 {
		futexWake(word)
	}
}
