package host

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
)

// logRing keeps the last lines of a plugin's standard error, and the first line that says why a Go program died, which its stack
// traces would push out. It bounds memory whatever a plugin writes. It is safe for concurrent use.
type logRing struct {
	mu      sync.Mutex
	lines   []string // the oldest first
	count   int      // of all lines so far, those no longer kept too
	partial []byte
	fatal   string
	fatalAt int // the count before it
}

const (
	ringLines = 50
	ringBytes = 2000     // a line's
	lineBytes = 16 << 10 // of a line as it comes: hclog's has a stack in it
)

// Write implements io.Writer.
func (r *logRing) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		part := p
		if i >= 0 {
			part = p[:i]
		}
		r.partial = append(r.partial, part[:min(len(part), lineBytes-len(r.partial))]...)
		if i < 0 {
			return n, nil
		}
		r.add(string(r.partial))
		r.partial = r.partial[:0]
		p = p[i+1:]
	}
}

func (r *logRing) add(text string) {
	text = readable(text)
	if strings.TrimSpace(text) == "" {
		return
	}
	switch {
	case r.fatal == "" && isFatal(text):
		r.fatal, r.fatalAt = text, r.count
	case strings.HasPrefix(r.fatal, "SIGSEGV") && strings.HasPrefix(text, "runtime.(*spanQueue)."):
		// Go 1.26's garbage collector does not ask whether it got memory for its queues.
		r.fatal = "fatal error: cannot allocate memory for the garbage collector"
	}
	if len(r.lines) == ringLines {
		copy(r.lines, r.lines[1:])
		r.lines = r.lines[:ringLines-1]
	}
	r.lines = append(r.lines, text)
	r.count++
}

// mark returns a place in the log: after all that was written so far.
func (r *logRing) mark() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// last returns the kept lines, the fatal one at the end so that it counts as the last word.
func (r *logRing) last() []string { return r.since(0) }

// since returns the kept lines after a place, as last does.
func (r *logRing) since(mark int) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := append([]string(nil), r.lines[max(len(r.lines)-(r.count-mark), 0):]...)
	if len(r.partial) > 0 {
		lines = append(lines, string(r.partial))
	}
	if r.fatal != "" && r.fatalAt >= mark {
		lines = append(lines, r.fatal)
	}
	return lines
}

func isFatal(text string) bool {
	for _, prefix := range []string{"panic: ", "fatal error: ", "runtime: out of memory", "SIGSEGV", "unexpected fault address"} {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}

// outOfMemory reports whether the lines say that memory ran out.
func outOfMemory(lines []string) bool {
	for _, l := range lines {
		for _, sign := range []string{"out of memory", "cannot allocate memory", "std::bad_alloc", "MemoryError"} {
			if strings.Contains(l, sign) {
				return true
			}
		}
	}
	return false
}

// readable writes a JSON object of hclog as text, and shortens long lines.
func readable(text string) string {
	var entry struct {
		Message string `json:"@message"`
		Error   any    `json:"error"`
		Value   any    `json:"value"`
	}
	if strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &entry) == nil && entry.Message != "" {
		text = entry.Message
		for _, detail := range []any{entry.Error, entry.Value} {
			if s, ok := detail.(string); ok {
				text += ": " + s
			}
		}
	}
	return text[:min(len(text), ringBytes)]
}

// telling returns the last line.
func telling(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return line(lines[len(lines)-1], 300)
}
