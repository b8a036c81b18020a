// Package ui is how the command line speaks: tables or JSON on standard output, one-line errors and progress bars on
// standard error. Bars appear only on terminals; nothing is coloured.
//
// A Console is used by one command at a time; Progress bars may be advanced from several goroutines.
package ui

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/mattn/go-isatty"
)

// Format is how results are printed.
type Format string

// Formats of `-o`.
const (
	Text Format = "text"
	JSON Format = "json"
)

// String implements pflag.Value.
func (f *Format) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *Format) Type() string { return "format" }

// Set implements pflag.Value.
func (f *Format) Set(s string) error {
	switch Format(s) {
	case Text, JSON:
		*f = Format(s)
		return nil
	}
	return fmt.Errorf("use text or json")
}

// Console is where a command prints.
type Console struct {
	Out, Err io.Writer
	Format   Format
	Quiet    bool // no progress
}

// Terminal reports whether w is a terminal.
func Terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
}

// JSON prints v on one line when the format is JSON and reports whether it did.
func (c *Console) JSON(v any) (bool, error) {
	if c.Format != JSON {
		return false, nil
	}
	enc := json.NewEncoder(c.Out)
	enc.SetEscapeHTML(false)
	return true, enc.Encode(v)
}

// Print prints v as JSON, or calls text to print it for people. What w could not write is an error though text ignores it.
func (c *Console) Print(v any, text func(w io.Writer) error) error {
	if done, err := c.JSON(v); done {
		return err
	}
	w := &textWriter{w: c.Out}
	if err := text(w); err != nil {
		return err
	}
	return w.err
}

// textWriter writes Plain text, and keeps the first error. Each call writes whole characters.
type textWriter struct {
	w   io.Writer
	err error
}

func (t *textWriter) Write(p []byte) (int, error) {
	if t.err == nil {
		_, t.err = io.WriteString(t.w, Plain(string(p)))
	}
	if t.err != nil {
		return 0, t.err
	}
	return len(p), nil
}

// Plain replaces the control characters of a text but for line ends and tabs: class names, licences and messages come from models, plugins
// and servers, and none of them may command a terminal.
func Plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// Note prints one line on standard error.
func (c *Console) Note(format string, args ...any) {
	fmt.Fprintln(c.Err, Plain(fmt.Sprintf(format, args...)))
}

// Table prints aligned columns with a header in capitals. Cells that begin with '\t' are aligned to the right.
func Table(w io.Writer, header []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if header != nil {
		fmt.Fprintln(tw, strings.ToUpper(strings.Join(header, "\t")))
	}
	for _, r := range rows {
		fmt.Fprintln(tw, strings.Join(r, "\t"))
	}
	return tw.Flush()
}

// Bar draws a share between 0 and 1 with eighth blocks over the given width.
func Bar(share float64, width int) string {
	share = min(max(share, 0), 1)
	eighths := int(share*float64(width)*8 + 0.5)
	bar := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		bar += string([]rune(" ▏▎▍▌▋▊▉")[rest])
	}
	return bar + strings.Repeat(" ", max(width-len([]rune(bar)), 0))
}

// Count prints a number with thousands separated by commas.
func Count(n int64) string {
	s := fmt.Sprint(n)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// Bytes prints a size with a decimal unit, such as "102.5 MB".
func Bytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1000, "kMGTPE"
	for v >= 999.95 && len(unit) > 1 {
		v, unit = v/1000, unit[1:]
	}
	return fmt.Sprintf("%.1f %cB", v, unit[0])
}

// ParseBytes reads a size such as "4GB", "512MiB" or "1000"; "" is 0.
func ParseBytes(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.') {
		i++
	}
	v, err := strconv.ParseFloat(s[:i], 64)
	unit, ok := map[string]float64{
		"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "t": 1e12, "tb": 1e12,
		"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
	}[strings.ToLower(strings.TrimSpace(s[i:]))]
	if err != nil || !ok || v < 0 || v*unit > 1<<62 {
		return 0, fmt.Errorf("%q is not a size such as 4GB or 512MiB", s)
	}
	return int64(v * unit), nil
}
