package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/go-modelzoo/zoo/internal/pluginrpc"
)

// What can go wrong with a plugin, for errors.Is.
var (
	// ErrNotFound says that no plugin serves the family, or no family has the model.
	ErrNotFound = errors.New("not found")
	// ErrRefused says that Options.Allow forbids the plugin.
	ErrRefused = errors.New("plugin refused")
	// ErrDigest says that a binary is not the one whose digest is on record.
	ErrDigest = errors.New("plugin binary was changed")
	// ErrStart says that a process did not start or did not introduce itself as a plugin.
	ErrStart = errors.New("plugin did not start")
	// ErrProtocol says that host and plugin share no protocol version, or that the plugin broke the protocol.
	ErrProtocol = errors.New("plugin protocol")
	// ErrUnsupported says that the plugin speaks a protocol version that lacks what was asked for.
	ErrUnsupported = errors.New("not supported by the plugin")
	// ErrCrashed says that the process ended during a call, twice if the call could be repeated.
	ErrCrashed = errors.New("plugin crashed")
	// ErrFailed says that a call failed inside the plugin, which runs on.
	ErrFailed = errors.New("plugin failed")
	// ErrTimeout says that the plugin did not answer in time and was killed.
	ErrTimeout = errors.New("plugin did not answer")
	// ErrMemory says that the plugin needed more memory than Options.Memory or the system has.
	ErrMemory = errors.New("plugin out of memory")
	// ErrNotFinite says that a plugin returned NaN or infinite logits.
	ErrNotFinite = errors.New("plugin returned NaN")
	// ErrClosed says that the host or the session was closed.
	ErrClosed = errors.New("closed")
)

// Error is a fault of a plugin. Its text is one line.
type Error struct {
	// Plugin is the family and its version, such as "resnet 1.2.0".
	Plugin string
	// Doing is what the plugin was asked to do, such as "classifying".
	Doing string
	// Kind is one of the package's errors.
	Kind error
	// Message is the line, complete but for the log.
	Message string
	// LastLog are the last lines that the plugin wrote to standard error: since the call began, unless the process ended. Calls that ran at the same
	// time have lines among them.
	LastLog []string
	// Cause is the error of the layer below, or nil.
	Cause error
}

// Error implements error.
func (e *Error) Error() string {
	if telling := telling(e.LastLog); telling != "" && !strings.Contains(e.Message, telling) {
		return e.Message + "; last log: " + telling
	}
	return e.Message
}

// Is implements errors.Is for the kind.
func (e *Error) Is(target error) bool { return target == e.Kind }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// line makes text from a plugin fit for a terminal: one line of at most n bytes without control characters.
func line(text string, n int) string {
	clean := func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if unicode.IsControl(r) || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}
	text = strings.TrimSpace(strings.Map(clean, strings.ToValidUTF8(text, "?")))
	if len(text) > n {
		text = strings.ToValidUTF8(text[:n], "") + "…"
	}
	return text
}

// report is text from a plugin for the user: several lines are allowed.
func report(text string) string {
	const most = 16 << 10
	var lines []string
	for l := range strings.Lines(text[:min(len(text), most)]) {
		indent := l[:len(l)-len(strings.TrimLeft(l, " "))]
		lines = append(lines, indent[:min(len(indent), 8)]+line(l, 2000))
	}
	return strings.Join(lines, "\n")
}

// cause returns why a context of the caller ended.
func cause(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return ctx.Err()
}

// bytesText writes a size as it was likely given: "4 GB", "1.5 GB", or "512 MiB" for a whole number of these.
func bytesText(n int64) string {
	type unit struct {
		size int64
		name string
	}
	units := []unit{{1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}}
	if n%(1<<20) == 0 {
		units = []unit{{1 << 30, "GiB"}, {1 << 20, "MiB"}}
	}
	for _, u := range units {
		if n >= u.size {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/float64(u.size)), ".0") + " " + u.name
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// unsupported says that the plugin's protocol lacks something.
func (p *process) unsupported(what string) error {
	return &Error{Plugin: p.plugin.String(), Doing: what, Kind: ErrUnsupported, Message: fmt.Sprintf(
		"%s cannot %s: it speaks plugin protocol %d and that needs %d: zoo plugin install %s", p.plugin, what, p.plugin.Protocol, pluginrpc.ProtocolEngine, p.plugin.Family)}
}
