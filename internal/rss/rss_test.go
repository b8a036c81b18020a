package rss

import (
	"os"
	"runtime"
	"strconv"
	"testing"
)

func TestPeakMemoryGrowsWithWhatIsTouched(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "windows" {
		t.Skip("this system does not tell")
	}
	before, err := Peak("self")
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<20)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	runtime.KeepAlive(block)
	for _, process := range []string{"self", strconv.Itoa(os.Getpid())} {
		if after, err := Peak(process); err != nil || after < before+48<<20 {
			t.Errorf("%s: %d bytes, %d before, %v", process, after, before, err)
		}
	}
}
