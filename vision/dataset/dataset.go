// Package dataset reads labelled images: a folder per class as torchvision's ImageFolder, or a CSV of paths and labels, and
// feeds them in batches.
//
// A Dataset is a list of files with labels; its classes and its order are those of torchvision for the same folder. Nothing
// is decoded until a Loader asks for it. All that is random (splits, orders, augmentation) depends on seeds given by the
// caller and on nothing else, least of all on the number of workers.
//
// A Dataset is not modified after it has been made and is safe for concurrent use.
package dataset

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-modelzoo/zoo/internal/plural"
)

// Sample is an image file and the index of its class.
type Sample struct {
	Path  string
	Label int
}

// Dataset is a list of labelled image files.
type Dataset struct {
	Classes []string // names in order of their index
	Samples []Sample
	// Ignored lists the files found beside the samples that are no image by IsImage, such as .gif.
	Ignored []string
}

// extensions are torchvision's IMG_EXTENSIONS.
var extensions = []string{".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}

// IsImage reports whether a file name has one of the extensions that ImageFolder takes: .jpg .jpeg .png .ppm .bmp .pgm .tif
// .tiff .webp, in any case, as in torchvision. (.gif is not among them, although vision decodes it.)
func IsImage(name string) bool {
	return slices.Contains(extensions, strings.ToLower(filepath.Ext(name)))
}

// ImageFolder reads the layout dir/CLASS/.../image.jpg. The classes are the folders in dir in byte order, those with a name
// starting with a dot left out; the samples are in order of their class, then folder, then name.
func ImageFolder(dir string) (*Dataset, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	d := new(Dataset)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") { // an editor's lock is a link that leads nowhere
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path) // follows links
		if err != nil {
			return nil, fmt.Errorf("data folder: %w", err)
		}
		if info.IsDir() {
			d.Classes = append(d.Classes, e.Name())
		}
	}
	if len(d.Classes) == 0 {
		return nil, fmt.Errorf("data folder %s has no folder in it: put the images of each class into a folder named after the class", dir)
	}
	slices.Sort(d.Classes)
	for label, class := range d.Classes {
		before := len(d.Samples)
		if err := d.addFolder(filepath.Join(dir, class), label); err != nil {
			return nil, err
		}
		if len(d.Samples) == before {
			return nil, fmt.Errorf("class folder %s holds no image (%s): add some or remove the folder", filepath.Join(dir, class), strings.Join(extensions, " "))
		}
	}
	return d, nil
}

// addFolder adds the images in root and the folders below it.
func (d *Dataset) addFolder(root string, label int) error {
	images, others, err := Images(root)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	for _, path := range images {
		d.Samples = append(d.Samples, Sample{path, label})
	}
	d.Ignored = append(d.Ignored, others...)
	return nil
}

// Images lists the image files (IsImage) in dir and the folders below it, in order of folder, then name, as torchvision does, and apart from them
// the other files. Links to folders are followed, each folder being entered once, so that a loop ends.
func Images(dir string) (images, others []string, err error) {
	folders, err := foldersBelow(dir, map[string]bool{})
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(folders)
	for _, folder := range folders {
		entries, err := os.ReadDir(folder) // sorted by name
		if err != nil {
			return nil, nil, err
		}
		for _, e := range entries {
			path := filepath.Join(folder, e.Name())
			switch {
			case isFolder(path, e):
			case IsImage(path) && isFile(path, e):
				images = append(images, path)
			default:
				others = append(others, path)
			}
		}
	}
	return images, others, nil
}

// foldersBelow lists dir and the folders below it, but those that were seen.
func foldersBelow(dir string, seen map[string]bool) ([]string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil || seen[real] {
		return nil, err
	}
	seen[real] = true
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	folders := []string{dir}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !isFolder(path, e) {
			continue
		}
		below, err := foldersBelow(path, seen)
		if err != nil {
			return nil, err
		}
		folders = append(folders, below...)
	}
	return folders, nil
}

