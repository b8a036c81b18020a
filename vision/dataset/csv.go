package dataset

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-modelzoo/zoo/internal/plural"
)

// maxCSV is more than a file of labels has: what never ends would else fill the memory.
const maxCSV = 256 << 20

// CSV reads lines "path,label"; further columns are ignored, and so is a first line whose path is no image file and does not
// exist. Relative paths are relative to the folder of the CSV. A label is a name or an index into classes. Where classes
// is nil, the classes are the labels that occur: in order of number where all are numbers, else in byte order. A file may have
// 256 MiB, which is some millions of lines.
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
