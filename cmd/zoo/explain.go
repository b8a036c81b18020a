package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/files"
	"github.com/go-modelzoo/zoo/internal/ui"
	"github.com/go-modelzoo/zoo/vision"
	"github.com/go-modelzoo/zoo/weights"
)

// explanation is an element of what `zoo explain -o json` prints.
type explanation struct {
	Image string `json:"image"`
	*classifier.Prediction
	File  string `json:"file,omitempty"`
	Error string `json:"error,omitempty"`
}

func newExplain(a *app) *cobra.Command {
	var out, class, features string
	cmd := &cobra.Command{
		Use:   "explain MODEL IMAGE|DIR|-... --out FILE|DIR",
		Short: "Show which parts of images speak for a class, as a picture (Grad-CAM)",
		Long: `Show which parts of images speak for a class: the most probable one of each image, or --class. By Grad-CAM (Selvaraju et al., 2017).

--out is a picture (.png or .jpg) of one image, a folder for a .jpg of each, or a .npy file for the maps alone: [images, height, width].
In the pictures, the parts that speak for the class are covered with colours from dark to white; what the network does not see is darker.`,
		Example: `  zoo explain resnet50 cat.jpg --out why.png
  zoo explain resnet50 cat.jpg --class tabby --out why-tabby.png
  zoo explain my-photos photos/ --out explained/`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := stdinOnce(args[1:]); err != nil {
				return err
			}
			items, err := imageItems(args[1:], cmd.InOrStdin())
			if err != nil {
				return err
			}
			if pictureFile(out) && len(items) > 1 {
				return usagef("--out %s is one picture for %d images: name a folder, or a .npy file", out, len(items))
			}
			c, err := a.open()
			if err != nil {
				return err
			}
			ck, err := c.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			wanted := graph.ActivationMap{At: features, Class: -1}
			if class != "" {
				if wanted.Class, err = classifier.ClassIndex(class, classifier.Labels(&ck.Card), ck.Card.Classes); err != nil {
					return err
				}
			}
			m, err := c.Open(cmd.Context(), ck, classifier.LoadOptions{Outputs: []string{graph.LogitsOutput, wanted.String()}})
			if err != nil {
				return err
			}
			defer m.Close()
			return a.explain(cmd, m, items, out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "picture, folder or .npy file to write")
	cmd.Flags().StringVar(&class, "class", "", "explain this class, by name or index, in place of the most probable one")
	cmd.Flags().StringVar(&features, "features", graph.FeaturesOutput, "look at a feature tap in place of the last feature map")
	cmd.MarkFlagRequired("out")
	return cmd
}

// pictureFile reports whether a file of the name is a picture.
func pictureFile(name string) bool {
	return slices.Contains([]string{".png", ".jpg", ".jpeg"}, strings.ToLower(filepath.Ext(name)))
}

func (a *app) explain(cmd *cobra.Command, m *classifier.Model, items []classifier.Item, out string) error {
	for i := range items { // a picture is drawn over the image, and standard input can be read only once
		if err := decodeInput(cmd.Context(), &items[i]); err != nil {
			return err
		}
	}
	w := &explanationWriter{model: m, out: out, taken: map[string]bool{}}
	var results []explanation
	var silent []string // images of which no part speaks for the class
	failed := 0
	err := a.stream(cmd, m, items, "explaining", func(r classifier.Result) error {
		e := explanation{Image: r.Item.Name}
		if r.Err != nil {
			failed++
			e.Error = r.Err.Error()
		} else {
			made, err := m.Explanation(r)
			if err != nil {
				return err
			}
			e.Prediction = &made.Prediction
			if slices.Max(made.Map) == 0 {
				silent = append(silent, r.Item.Name)
			}
			if e.File, err = w.write(r.Item, made); err != nil {
				return err
			}
		}
		results = append(results, e)
		return nil
	})
	if err == nil {
		err = w.finish()
	}
	if err != nil {
		return err
	}
	if len(items) == 1 && failed == 1 {
		return errors.New(results[0].Error)
	}
	if err := a.Print(results, func(w io.Writer) error { return printExplanations(w, results) }); err != nil {
		return err
	}
	for _, name := range silent {
		a.Note("%s: no part of the image speaks for the class", name)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d images could not be explained", failed, len(items))
	}
	return nil
}

// decodeInput reads an item that is no file.
func decodeInput(ctx context.Context, it *classifier.Item) error {
	if it.Open == nil {
		return nil
	}
	r, err := it.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if it.Image, err = vision.Decode(files.Reader(ctx, r), vision.Limits{}); err != nil {
		return fmt.Errorf("%s: %w", it.Name, err)
	}
	return nil
}

func printExplanations(w io.Writer, results []explanation) error {
	var rows [][]string
	for _, r := range results {
		if r.Error != "" {
			rows = append(rows, []string{r.Image, "", r.Error})
			continue
		}
		rows = append(rows, []string{r.Image, fmt.Sprintf("%5.1f %%", 100*r.Prob), className(*r.Prediction), r.File})
	}
	return ui.Table(w, nil, rows)
}

// explanationWriter writes explanations where --out says.
type explanationWriter struct {
	model *classifier.Model
	out   string
	taken map[string]bool // names of pictures in the folder
	maps  []float32       // for a .npy file
	shape []int           // of maps: images, height, width
}

// write writes an explanation, or keeps it for finish. It returns the name of the picture, if it is one.
func (w *explanationWriter) write(it classifier.Item, e classifier.Explanation) (string, error) {
	if filepath.Ext(w.out) == ".npy" {
		if w.shape == nil {
			w.shape = []int{0, e.Height, e.Width}
		}
		if e.Height != w.shape[1] || e.Width != w.shape[2] {
			return "", fmt.Errorf("%s has a map of %d×%d where the images before have %d×%d: import the model with a crop, so that all images have one size", it.Name, e.Height, e.Width, w.shape[1], w.shape[2])
		}
		w.shape[0]++
		w.maps = append(w.maps, e.Map...)
		return "", nil
	}
	img := it.Image
	if img == nil {
		var err error
		if img, err = vision.DecodeFile(it.Name, vision.Limits{}); err != nil {
			return "", err
		}
	}
	picture, err := w.model.Overlay(img, e)
	if err != nil {
		return "", err
	}
	file := w.out
	if !pictureFile(file) {
		if err := os.MkdirAll(w.out, 0o755); err != nil {
			return "", fmt.Errorf("--out: %w", err)
		}
		file = filepath.Join(w.out, w.name(it.Name))
	}
	return file, classifier.WriteFile(file, func(to io.Writer) error { return encode(to, picture, file) })
}

// name is that of an image's picture in the folder: its own, with a number where several have it.
func (w *explanationWriter) name(image string) string {
	base := filepath.Base(image)
	base = strings.TrimSuffix(base, filepath.Ext(base))
	name := base + ".jpg"
	for i := 2; w.taken[name]; i++ {
		name = fmt.Sprintf("%s-%d.jpg", base, i)
	}
	w.taken[name] = true
	return name
}

// finish writes what write kept.
func (w *explanationWriter) finish() error {
	if w.shape == nil {
		return nil
	}
	return classifier.WriteFile(w.out, func(to io.Writer) error { return weights.WriteNPY(to, w.shape, w.maps) })
}

// jpegQuality is that of pictures, from 1 to 100.
const jpegQuality = 92

func encode(w io.Writer, picture image.Image, file string) error {
	if strings.ToLower(filepath.Ext(file)) == ".png" {
		return png.Encode(w, picture)
	}
	return jpeg.Encode(w, picture, &jpeg.Options{Quality: jpegQuality})
}
