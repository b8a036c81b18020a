package main

import (
	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/internal/plural"
)

func newExport(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "export MODEL FILE",
		Short: "Write a model's weights as safetensors or .pth, or the network as ONNX",
		Example: `  zoo export ants-bees --format pth ants-bees.pth
  zoo export resnet50 --format onnx resnet50.onnx`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := classifier.ParseExportFormat(format, args[1])
			if err != nil {
				return &usageError{err}
			}
			c, err := a.open()
			if err != nil {
				return err
			}
			ck, err := c.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			n, err := c.Export(cmd.Context(), ck, f, args[1])
			if err != nil {
				return err
			}
			a.Note("wrote %s: %s", args[1], plural.Count(n, "tensor", "tensors"))
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "safetensors, pth or onnx (default: by the file's extension)")
	return cmd
}
