package finetune

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/vision/dataset"
	"github.com/go-modelzoo/zoo/weights"
)

// A file of features has at most about so many bytes, which are held in memory while it is made, and so many rows, which are computed anew
// after an interruption.
const (
	shardBytes = 64 << 20
	shardRows  = 1024
)

const (
	shardFeatures = "features"    // the tensor in a shard
	shardBad      = "zoo.skipped" // the metadata of a shard that say which images were found unreadable up to it, as in the manifest
)

// featureManifest is the last file of a cache entry to be written: with it the entry is complete.
type featureManifest struct {
	Images   int            `json:"images"`
	Views    int            `json:"views"`
	Shape    graph.Shape    `json:"shape"`
	PerShard int            `json:"per_shard"`
	Shards   int            `json:"shards"`
	Bad      map[int]string `json:"bad,omitempty"` // position -> error
}

// FileFeatures is the file in a folder of cached features that describes them, the last to be written; its time says when they were last used.
const FileFeatures = "features.json"

// maxManifest bounds that file, in bytes: it names what could not be read of the images.
const maxManifest = 256 << 20

func shardPath(dir string, i int) string {
	return filepath.Join(dir, fmt.Sprintf("features-%04d.safetensors", i))
}

// featureWriter writes rows of features, one for each image and view, shard by shard.
type featureWriter struct {
	featureManifest
	dir       string
	bad       func() []dataset.BadImage // found so far
	positions map[string][]int          // of an image, by its path
	written   int                       // shards
	shard     []float32
}

// newFeatureWriter returns a writer into dir that goes on behind the whole shards that are there. bad tells which images could not be read.
func newFeatureWriter(dir string, d *dataset.Dataset, views int, shape graph.Shape, bad func() []dataset.BadImage) *featureWriter {
	w := &featureWriter{dir: dir, bad: bad, positions: make(map[string][]int), featureManifest: featureManifest{
		Images: len(d.Samples), Views: views, Shape: shape, Bad: map[int]string{},
	}}
	for i, s := range d.Samples {
		w.positions[s.Path] = append(w.positions[s.Path], i)
	}
	w.PerShard = min(max(1, shardBytes/(4*w.size())), shardRows)
	w.Shards = (w.total() + w.PerShard - 1) / w.PerShard
	for w.written < w.Shards && w.takeShard() == nil {
	}
	w.shard = make([]float32, 0, min(w.PerShard, w.total())*w.size())
	return w
}

// size is the number of values of a row.
func (w *featureWriter) size() int { return w.Shape.Elements() }

func (w *featureWriter) total() int { return w.Images * w.Views }

// rows is the number of rows there are.
func (w *featureWriter) rows() int {
	return min(w.written*w.PerShard+len(w.shard)/w.size(), w.total())
}

// takeShard counts the next shard as written if it is there.
func (w *featureWriter) takeShard() error {
	file, err := weights.Open(shardPath(w.dir, w.written))
	if err != nil {
		return err
	}
	defer file.Close() // was opened for reading
	values, err := file.Param(shardFeatures)
	if err != nil {
		return err
	}
	if want := min(w.PerShard, w.total()-w.rows()) * w.size(); len(values) != want {
		return fmt.Errorf("%d values instead of %d", len(values), want)
	}
	if err := json.Unmarshal([]byte(file.Metadata()[shardBad]), &w.Bad); err != nil {
		return err
	}
	w.written++
	return nil
}

// add sets a row, unless it is there. Rows that were left out before it are zeros.
func (w *featureWriter) add(row int, values []float32) error {
	if row < w.rows() {
		return nil
	}
	if err := w.padTo(row); err != nil {
		return err
	}
	return w.append(values)
}

// padTo leaves rows out until there are so many.
func (w *featureWriter) padTo(rows int) error {
	for w.rows() < rows {
		if err := w.append(make([]float32, w.size())); err != nil {
			return err
		}
	}
	return nil
}

func (w *featureWriter) append(values []float32) error {
	w.shard = append(w.shard, values...)
	if len(w.shard) < w.PerShard*w.size() {
		return nil
	}
	return w.flush()
}

// flush writes a shard.
func (w *featureWriter) flush() error {
	for _, b := range w.bad() {
		for _, i := range w.positions[b.Path] {
			w.Bad[i] = b.Err.Error()
		}
	}
	bad, err := json.Marshal(w.Bad)
	if err != nil {
		return err
	}
	list := []weights.Tensor{weights.FromFloat32(shardFeatures, []int{len(w.shard) / w.size(), w.size()}, w.shard)}
	if err := writeFile(shardPath(w.dir, w.written), func(f io.Writer) error {
		return weights.WriteSafetensors(f, list, map[string]string{shardBad: string(bad)})
	}); err != nil {
		return err
	}
	w.written++
	w.shard = w.shard[:0]
	return nil
}

// finish writes what is left, and the manifest.
func (w *featureWriter) finish() error {
	if len(w.shard) > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	data, err := json.Marshal(w.featureManifest)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(w.dir, FileFeatures), func(f io.Writer) error { _, err := f.Write(data); return err })
}