func isFolder(path string, e os.DirEntry) bool {
	if e.Type()&os.ModeSymlink == 0 {
		return e.IsDir()
	}
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// isFile says whether a path can be read without waiting for anybody. A broken link is left to the reader of the file.
func isFile(path string, e os.DirEntry) bool {
	if e.Type()&os.ModeSymlink == 0 {
		return e.Type().IsRegular()
	}
	info, err := os.Stat(path)
	return err != nil || info.Mode().IsRegular()
}

// TrainVal reads dir/train and dir/val (or dir/valid, dir/validation, dir/test) as two ImageFolders. The classes of the second
// must be among those of the first and are numbered as there. val is nil where dir has only class folders, which are then
// train.
func TrainVal(dir string) (train, val *Dataset, err error) {
	if info, err := os.Stat(filepath.Join(dir, "train")); err != nil || !info.IsDir() {
		train, err = ImageFolder(dir)
		return train, nil, err
	}
	for _, name := range []string{"val", "valid", "validation", "test"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			continue
		}
		if train, err = ImageFolder(filepath.Join(dir, "train")); err != nil {
			return nil, nil, err
		}
		if val, err = ImageFolder(path); err != nil {
			return nil, nil, err
		}
		if val, err = val.WithClasses(train.Classes); err != nil {
			return nil, nil, fmt.Errorf("data folder %s: %w", path, err)
		}
		return train, val, nil
	}
	// A folder "train" alone: its classes without a validation part, unless it is a class itself, beside others.
	if train, err = ImageFolder(filepath.Join(dir, "train")); err == nil {
		return train, nil, nil
	}
	if all, allErr := ImageFolder(dir); allErr == nil && len(all.Classes) > 1 {
		return all, nil, nil
	}
	return nil, nil, err
}

// WithClasses numbers the samples by another list of classes, which must have all of the dataset's names.
func (d *Dataset) WithClasses(classes []string) (*Dataset, error) {
	index := make([]int, len(d.Classes))
	for i, name := range d.Classes {
		if index[i] = slices.Index(classes, name); index[i] < 0 {
			return nil, fmt.Errorf("class %q is not one of the %d known classes", name, len(classes))
		}
	}
	out := &Dataset{Classes: classes, Samples: slices.Clone(d.Samples), Ignored: d.Ignored}
	for i := range out.Samples {
		out.Samples[i].Label = index[out.Samples[i].Label]
	}
	return out, nil
}

// maxCSV is more than a file of labels has: what never ends would else fill the memory.
const maxCSV = 256 << 20

// CSV reads lines "path,label"; further columns are ignored, and so is a first line whose path is no image file and does not
// exist. Relative paths are relative to the folder of the CSV. A label is a name or an index into classes. Where classes
// is nil, the classes are the labels that occur: in order of number where all are numbers, else in byte order. A file may have
// 256 MB, which is some millions of lines.
func CSV(path string, classes []string) (*Dataset, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("labels: %w", err)
	}
	defer f.Close() // opened for reading
	limited := &io.LimitedReader{R: f, N: maxCSV}
	r := csv.NewReader(limited)
	r.FieldsPerRecord, r.TrimLeadingSpace, r.ReuseRecord = -1, true, true
	d := &Dataset{Classes: classes}
	var labels []string
	var missing []string // lines without a label
	for first := true; ; first = false {
		record, err := r.Read()
		if limited.N == 0 {
			return nil, fmt.Errorf("labels %s: more than %d MB: name a file of lines \"path,label\"", path, maxCSV>>20)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("labels %s: %w", path, err)
		}
		line, _ := r.FieldPos(0)
		image, label := strings.TrimSpace(strings.TrimPrefix(record[0], "\ufeff")), ""
		if len(record) > 1 {
			label = strings.TrimSpace(record[1])
		}
		file := filepath.FromSlash(image)
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(path), file)
		}
		_, statErr := os.Stat(file)
		if first && statErr != nil && !IsImage(image) {
			continue // a heading
		}
		if label == "" {
			missing = append(missing, fmt.Sprintf("line %d (%s)", line, image))
			continue
		}
		if statErr != nil {
			return nil, fmt.Errorf("labels %s: line %d: %w", path, line, statErr)
		}
		d.Samples = append(d.Samples, Sample{Path: file})
		labels = append(labels, label)
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("labels %s: %s no label, first %s: write \"path,label\"", path, plural.Count(len(missing), "line has", "lines have"), missing[0])
	}
	if len(labels) == 0 {
		return nil, fmt.Errorf("labels %s: no line \"path,label\"", path)
	}
	if classes == nil {
		d.Classes = distinct(labels)
	}
	index := make(map[string]int, len(d.Classes))
	twins := map[string]int{} // the second index of a name that several classes have
	for i, name := range d.Classes {
		if _, ok := index[name]; !ok {
			index[name] = i
		} else if _, ok := twins[name]; !ok {
			twins[name] = i
		}
	}
	for i, label := range labels {
		n, ok := index[label]
		if twin, several := twins[label]; several {
			return nil, fmt.Errorf("labels %s: label %q of %s is the name of classes %d and %d: write the index", path, label, d.Samples[i].Path, n, twin)
		}
		if !ok {
			if n, err = strconv.Atoi(label); err != nil || n < 0 || n >= len(d.Classes) {
				return nil, fmt.Errorf("labels %s: label %q of %s is neither a class nor an index below %d", path, label, d.Samples[i].Path, len(d.Classes))
			}
		}
		d.Samples[i].Label = n
	}
	return d, nil
}

