package transforms

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-modelzoo/zoo/internal/shared"
	"github.com/go-modelzoo/zoo/vision"
)

// TestCropsOfPhotographsEqualGoldens decodes, resizes and crops real photographs and compares all bytes with those that PIL
// made for the reference logits.
func TestCropsOfPhotographsEqualGoldens(t *testing.T) {
	folder := shared.Path(t, "data/imagenet-sample")
	for _, c := range []struct {
		golden       string
		resize, crop int
	}{{"squeezenet1_1.caffe", 256, 227}, {"mobilenet_v2_1.0_224.tf", 256, 224}, {"mobilenet_v1_0.75_192.tf", 219, 192}} {
		data, err := os.ReadFile(shared.Path(t, "goldens/real/"+c.golden+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var golden struct {
			Images []struct {
				File string
				Sum  string `json:"crop_sha256"`
			}
		}
		if err := json.Unmarshal(data, &golden); err != nil {
			t.Fatal(err)
		}
		compared := 0
		for _, image := range golden.Images {
			path := filepath.Join(folder, image.File)
			if _, err := os.Stat(path); err != nil {
				continue // half of the images are not in the folder
			}
			img, err := vision.DecodeFile(path, vision.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if min(img.Width, img.Height) == 512 {
				continue // scaled down for the folder: the golden is of the original
			}
			out, err := ImageNet(c.resize, c.crop).Transform().Apply(img, NewScratch())
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%x", sha256.Sum256(out.Pix)); got != image.Sum {
				t.Errorf("%s: crop of %s is %.8s, want %.8s", c.golden, image.File, got, image.Sum)
			}
			compared++
		}
		t.Logf("%s: %d crops compared", c.golden, compared)
	}
}
