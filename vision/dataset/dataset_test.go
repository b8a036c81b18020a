package dataset

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/internal/shared"
	"github.com/go-modelzoo/zoo/vision"
	"github.com/go-modelzoo/zoo/vision/internal/pil"
	"github.com/go-modelzoo/zoo/vision/transforms"
)

// write makes a file and the folders above it; a name with an image extension gets a small picture for nil content.
func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if content != nil {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	m := image.NewRGBA(image.Rect(0, 0, 20, 12))
	for i := range m.Pix {
		m.Pix[i] = uint8(i*7 + len(path)*31 + int(path[len(path)-5]))
	}
	for i := 3; i < len(m.Pix); i += 4 {
		m.Pix[i] = 255
	}
	m.Set(0, 0, color.White)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(png.Encode(f, m), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// folder makes a data folder with the given number of images in each class.
func folder(t *testing.T, counts map[string]int) string {
	dir := t.TempDir()
	for class, n := range counts {
		for i := range n {
			write(t, filepath.Join(dir, class, fmt.Sprintf("%03d.png", i)), nil)
		}
	}
	return dir
}

func mustFolder(t *testing.T, counts map[string]int) *Dataset {
	t.Helper()
	d, err := ImageFolder(folder(t, counts))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestImageFolderOrderEqualsTorchvision(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"b/x.png", "b/a b.png", "a/z.PNG", "a/sub/1.png", "a/sub-2/1.png", "a/sub/deep/0.png", "a/A.png", "Zebra/é.png", "Zebra/z.png", "éa/1.png", "a/.hidden.png",
	} {
		write(t, filepath.Join(dir, name), nil)
	}
	write(t, filepath.Join(dir, "a/notes.txt"), []byte("x"))
	write(t, filepath.Join(dir, "a/anim.gif"), []byte("x"))
	write(t, filepath.Join(dir, "beside.png"), nil)
	d, err := ImageFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Ignored) != 2 {
		t.Errorf("ignored %v, want the .txt and the .gif", d.Ignored)
	}
	want := string(pil.Run(t, "from torchvision.datasets import ImageFolder", `
import sys
d = ImageFolder(sys.stdin.read())
sys.stdout.buffer.write('\n'.join(d.classes + ['%s %d' % s for s in d.samples]).encode())`, []byte(dir)))
	got := slices.Clone(d.Classes)
	for _, s := range d.Samples {
		got = append(got, fmt.Sprintf("%s %d", s.Path, s.Label))
	}
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}

func TestLinkLoopEnds(t *testing.T) {
	dir := folder(t, map[string]int{"a": 1, "b": 1})
	if err := os.Symlink("..", filepath.Join(dir, "a", "up")); err != nil {
		t.Skip(err)
	}
	if d, err := ImageFolder(dir); err != nil || len(d.Samples) != 3 { // b's image is below a too
		t.Errorf("%+v, %v: a folder was entered more than once", d, err)
	}
}

// TestLinksLeadToImages has classes and images that lie elsewhere, a link to nothing, which whoever reads the image reports, and one to what
// never ends, which must not be read.
func TestLinksLeadToImages(t *testing.T) {
	elsewhere := folder(t, map[string]int{"a": 2, "more": 1})
	dir := folder(t, map[string]int{"b": 1})
	for from, to := range map[string]string{
		"a": filepath.Join(elsewhere, "a"), "b/below": filepath.Join(elsewhere, "more"), "b/image.png": filepath.Join(elsewhere, "a", "000.png"),
		"b/lost.png": filepath.Join(elsewhere, "nothing.png"), "b/zero.png": os.DevNull,
	} {
		if err := os.Symlink(to, filepath.Join(dir, filepath.FromSlash(from))); err != nil {
			t.Skip(err)
		}
	}
	d, err := ImageFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range d.Samples {
		name, err := filepath.Rel(dir, s.Path)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprint(filepath.ToSlash(name), " ", s.Label))
	}
	want := []string{"a/000.png 0", "a/001.png 0", "b/000.png 1", "b/image.png 1", "b/lost.png 1", "b/below/000.png 1"}
	if !slices.Equal(names, want) {
		t.Errorf("images %v, want %v", names, want)
	}
	if len(d.Ignored) != 1 || filepath.Base(d.Ignored[0]) != "zero.png" {
		t.Errorf("ignored %v, want what is no file", d.Ignored)
	}
}

