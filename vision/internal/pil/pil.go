// Package pil runs Python scripts with PIL and torchvision, the references of package vision's tests.
package pil

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// python returns the first interpreter that can import the modules, "" for none.
var python = sync.OnceValue(func() string {
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(name, "-c", "import PIL.Image").Run() == nil {
			return name
		}
	}
	return ""
})

// Run runs a script with the given standard input and returns its standard output. It skips the test where Python, PIL or
// another of the imported modules is missing.
func Run(tb testing.TB, imports, script string, stdin []byte) []byte {
	tb.Helper()
	name := python()
	if name == "" {
		tb.Skip("Python with PIL is needed: install python3-pil")
	}
	const unavailable = 77 // exit status where the imports fail
	guarded := fmt.Sprintf("import sys\ntry:\n    %s\nexcept ImportError:\n    sys.exit(%d)\n", imports, unavailable)
	if imports == "" {
		guarded = ""
	}
	var stderr strings.Builder
	cmd := exec.Command(name, "-c", guarded+script)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), &stderr
	out, err := cmd.Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == unavailable {
		tb.Skipf("Python cannot run %q: install python3-torchvision", imports)
	}
	if err != nil {
		tb.Fatalf("python: %v\n%s", err, stderr.String())
	}
	return out
}
