package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/finetune"
)

func newTrain(a *app) *cobra.Command {
	config := finetune.ScratchDefaults()
	var f trainFlags
	f.Scratch = true
	cmd := &cobra.Command{
		Use:   "train MODEL --data DIR --out NAME",
		Short: "Train a network from random weights",
		Long: `Train a network from random weights on images: a folder a class (or two such folders, train and val), or a CSV file of lines
"path,class". The result is a model like any other, under the name given with --out; a path with a separator leaves it in a folder.`,
		Example: `  zoo train resnet20 --data cifar10 --size 32 --epochs 30 --out my-resnet20`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.train(cmd, args[0], &config, &f) },
	}
	f.add(cmd, &config)
	// Used with another --schedule alone, so not in these defaults.
	cmd.Flags().Lookup("step-epochs").Usage += fmt.Sprintf(" (default %d)", finetune.DefaultStepEpochs)
	cmd.Flags().Lookup("gamma").Usage += fmt.Sprintf(" (default %g)", finetune.DefaultGamma)
	return cmd
}
