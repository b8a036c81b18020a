package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/weights"
)

func newRun(a *app) *cobra.Command {
	var input, output, file, features string
	var options map[string]string
	cmd := &cobra.Command{
		Use:   "run MODEL --input x.npy --output y.npy",
		Short: "Run a network on a raw tensor: NCHW float32 in, logits (or a feature map) out",
		Long: `Run a network on a raw tensor: NCHW float32 in, logits (or a feature map) out. The tensor is taken as it is: preprocess it beforehand.
A model that is not in the store runs with random weights, drawn from --seed.`,
		Example: `  zoo run resnet50 --input x.npy --output logits.npy
  zoo run resnet50 --weights checkpoint.pth --input x.npy --output stage3.npy --features stage3`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			x, n, shape, err := readNCHW(input)
			if err != nil {
				return err
			}
			c, err := a.open()
			if err != nil {
				return err
			}
			ck, err := c.Architecture(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if file != "" {
				if err := ck.UseWeights(file); err != nil {
					return err
				}
			}
			overrideCard(&ck.Card, shape, options, 0)
			o := classifier.LoadOptions{}
			if features != "" {
				o.Outputs = []string{features}
			}
			m, err := c.Open(cmd.Context(), ck, o)
			if err != nil {
				return err
			}
			defer m.Close()
			out, err := m.Forward(cmd.Context(), x, n, shape)
			if err != nil {
				return err
			}
			if err := writeNCHW(output, out[0].Data, n, out[0].Shape); err != nil {
				return err
			}
			if ck.Path == "" {
				a.Note("%s is not in the store: its weights were drawn at random from --seed; `zoo pull` or --weights gives it others", args[0])
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&input, "input", "", "NumPy file of shape [N, C, H, W]")
	cmd.Flags().StringVar(&output, "output", "", "NumPy file to write: [N, classes], or [N, C, H, W] for a feature map")
	cmd.Flags().StringVar(&file, "weights", "", "take the weights from this .safetensors, .pth or .tflite file")
	cmd.Flags().StringVar(&features, "features", "", "write a feature tap, \"features\" or \"embedding\" instead of logits")
	cmd.Flags().StringToStringVar(&options, "option", nil, "model option `NAME=VALUE` (repeatable)")
	cmd.MarkFlagRequired("input")
	cmd.MarkFlagRequired("output")
	return cmd
}

// readNCHW reads a NumPy array [N, C, H, W] and returns it as NHWC.
func readNCHW(path string) (x []float32, n int, s graph.Shape, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, s, fmt.Errorf("--input: %w", err)
	}
	defer f.Close()
	shape, values, err := weights.ReadNPY(f)
	if err != nil {
		return nil, 0, s, fmt.Errorf("--input %s: %w", path, err)
	}
	if len(shape) != 4 || len(values) == 0 {
		return nil, 0, s, fmt.Errorf("--input %s has shape %v: it must be [N, C, H, W] with no zero", path, shape)
	}
	n, s = shape[0], graph.Shape{C: shape[1], H: shape[2], W: shape[3]}
	x = make([]float32, len(values))
	transposeImages(x, values, n, s.C, s.H*s.W)
	return x, n, s, nil
}

// writeNCHW writes NHWC values as [N, C, H, W], vectors as [N, C].
func writeNCHW(path string, values []float32, n int, s graph.Shape) error {
	shape := []int{n, s.C, s.H, s.W}
	if s.IsVector() {
		shape = shape[:2]
	}
	x := make([]float32, len(values))
	transposeImages(x, values, n, s.H*s.W, s.C)
	if err := classifier.WriteFile(path, func(w io.Writer) error { return weights.WriteNPY(w, shape, x) }); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	return nil
}

// transposeImages transposes each of n matrices of r rows and c columns.
func transposeImages(dst, src []float32, n, r, c int) {
	for i := range n {
		d, s := dst[i*r*c:], src[i*r*c:]
		for y := range r {
			for x := range c {
				d[x*r+y] = s[y*c+x]
			}
		}
	}
}
