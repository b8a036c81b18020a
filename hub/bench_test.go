package hub_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/registry"
)

// BenchmarkPullAgainstCurl pulls a safetensors file of 256 MB from this machine, in turns with curl and sha256sum of the same
// bytes, and reports the ratio of the median times (above 1: pulling is faster). Pulling flushes to disk; curl does not.
// ZOO_BENCH_DIR is where both write; a memory file system takes the disk out of the comparison.
func BenchmarkPullAgainstCurl(b *testing.B) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		b.Skip("curl is not installed")
	}
	dir := os.Getenv("ZOO_BENCH_DIR")
	if dir == "" {
		dir = b.TempDir()
	}
	w := newWorld(b, 64)
	w.file = checkpoint(b, 64<<20, registry.FormatSafetensors)
	path := filepath.Join(b.TempDir(), "file.safetensors")
	if err := os.WriteFile(path, w.file, 0o644); err != nil {
		b.Fatal(err)
	}
	web := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(path))))
	defer web.Close()
	o := w.index.Models[0].Weights[0].Origin
	o.URL, o.SHA256, o.Size, o.Format = web.URL+"/file.safetensors", sha256Hex(w.file), int64(len(w.file)), registry.FormatSafetensors
	w.config.Index = encodeIndex(b, w.index)
	b.SetBytes(int64(len(w.file)))
	var ours, theirs []time.Duration
	for b.Loop() {
		b.StopTimer()
		out := filepath.Join(dir, "curl.out")
		begin := time.Now()
		if text, err := exec.Command("sh", "-c", `"$0" -sS -o "$1" "$2" && sha256sum "$1"`, curl, out, o.URL).CombinedOutput(); err != nil {
			b.Fatalf("%s: %v", text, err)
		}
		theirs = append(theirs, time.Since(begin))
		if err := os.Remove(out); err != nil {
			b.Fatal(err)
		}
		home, err := os.MkdirTemp(dir, "home")
		if err != nil {
			b.Fatal(err)
		}
		h := w.open(b, func(c *hub.Config) { c.Home, c.Progress = home, nil })
		b.StartTimer()
		begin = time.Now()
		pull(b, h, ref)
		ours = append(ours, time.Since(begin))
		b.StopTimer()
		if err := os.RemoveAll(home); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	b.ReportMetric(float64(theirs[len(theirs)/2])/float64(ours[len(ours)/2]), "curl+sha256sum/pull")
	b.ReportMetric(float64(len(w.file))/1e6/theirs[len(theirs)/2].Seconds(), "curl-MB/s")
}
