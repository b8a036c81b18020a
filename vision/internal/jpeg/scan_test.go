package jpeg

import (
	"strings"
	"testing"
)

func TestSmallFileThatScansALargeImageManyTimesRefused(t *testing.T) {
	d := &decoder{width: 1 << 14, height: 1 << 14, comps: make([]component, 1), scans: 16}
	if err := d.scan(nil); err == nil || !strings.Contains(err.Error(), "more than 16 scans of 16384×16384") {
		t.Error(err)
	}
}
