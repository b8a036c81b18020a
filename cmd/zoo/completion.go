package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
)

// flagValues are the flags that take one of a few words.
var flagValues = map[string][]string{
	"output-format": {"text", "json"}, "precision": {"highest", "high", "medium"}, "device": {"cpu", "cuda"},
	"isolation": {"default", "required", "off"}, "format": {"safetensors", "pth", "onnx"}, "dtype": {"f16", "bf16"},
	"interpolation": {"bilinear", "bicubic"}, "strategy": {"auto", "feature-extract", "head", "finetune", "scratch"},
	"optimizer": {"sgd", "adam", "adamw", "rmsprop", "lamb"}, "schedule": {"constant", "step", "cosine", "one-cycle", "plateau"},
	"metric": {"accuracy", "loss", "f1", "kappa", "auc"}, "cache-features": {"auto", "on", "off"},
}

// complete makes the shell complete models and the words of flags. Where no model fits, the shell completes files.
func (a *app) complete(cmd *cobra.Command) {
	for name, values := range flagValues {
		if f := cmd.Flags().Lookup(name); f != nil || cmd.PersistentFlags().Lookup(name) != nil {
			// The only errors are flags that are not there and second functions for one.
			_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	_, args, _ := strings.Cut(cmd.Use, " ")
	word, _, _ := strings.Cut(args, " ")
	if word = strings.Trim(word, "[]"); strings.HasPrefix(word, "MODEL") && cmd.ValidArgsFunction == nil {
		several := strings.HasSuffix(word, "...")
		cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 && !several {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return a.models(cmd, begun), cobra.ShellCompDirectiveDefault
		}
	}
	for _, c := range cmd.Commands() {
		a.complete(c)
	}
}

// models lists those that begin with a text.
func (a *app) models(cmd *cobra.Command, begun string) []cobra.Completion {
	return a.begunBy(begun, func(c *classifier.Client) ([]string, error) { return c.Names(cmd.Context()) })
}

// stored lists what `zoo cache rm` can remove.
func (a *app) stored(_ *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.begunBy(begun, func(c *classifier.Client) (references []string, err error) {
		entries, err := c.Hub.Cache()
		if err != nil {
			return nil, err
		}
		features, err := c.CachedFeatures()
		for _, e := range entries {
			references = append(references, e.Reference)
		}
		for _, f := range features {
			references = append(references, f.Reference)
		}
		return references, err
	}), cobra.ShellCompDirectiveNoFileComp
}

// begunBy are the names of a list that begin with a text. What fails shows nothing: the command itself will say it.
func (a *app) begunBy(begun string, list func(*classifier.Client) ([]string, error)) (names []cobra.Completion) {
	c, err := a.open()
	if err != nil {
		return nil
	}
	all, err := list(c)
	if closed := a.close(); err != nil || closed != nil {
		return nil
	}
	for _, n := range all {
		if strings.HasPrefix(n, begun) {
			names = append(names, n)
		}
	}
	return names
}