// Emacs locks what it edits by a link ".#NAME" that leads nowhere: a folder with one was no data folder.
func TestLockOfAnEditorIsNoClass(t *testing.T) {
	dir := folder(t, map[string]int{"a": 1, "b": 1})
	if err := os.Symlink("me@machine.1234:1", filepath.Join(dir, ".#notes.txt")); err != nil {
		t.Skip(err)
	}
	if d, err := ImageFolder(dir); err != nil || !slices.Equal(d.Classes, []string{"a", "b"}) {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestBadFoldersGetOneLine(t *testing.T) {
	empty := t.TempDir()
	noImages := t.TempDir()
	write(t, filepath.Join(noImages, "a", "x.txt"), []byte("x"))
	for _, dir := range []string{empty, noImages, filepath.Join(empty, "absent")} {
		_, err := ImageFolder(dir)
		if err == nil || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %q does not name %s in one line", err, dir)
		}
	}
	one := mustFolder(t, map[string]int{"only": 3})
	if err := one.CheckTrainable(); err == nil || !strings.Contains(err.Error(), "one class only (only)") {
		t.Errorf("one class: %v", err)
	}
	few := &Dataset{Classes: []string{"a", "b", "c"}, Samples: []Sample{{"x", 0}, {"y", 1}}}
	if err := few.CheckTrainable(); err == nil || !strings.Contains(err.Error(), "more classes (3) than images (2)") {
		t.Errorf("few images: %v", err)
	}
}

func TestLoaderOfNothingRefused(t *testing.T) {
	if err := new(Dataset).CheckTrainable(); err == nil || !strings.Contains(err.Error(), "no image") {
		t.Errorf("no image: %v", err)
	}
	d := &Dataset{Classes: []string{"a"}, Samples: []Sample{{"x", 0}}}
	for want, c := range map[string]LoaderConfig{
		"batch size 0": {Width: 1, Height: 1}, "image size 0x1": {BatchSize: 1, Height: 1}, "image size 1x0": {BatchSize: 1, Width: 1},
	} {
		if _, err := NewLoader(d, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %q", err, want)
		}
	}
	if _, err := NewLoader(new(Dataset), LoaderConfig{BatchSize: 1, Width: 1, Height: 1}); err == nil || !strings.Contains(err.Error(), "no image") {
		t.Errorf("a loader of no image: %v", err)
	}
}

func TestTrainValClassesAgree(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"train/a/1.png", "train/b/1.png", "train/c/1.png", "val/b/1.png", "val/c/1.png"} {
		write(t, filepath.Join(dir, name), nil)
	}
	train, val, err := TrainVal(dir)
	if err != nil || len(train.Samples) != 3 || val.Samples[0].Label != 1 || val.Samples[1].Label != 2 {
		t.Fatalf("train %v, val %v, error %v", train, val, err)
	}
	write(t, filepath.Join(dir, "val/d/1.png"), nil)
	if _, _, err := TrainVal(dir); err == nil || !strings.Contains(err.Error(), `"d"`) {
		t.Errorf("unknown class in val: %v", err)
	}
	if train, val, err = TrainVal(filepath.Join(dir, "train")); err != nil || val != nil || len(train.Classes) != 3 {
		t.Errorf("class folders alone: %v %v %v", train, val, err)
	}
}

// TestTrainFolderAloneSaysWhatIsWrongInIt has dir/train without dir/val, and a fault in it: it was taken for a data set of one class, "train".
func TestTrainFolderAloneSaysWhatIsWrongInIt(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "train/cats/1.png"), nil)
	if err := os.Mkdir(filepath.Join(dir, "train/dogs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, _, err := TrainVal(dir); err == nil || !strings.Contains(err.Error(), filepath.Join("train", "dogs")+" holds no image") {
		t.Errorf("error %v", err)
	}
	// Beside another class it is one itself.
	dir = t.TempDir()
	for _, name := range []string{"train/1.png", "tram/1.png"} {
		write(t, filepath.Join(dir, name), nil)
	}
	if train, val, err := TrainVal(dir); err != nil || val != nil || len(train.Classes) != 2 {
		t.Errorf("classes train and tram: %v %v %v", train, val, err)
	}
}

