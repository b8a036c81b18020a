package transforms

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"testing"

	"github.com/go-modelzoo/zoo/internal/preprocess"
	"github.com/go-modelzoo/zoo/vision/internal/pil"
)

func TestNormalizeEqualsTorchvisionToTheBit(t *testing.T) {
	img := picture(37, 29, 8)
	in := append([]byte{37, 29}, img.Pix...)
	for name, c := range map[string]struct {
		p      Preprocess
		python string
	}{
		"RGB": {ImageNet(0, 0), `T.Compose([T.ToTensor(), T.Normalize([.485, .456, .406], [.229, .224, .225])])(im).permute(1, 2, 0)`},
		"gray": {Preprocess{Channels: 1, Mean: [3]float32{.1307}, Std: [3]float32{.3081}},
			`T.Compose([T.Grayscale(), T.ToTensor(), T.Normalize([.1307], [.3081])])(im)`},
	} {
		want := pil.Run(t, "import torchvision.transforms as T", `
import sys
from PIL import Image
d = sys.stdin.buffer.read()
im = Image.frombytes('RGB', (d[0], d[1]), d[2:])
sys.stdout.buffer.write(`+c.python+`.contiguous().numpy().tobytes())`, in)
		dst := make([]float32, c.p.Normalize().Len(37, 29))
		if err := c.p.Apply(img, dst); err != nil {
			t.Fatal(err)
		}
		if len(want) != 4*len(dst) {
			t.Fatalf("%s: %d values, want %d", name, len(dst), len(want)/4)
		}
		for i, v := range dst {
			if bits := binary.LittleEndian.Uint32(want[4*i:]); math.Float32bits(v) != bits {
				t.Fatalf("%s: value %d is %v, want %v", name, i, v, math.Float32frombits(bits))
			}
		}
	}
}

func TestPreprocessReadsModelCards(t *testing.T) {
	var p Preprocess
	card := `{"resize": 236, "crop": 224, "interpolation": "bicubic", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}`
	if err := json.Unmarshal([]byte(card), &p); err != nil {
		t.Fatal(err)
	}
	want := ImageNet(236, 224)
	want.Interpolation = Bicubic
	if p != want || p.Validate() != nil {
		t.Errorf("read %+v, error %v", p, p.Validate())
	}
	off := false
	for _, bad := range []Preprocess{
		{Resize: -1}, {Crop: -1}, {Resize: preprocess.MaxSide + 1}, {Crop: preprocess.MaxSide + 1}, {Squash: true}, {Channels: 2}, {Interpolation: "cubic"}, {Std: [3]float32{1, 0, 1}}, {Std: [3]float32{-1, 1, 1}},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v accepted", bad)
		}
		if err := bad.Apply(picture(4, 4, 1), nil); err == nil {
			t.Errorf("%+v applied", bad)
		}
	}
	p.Antialias = &off
	img := picture(500, 400, 1)
	smooth, err := want.Transform().Apply(img, NewScratch())
	if err != nil {
		t.Fatal(err)
	}
	sharp, err := p.Transform().Apply(img, NewScratch())
	if err != nil {
		t.Fatal(err)
	}
	same := 0
	for i, v := range smooth.Pix {
		if v == sharp.Pix[i] {
			same++
		}
	}
	if same > len(smooth.Pix)/2 {
		t.Error("antialias false changes nothing")
	}
	if err := want.Apply(img, make([]float32, 5)); err == nil {
		t.Error("a destination of the wrong length was accepted")
	}
}