// distinct returns the different labels in order.
func distinct(labels []string) []string {
	all := slices.Clone(labels)
	slices.Sort(all)
	all = slices.Compact(all)
	numbers := make(map[string]int, len(all))
	for _, s := range all {
		n, err := strconv.Atoi(s)
		if err != nil {
			return all
		}
		numbers[s] = n
	}
	slices.SortStableFunc(all, func(a, b string) int { return numbers[a] - numbers[b] })
	return all
}

// Counts returns the number of samples of each class.
func (d *Dataset) Counts() []int {
	counts := make([]int, len(d.Classes))
	for _, s := range d.Samples {
		counts[s.Label]++
	}
	return counts
}

// byClass returns the indices of the samples of each class.
func (d *Dataset) byClass() [][]int {
	all := make([][]int, len(d.Classes))
	for i, s := range d.Samples {
		all[s.Label] = append(all[s.Label], i)
	}
	return all
}

// CheckTrainable reports a dataset that a classifier cannot be trained on.
func (d *Dataset) CheckTrainable() error {
	if len(d.Samples) == 0 {
		return errors.New("the data holds no image")
	}
	if len(d.Samples) < len(d.Classes) {
		return fmt.Errorf("the data has more classes (%d) than images (%d)", len(d.Classes), len(d.Samples))
	}
	used := 0
	for _, n := range d.Counts() {
		if n > 0 {
			used++
		}
	}
	if used < 2 {
		return fmt.Errorf("the data has one class only (%s): add images of at least one other", d.Classes[d.Samples[0].Label])
	}
	return nil
}

// ClassWeights returns weights inversely proportional to the size of a class, with mean 1 over the samples: N/(K*n), K being
// the number of classes that have samples. A class without samples has weight 0.
func (d *Dataset) ClassWeights() []float32 {
	counts := d.Counts()
	used := 0
	for _, n := range counts {
		if n > 0 {
			used++
		}
	}
	weights := make([]float32, len(counts))
	for i, n := range counts {
		if n > 0 {
			weights[i] = float32(float64(len(d.Samples)) / (float64(used) * float64(n)))
		}
	}
	return weights
}

// Split divides each class at random, so that about fraction of its samples (at least one of two or more, never all) go to
// val. The parts keep the dataset's order and depend on its samples and the seed alone.
func (d *Dataset) Split(fraction float64, seed uint64) (train, val *Dataset, err error) {
	if !(fraction > 0 && fraction < 1) {
		return nil, nil, fmt.Errorf("validation fraction %v is not between 0 and 1", fraction)
	}
	rng := rand.New(rand.NewPCG(seed, 0x53504c4954))
	held := make([]bool, len(d.Samples))
	for _, members := range d.byClass() {
		n := int(math.Round(fraction * float64(len(members))))
		if len(members) >= 2 {
			n = min(max(n, 1), len(members)-1)
		} else {
			n = 0
		}
		rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		for _, i := range members[:n] {
			held[i] = true
		}
	}
	train, val = &Dataset{Classes: d.Classes, Ignored: d.Ignored}, &Dataset{Classes: d.Classes}
	for i, s := range d.Samples {
		if held[i] {
			val.Samples = append(val.Samples, s)
		} else {
			train.Samples = append(train.Samples, s)
		}
	}
	if len(val.Samples) == 0 {
		return nil, nil, errors.New("no class has two images: nothing can be held back for validation")
	}
	return train, val, nil
}

// Sampling is the order in which an epoch visits the samples.
type Sampling uint8

const (
	Sequential Sampling = iota // every sample once, in order
	Shuffled                   // every sample once, in random order
	Balanced                   // as many draws as samples, with replacement, every class equally likely
)

// Order returns the indices of the samples that an epoch visits, which depend on the arguments alone.
func (d *Dataset) Order(how Sampling, seed uint64, epoch int) []int {
	n := len(d.Samples)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	rng := rand.New(rand.NewPCG(seed, 0x4f52444552+uint64(epoch)))
	switch how {
	case Shuffled:
		rng.Shuffle(n, func(i, j int) { order[i], order[j] = order[j], order[i] })
	case Balanced:
		byClass := slices.DeleteFunc(d.byClass(), func(members []int) bool { return len(members) == 0 })
		for i := range order {
			members := byClass[rng.IntN(len(byClass))]
			order[i] = members[rng.IntN(len(members))]
		}
	}
	return order
}
