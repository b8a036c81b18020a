package vision

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/internal/shared"
	"github.com/go-modelzoo/zoo/vision/internal/pil"
)

func photographs(tb testing.TB) []string {
	tb.Helper()
	var paths []string
	for _, name := range []string{"data/imagenet-sample", "data/hymenoptera"} {
		err := filepath.WalkDir(shared.Path(tb, name), func(path string, e fs.DirEntry, err error) error {
			if ext := strings.ToLower(filepath.Ext(path)); err == nil && (ext == ".jpg" || ext == ".jpeg") {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	return paths
}

func TestPhotographsEqualPIL(t *testing.T) {
	paths := photographs(t)
	out := pil.Run(t, "", `
import sys, hashlib, json
from PIL import Image, ImageOps
d = {}
for p in sys.stdin.read().split('\n'):
    im = ImageOps.exif_transpose(Image.open(p)).convert('RGB')
    d[p] = hashlib.sha256(im.tobytes()).hexdigest()
print(json.dumps(d))`, []byte(strings.Join(paths, "\n")))
	var want map[string]string
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	equal := 0
	for _, path := range paths {
		img, err := DecodeFile(path, Limits{})
		if err != nil {
			t.Error(err)
			continue
		}
		if fmt.Sprintf("%x", sha256.Sum256(img.Pix)) == want[path] {
			equal++
		} else {
			t.Errorf("%s: pixels differ from PIL's", path)
		}
	}
	t.Logf("%d of %d photographs decode to PIL's bytes", equal, len(paths))
}

func BenchmarkDecodeJPEG(b *testing.B) {
	var files [][]byte
	pixels := 0
	for i, path := range photographs(b) {
		if i%8 != 0 {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		img, err := DecodeBytes(data, Limits{})
		if err != nil {
			b.Fatal(err)
		}
		files, pixels = append(files, data), pixels+img.Width*img.Height
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for _, data := range files {
			if _, err := DecodeBytes(data, Limits{}); err != nil {
				b.Fatal(err)
			}
		}
		n++
	}
	b.ReportMetric(float64(pixels)*float64(n)/1e6/b.Elapsed().Seconds(), "Mpixel/s")
	b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(n*len(files)), "ms/image")
}
