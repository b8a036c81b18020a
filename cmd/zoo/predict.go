package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/internal/ui"
	"github.com/go-modelzoo/zoo/vision/dataset"
)

// imageResult is an element of what `zoo predict -o json` prints.
type imageResult struct {
	Image string                  `json:"image"`
	Top   []classifier.Prediction `json:"top,omitempty"`
	Error string                  `json:"error,omitempty"`
}

func newPredict(a *app) *cobra.Command {
	var top, batch int
	cmd := &cobra.Command{
		Use:   "predict [MODEL] IMAGE|DIR|-...",
		Short: "Classify images: files, folders (with their subfolders), or standard input",
		Long: `Classify images: files, folders (with their subfolders), or standard input (-).

The model may be left out: then the one inside the program is used (resnet20, which tells ten kinds of things apart).`,
		Example: `  zoo predict squeezenet1_1 cat.jpg
  zoo predict resnet50 photos/ --top 3 -o json
  curl -s https://example.org/dog.jpg | zoo predict mobilenet_v2 -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if top < 1 {
				return usagef("--top %d: ask for at least 1 class", top)
			}
			if batch < 1 {
				return usagef("--batch %d: at least 1 image runs", batch)
			}
			if err := stdinOnce(args); err != nil {
				return err
			}
			c, err := a.open()
			if err != nil {
				return err
			}
			model, paths := args[0], args[1:]
			if len(paths) == 0 {
				model, paths = classifier.EmbeddedModel, args
			}
			items, err := imageItems(paths, cmd.InOrStdin())
			if err != nil && len(args) == 1 {
				return fmt.Errorf("%w; if %s is a model, name an image too: zoo predict %s IMAGE", err, args[0], args[0])
			}
			if err != nil {
				return err
			}
			m, err := c.Load(cmd.Context(), model, classifier.LoadOptions{Batch: batch})
			if err != nil {
				return err
			}
			defer m.Close()
			return a.predict(cmd, m, items, top)
		},
	}
	cmd.Flags().IntVar(&top, "top", 5, "print this many classes")
	cmd.Flags().IntVar(&batch, "batch", 8, "images that run together")
	return cmd
}

func (a *app) predict(cmd *cobra.Command, m *classifier.Model, items []classifier.Item, top int) error {
	var results []imageResult
	failed := 0
	err := a.stream(cmd, m, items, "classifying", func(r classifier.Result) error {
		res := imageResult{Image: r.Item.Name}
		if r.Err != nil {
			failed++
			res.Error = r.Err.Error()
		} else {
			res.Top = m.Top(r.Outputs[0], top)
		}
		results = append(results, res)
		return nil
	})
	if err != nil {
		return err
	}
	if len(items) == 1 && failed == 1 {
		return errors.New(results[0].Error)
	}
	if err := a.Print(results, func(w io.Writer) error { return printPredictions(w, results) }); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d images could not be classified", failed, len(items))
	}
	return nil
}

// stream runs images, and shows how many are done if there are several.
func (a *app) stream(cmd *cobra.Command, m *classifier.Model, items []classifier.Item, doing string, each func(classifier.Result) error) error {
	bars := a.Progress()
	defer bars.Close()
	var meter *ui.Meter
	if len(items) > 1 {
		meter = bars.Items(doing, "images", int64(len(items)))
	}
	var done int64
	err := m.Stream(cmd.Context(), slices.Values(items), func(r classifier.Result) error {
		if err := each(r); err != nil {
			return err
		}
		done++
		meter.Set(done, 0)
		return nil
	})
	if err == nil {
		meter.Done()
	}
	return err
}

func printPredictions(w io.Writer, results []imageResult) error {
	var rows [][]string
	for _, r := range results {
		if r.Error != "" {
			rows = append(rows, []string{r.Image, "", "", r.Error})
			continue
		}
		name := r.Image
		for _, p := range r.Top {
			rows = append(rows, []string{name, fmt.Sprintf("%5.1f %%", 100*p.Prob), ui.Bar(p.Prob, 16), className(p)})
			name = ""
		}
	}
	return ui.Table(w, nil, rows)
}

// className is what people call a class.
func className(p classifier.Prediction) string {
	if p.Class == "" {
		return fmt.Sprintf("class %d", p.Index)
	}
	return p.Class
}

// stdinOnce refuses arguments that name standard input twice: two readers would take parts of one image each.
func stdinOnce(args []string) error {
	if i := slices.Index(args, "-"); i >= 0 && slices.Contains(args[i+1:], "-") {
		return usagef("- is given twice: standard input holds one image, so name it once")
	}
	return nil
}

// imageItems lists the images that paths name: files as they are, folders with all image files below them, "-" standard input.
func imageItems(paths []string, stdin io.Reader) ([]classifier.Item, error) {
	var items []classifier.Item
	for _, p := range paths {
		if p == "-" {
			items = append(items, classifier.Item{Name: "-", Open: func() (io.ReadCloser, error) { return io.NopCloser(stdin), nil }})
			continue
		}
		info, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("image %s cannot be read: %w", p, unwrapPath(err))
		}
		if !info.IsDir() {
			items = append(items, classifier.Item{Name: p})
			continue
		}
		images, _, err := dataset.Images(p)
		if err != nil {
			return nil, err
		}
		images = slices.DeleteFunc(images, func(path string) bool { // as macOS has them beside each photo on another system's disk
			return strings.HasPrefix(filepath.Base(path), ".")
		})
		if len(images) == 0 {
			return nil, fmt.Errorf("folder %s holds no image file (.jpg, .png, .webp, …)", p)
		}
		for _, path := range images {
			items = append(items, classifier.Item{Name: path})
		}
	}
	return items, nil
}

// unwrapPath drops the operation and the path from a file error, since the message around it names the file.
func unwrapPath(err error) error {
	if e, ok := err.(*fs.PathError); ok {
		return e.Err
	}
	return err
}