func TestEndlessCSVIsRefused(t *testing.T) {
	const zeros = "/dev/zero"
	if info, err := os.Stat(zeros); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Skip("there is no " + zeros)
	}
	if _, err := CSV(zeros, nil); err == nil || !strings.Contains(err.Error(), "more than 256 MB") {
		t.Errorf("error %v", err)
	}
}

func TestCSV(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"1.png", "2.png", "sub/3.png"} {
		write(t, filepath.Join(dir, name), nil)
	}
	absolute := filepath.Join(dir, "2.png")
	for name, c := range map[string]struct {
		text    string
		classes []string
		want    string // classes and labels, or what the error contains
	}{
		"names and heading":       {"path,label\n1.png,dog\nsub/3.png, cat\n" + absolute + ",dog,extra\n", nil, "[cat dog] 1 0 1"},
		"byte order mark":         {"\ufeff1.png,a\n2.png,b\n", nil, "[a b] 0 1"},
		"numbers":                 {"1.png,10\n2.png,9\n", nil, "[9 10] 1 0"},
		"indices of known":        {"1.png,2\n2.png,b\n", []string{"a", "b", "c"}, "[a b c] 2 1"},
		"label missing":           {"1.png,a\n2.png\nsub/3.png,\n", nil, "2 lines have no label, first line 2 (2.png)"},
		"image missing":           {"1.png,a\n9.png,b\n", nil, "line 2: "},
		"unknown label":           {"1.png,a\n2.png,x\n", []string{"a", "b"}, `label "x"`},
		"name of two":             {"1.png,a\n2.png,b\n", []string{"a", "b", "b"}, `label "b"`},
		"index of one of two":     {"1.png,a\n2.png,2\n", []string{"a", "b", "b"}, "[a b b] 0 2"},
		"index too large":         {"1.png,2\n", []string{"a", "b"}, `label "2"`},
		"empty":                   {"", nil, "no line"},
		"only a heading":          {"path,label\n", nil, "no line"},
		"quote that never closes": {"\"1.png,a\n", nil, "labels"},
	} {
		path := filepath.Join(dir, "labels.csv")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := CSV(path, c.classes)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(d.Classes)
			for _, s := range d.Samples {
				got += fmt.Sprint(" ", s.Label)
			}
		}
		if err == nil && got != c.want || err != nil && (!strings.Contains(got, c.want) || !strings.Contains(got, path) || strings.Contains(got, "\n")) {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

func TestSplitKeepsEveryClassOnBothSides(t *testing.T) {
	d := mustFolder(t, map[string]int{"a": 40, "b": 3, "c": 1, "d": 20})
	train, val, err := d.Split(0.2, 5)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(train.Counts(), val.Counts()); got != "[32 2 1 16] [8 1 0 4]" {
		t.Errorf("counts %s", got)
	}
	again, _, err := d.Split(0.2, 5)
	if err != nil || !slices.Equal(again.Samples, train.Samples) {
		t.Error("the same seed gave another split")
	}
	if other, _, err := d.Split(0.2, 6); err != nil || slices.Equal(other.Samples, train.Samples) {
		t.Error("another seed gave the same split")
	}
	for _, fraction := range []float64{0, 1, math.NaN()} {
		if _, _, err := d.Split(fraction, 5); err == nil {
			t.Errorf("fraction %v accepted", fraction)
		}
	}
	for _, fraction := range []float64{0.01, 0.99} { // of two images one each, and the only one is learnt from
		train, val, err := mustFolder(t, map[string]int{"a": 2, "b": 2, "c": 1}).Split(fraction, 5)
		if err != nil || fmt.Sprint(train.Counts(), val.Counts()) != "[1 1 1] [1 1 0]" {
			t.Errorf("fraction %v: %v, %v, %v", fraction, train, val, err)
		}
	}
}

func TestEpochsInOneOrder(t *testing.T) {
	d := &Dataset{Classes: []string{"a"}, Samples: make([]Sample, 50)}
	seen := map[string]string{}
	for seed := range uint64(3) {
		for epoch := range 4 {
			order := d.Order(Shuffled, seed, epoch)
			what := fmt.Sprintf("seed %d, epoch %d", seed, epoch)
			if other, ok := seen[fmt.Sprint(order)]; ok || slices.IsSorted(order) {
				t.Errorf("%s has the order of the folder or of %s", what, other)
			}
			seen[fmt.Sprint(order)] = what
			if !slices.Equal(order, d.Order(Shuffled, seed, epoch)) {
				t.Errorf("%s has two orders", what)
			}
			slices.Sort(order)
			if !slices.Equal(order, d.Order(Sequential, seed, epoch)) {
				t.Errorf("%s does not visit every image once", what)
			}
		}
	}
}

func TestIncompleteLastBatchGiven(t *testing.T) {
	d := mustFolder(t, map[string]int{"a": 9})
	for dropped, want := range map[bool][2]int{false: {3, 9}, true: {2, 8}} { // batches of four, and images
		c := config(2)
		c.DropLast = dropped
		l, err := NewLoader(d, c)
		if err != nil {
			t.Fatal(err)
		}
		if _, index := epoch(t, l, 0, 0); l.Batches() != want[0] || len(index) != want[1] {
			t.Errorf("without the last %v: %d images in %d batches, want %d in %d", dropped, len(index), l.Batches(), want[1], want[0])
		}
		for _, first := range []int{-1, l.Batches(), l.Batches() + 2} { // where an interrupted epoch was at its end
			if _, index := epoch(t, l, 0, first); len(index) != 0 {
				t.Errorf("from batch %d on there are %d images", first, len(index))
			}
		}
	}
}

func TestBalancedSamplingEvensOutClasses(t *testing.T) {
	d := mustFolder(t, map[string]int{"common": 90, "rare": 10})
	drawn := [2]int{}
	for epoch := range 20 {
		for _, i := range d.Order(Balanced, 1, epoch) {
			drawn[d.Samples[i].Label]++
		}
	}
	if drawn[0] < 900 || drawn[0] > 1100 {
		t.Errorf("drew %v of 2000", drawn)
	}
	if w := d.ClassWeights(); w[0] != 100./180 || w[1] != 5 {
		t.Errorf("weights %v", w)
	}
	d.Classes = append(d.Classes, "none") // as where no image of it can be read
	if w := d.ClassWeights(); w[0] != 100./180 || w[1] != 5 || w[2] != 0 {
		t.Errorf("weights %v with a class without images", w)
	}
	if order := d.Order(Balanced, 1, 0); len(order) != 100 {
		t.Errorf("%d draws with a class without images", len(order))
	}
}

// config is a loader's configuration with random transforms.
func config(workers int) LoaderConfig {
	return LoaderConfig{
		BatchSize: 4, Sampling: Shuffled, Seed: 3, Prepare: transforms.Resize{Size: 10},
		Transform: transforms.Compose{transforms.RandomResizedCrop{Size: 8}, transforms.RandomHorizontalFlip{}, transforms.ColorJitter{Brightness: 0.5}},
		Width:     8, Height: 8, Normalize: transforms.ImageNet(0, 0).Normalize(), Erase: &transforms.RandomErasing{}, Workers: workers,
	}
}

// epoch collects all batches.
func epoch(t *testing.T, l *Loader, n, first int) (images []float32, index []int) {
	t.Helper()
	for b, err := range l.Epoch(context.Background(), n, first) {
		if err != nil {
			t.Fatal(err)
		}
		if want := first + len(index)/l.config.BatchSize; b.Number != want && !l.config.SkipBad {
			t.Fatalf("batch %d has number %d", want, b.Number)
		}
		images, index = append(images, b.Images...), append(index, b.Index...)
		if len(b.Images) != b.N*b.Height*b.Width*b.Channels || len(b.Labels) != b.N {
			t.Fatalf("batch of %d holds %d values and %d labels", b.N, len(b.Images), len(b.Labels))
		}
		for i, at := range b.Index {
			if b.Labels[i] != l.data.Samples[at].Label {
				t.Fatalf("sample %d has label %d", at, b.Labels[i])
			}
		}
	}
	return images, index
}

func TestWorkersAndCacheDoNotChangeBatches(t *testing.T) {
	d := mustFolder(t, map[string]int{"a": 11, "b": 8})
	var want []float32
	var wantIndex []int
	for _, workers := range []int{1, 2, 7} {
		for _, cache := range []int64{0, 900, 1 << 20} {
			c := config(workers)
			c.CacheBytes = cache
			l, err := NewLoader(d, c)
			if err != nil {
				t.Fatal(err)
			}
			epoch(t, l, 0, 0)
			images, index := epoch(t, l, 1, 0)
			if want == nil {
				want, wantIndex = images, index
			}
			if !slices.Equal(images, want) || !slices.Equal(index, wantIndex) {
				t.Fatalf("%d workers, cache of %d bytes: other batches", workers, cache)
			}
			if len(index) != 19 || l.Batches() != 5 {
				t.Fatalf("%d images in %d batches", len(index), l.Batches())
			}
			if rest, _ := epoch(t, l, 1, 3); !slices.Equal(rest, want[3*4*8*8*3:]) {
				t.Fatal("an epoch resumed at batch 3 differs from the rest of a whole one")
			}
			used := int64(0)
			for _, m := range l.cache {
				used += int64(len(m.Pix))
			}
			if used > cache {
				t.Fatalf("cache holds %d bytes, budget %d", used, cache)
			}
		}
	}
}

func TestRepeatedDrawsAreAugmentedDifferently(t *testing.T) {
	c := config(2)
	c.Sampling = Balanced
	l, err := NewLoader(mustFolder(t, map[string]int{"common": 20, "rare": 1}), c)
	if err != nil {
		t.Fatal(err)
	}
	images, index := epoch(t, l, 0, 0)
	seen, size := map[string]bool{}, len(images)/len(index)
	rare := 0
	for i, at := range index {
		if at == 20 {
			rare++
			seen[fmt.Sprint(images[i*size:(i+1)*size])] = true
		}
	}
	if rare < 4 || len(seen) != rare {
		t.Errorf("%d draws of one image gave %d different ones", rare, len(seen))
	}
	if rest, _ := epoch(t, l, 0, 2); !slices.Equal(rest, images[2*c.BatchSize*size:]) {
		t.Error("an epoch resumed at batch 2 differs from the rest of a whole one")
	}
}

func TestBadImageNamedOrSkipped(t *testing.T) {
	dir := folder(t, map[string]int{"a": 5, "b": 5})
	bad := filepath.Join(dir, "b", "002.png")
	write(t, bad, []byte("\x89PNG\r\n\x1a\n"))
	d, err := ImageFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := config(3)
	c.Sampling = Sequential
	l, err := NewLoader(d, c)
	if err != nil {
		t.Fatal(err)
	}
	batches := 0
	for _, err = range l.Epoch(context.Background(), 0, 0) {
		if err != nil {
			break
		}
		batches++
	}
	if err == nil || !strings.Contains(err.Error(), bad) || batches != 1 {
		t.Errorf("after %d batches: %v", batches, err)
	}
	c.SkipBad = true
	if l, err = NewLoader(d, c); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, index := epoch(t, l, 0, 0); !slices.Equal(index, []int{0, 1, 2, 3, 4, 5, 6, 8, 9}) {
			t.Errorf("indices %v", index)
		}
	}
	if all := l.Bad(); len(all) != 1 || all[0].Path != bad {
		t.Errorf("bad images %v", all)
	}
	listed, err := d.Unreadable(context.Background(), vision.Limits{})
	if err != nil || len(listed) != 1 || listed[0].Path != bad || len(d.Without(listed).Samples) != 9 {
		t.Errorf("unreadable %v, %v", listed, err)
	}
	d.Samples = d.Samples[7:8]
	if l, err = NewLoader(d, c); err != nil {
		t.Fatal(err)
	}
	for _, err = range l.Epoch(context.Background(), 0, 0) {
	}
	if err == nil || !strings.Contains(err.Error(), "none of the images") {
		t.Errorf("no readable image: %v", err)
	}
}

