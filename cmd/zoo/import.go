package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/internal/files"
	"github.com/go-modelzoo/zoo/internal/plural"
	"github.com/go-modelzoo/zoo/internal/ui"
)

// importFlags say what a checkpoint is, where the index does not.
type importFlags struct {
	as, model, labels, license, mean, std, interpolation string
	options                                              map[string]string
	resize, crop, classes                                int
	classifier.ImportOptions
}

func newImport(a *app) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import FILE --as NAME --model MODEL",
		Short: "Take a .safetensors, .pth or .tflite checkpoint of your own into the store",
		Long: `Take a .safetensors, .pth or .tflite checkpoint of your own into the store. Every tensor must have its place in the network; pickles may only
hold tensors; of TensorFlow Lite, MobileNet V1 and V2 are read, quantised or not. What is not said is taken from the model's default weights.`,
		Example: `  zoo import resnet20-12fca82f.th --as cifar20 --model resnet20 --crop 32 --labels cifar10.txt
  zoo import mobilenet_v2_quant.tflite --as mb --model mobilenet_v2 --option padding=same --option norm=none --mean .5,.5,.5 --std .5,.5,.5`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.open()
			if err != nil {
				return err
			}
			ck, err := c.Architecture(cmd.Context(), f.model)
			if err != nil {
				return err
			}
			k, err := f.card(cmd, ck)
			if err != nil {
				return err
			}
			in, err := c.Import(cmd.Context(), args[0], k, f.ImportOptions)
			if err != nil {
				return err
			}
			for _, n := range in.Notes {
				a.Note("%s: %s", args[0], n)
			}
			r := resultOf(in.Model)
			return a.Print(r, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s: %s parameters, %s\n  %s\n", in.Reference, ui.Count(in.Model.Card.Params), ui.Bytes(r.Bytes), r.Digest)
				return err
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.as, "as", "", "name in the store")
	fl.StringVar(&f.model, "model", "", "architecture, as zoo list names it")
	fl.StringToStringVar(&f.options, "option", nil, "model option `NAME=VALUE` (repeatable)")
	fl.IntVar(&f.classes, "classes", 0, "classes of the classifier (default: as many as labels, else the model's)")
	fl.StringVar(&f.labels, "labels", "", "file with a class name a line (the last column of tab-separated ones)")
	fl.IntVar(&f.resize, "resize", 0, "resize the shorter side to this")
	fl.IntVar(&f.crop, "crop", 0, "crop a centre square of this side")
	fl.StringVar(&f.interpolation, "interpolation", "", "bilinear or bicubic")
	fl.StringVar(&f.mean, "mean", "", "mean per channel of pixels in [0,1], such as 0.485,0.456,0.406")
	fl.StringVar(&f.std, "std", "", "standard deviation per channel")
	fl.StringVar(&f.license, "license", "unknown", "SPDX identifier of the weights' licence")
	fl.BoolVar(&f.Overwrite, "overwrite", false, "replace the model of that name")
	fl.BoolVar(&f.NewClassifier, "allow-new-classifier", false, "if only the classifier differs, draw a new one for --classes or --labels")
	// The only error is a flag that is not there.
	_ = cmd.RegisterFlagCompletionFunc("model", func(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return a.models(cmd, begun), cobra.ShellCompDirectiveNoFileComp
	})
	cmd.MarkFlagRequired("as")
	cmd.MarkFlagRequired("model")
	return cmd
}

// card describes the checkpoint: the architecture's description with what the flags say in its place.
func (f *importFlags) card(cmd *cobra.Command, ck *classifier.Checkpoint) (*card.Card, error) {
	if !registry.ValidName(f.as) {
		return nil, usagef("--as %q: a name has lower-case letters, digits, '.', '_' and '-'", f.as)
	}
	if f.classes < 0 {
		return nil, usagef("--classes %d is below 0", f.classes)
	}
	k := ck.Card
	k.Name, k.Tag, k.License, k.Metrics, k.Origin, k.Recipe, k.Weights = f.as, "", f.license, nil, nil, "", card.Weights{}
	if f.labels != "" {
		labels, err := readLabels(f.labels)
		if err != nil {
			return nil, err
		}
		k.Labels = labels
		k.Classes = len(labels)
	}
	if f.classes > 0 {
		if f.labels == "" && f.classes != k.Classes {
			k.Labels = nil // the names are those of the model's own weights
		}
		k.Classes = f.classes
	}
	if len(k.Labels) > 0 && len(k.Labels) != k.Classes {
		return nil, usagef("%s has %s for %s", f.labels, plural.Count(len(k.Labels), "label", "labels"), plural.Count(k.Classes, "class", "classes"))
	}
	p := &k.Preprocess
	changed := cmd.Flags().Changed
	if changed("resize") {
		p.Resize = f.resize
	}
	if changed("crop") {
		p.Crop = f.crop
		if !changed("resize") && p.Resize < f.crop {
			p.Resize = 0
		}
	}
	if f.interpolation != "" {
		p.Interpolation = f.interpolation
	}
	var err error
	if p.Mean, err = triple("--mean", f.mean, p.Mean); err != nil {
		return nil, err
	}
	if p.Std, err = triple("--std", f.std, p.Std); err != nil {
		return nil, err
	}
	if err := p.Validate(k.Input[0]); err != nil {
		return nil, &usageError{err}
	}
	side := p.Crop
	if side == 0 {
		side = k.Input[1]
	}
	overrideCard(&k, graph.Shape{C: k.Input[0], H: side, W: side}, f.options, 0)
	return &k, nil
}

// triple reads comma-separated numbers; "" gives what was there before.
func triple(flag, text string, before []float64) ([]float64, error) {
	if text == "" {
		return before, nil
	}
	var list []float64
	for _, part := range strings.Split(text, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil {
			return nil, usagef("%s %q: give a number a channel, such as 0.485,0.456,0.406", flag, text)
		}
		list = append(list, v)
	}
	return list, nil
}

// maxLabels bounds a file of labels, in bytes: all of them are part of the card.
const maxLabels = card.MaxBytes / 2

// readLabels reads a class name a line; of tab-separated columns the last. The file may begin with a byte order mark.
func readLabels(path string) ([]string, error) {
	text, err := files.ReadAll(path, maxLabels)
	if err != nil {
		return nil, fmt.Errorf("--labels: %w", err)
	}
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("--labels %s is no text in UTF-8: save it as such", path)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	var labels []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		labels = append(labels, line[strings.LastIndexByte(line, '\t')+1:])
	}
	if len(labels) == 0 {
		return nil, fmt.Errorf("--labels %s is empty", path)
	}
	return labels, nil
}