// TestImagesBehindABadOneMoveUp has one in the middle of a batch: the next images keep their pixels and labels.
func TestImagesBehindABadOneMoveUp(t *testing.T) {
	dir := folder(t, map[string]int{"a": 3, "b": 4})
	d, err := ImageFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := config(2)
	c.Sampling, c.SkipBad, c.Prepare, c.Transform, c.Erase = Sequential, true, transforms.Resize{Width: 8, Height: 8}, nil, nil
	load := func() ([]float32, []int) {
		l, err := NewLoader(d, c)
		if err != nil {
			t.Fatal(err)
		}
		return epoch(t, l, 0, 0)
	}
	const size = 8 * 8 * 3
	want, _ := load()
	write(t, filepath.Join(dir, "a", "001.png"), []byte("no image"))
	write(t, filepath.Join(dir, "b", "001.png"), []byte("no image"))
	want = slices.Concat(want[:size], want[2*size:4*size], want[5*size:])
	if got, index := load(); !slices.Equal(index, []int{0, 2, 3, 5, 6}) || !slices.Equal(got, want) {
		t.Errorf("images %v, with pixels of their own: %v", index, slices.Equal(got, want))
	}
}

func TestImagesOfAnotherSizeOrNotErased(t *testing.T) {
	d := mustFolder(t, map[string]int{"a": 4})
	c := config(1)
	c.Prepare, c.Transform, c.Width, c.Height = transforms.Resize{Width: 4, Height: 16}, nil, 16, 4 // as many pixels
	l, err := NewLoader(d, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, err = range l.Epoch(context.Background(), 0, 0) {
	}
	if err == nil || !strings.Contains(err.Error(), "4x16") {
		t.Errorf("images of 4x16 pixels in a batch of 16x4: %v", err)
	}
	c.Width, c.Height, c.Erase = 4, 16, &transforms.RandomErasing{P: 1}
	if l, err = NewLoader(d, c); err != nil {
		t.Fatal(err)
	}
	images, _ := epoch(t, l, 0, 0)
	for i := range 4 {
		if !slices.Contains(images[i*4*16*3:][:4*16*3], 0) {
			t.Errorf("nothing is erased of image %d", i)
		}
	}
}

func TestBreakAndCancelEndEveryGoroutine(t *testing.T) {
	d := mustFolder(t, map[string]int{"a": 60, "b": 60})
	l, err := NewLoader(d, config(4))
	if err != nil {
		t.Fatal(err)
	}
	want, _ := epoch(t, l, 2, 0)
	for n := range 20 {
		ctx, cancel := context.WithCancel(context.Background())
		i := 0
		for _, err := range l.Epoch(ctx, n, 0) {
			if i == n/2 {
				if n%2 == 0 {
					break
				}
				cancel()
			}
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			i++
		}
		cancel()
		if i > n/2+3 {
			t.Fatalf("%d batches after the cancellation at %d", i, n/2)
		}
	}
	if again, _ := epoch(t, l, 2, 0); !slices.Equal(again, want) {
		t.Error("broken iterations changed a later one")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	if _, err := d.Unreadable(ctx, vision.Limits{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("unreadable after the deadline: %v", err)
	}
}

func BenchmarkLoaderHymenoptera(b *testing.B) {
	d, err := ImageFolder(shared.Path(b, "data/hymenoptera/train"))
	if err != nil {
		b.Fatal(err)
	}
	l, err := NewLoader(d, LoaderConfig{
		BatchSize: 8, Sampling: Shuffled, Transform: transforms.Compose{transforms.RandomResizedCrop{Size: 224}, transforms.RandomHorizontalFlip{}},
		Width: 224, Height: 224, Normalize: transforms.ImageNet(0, 0).Normalize(),
	})
	if err != nil {
		b.Fatal(err)
	}
	images := 0
	for n := 0; b.Loop(); n++ {
		for batch, err := range l.Epoch(context.Background(), n, 0) {
			if err != nil {
				b.Fatal(err)
			}
			images += batch.N
		}
	}
	b.ReportMetric(float64(images)/b.Elapsed().Seconds(), "images/s")
}
