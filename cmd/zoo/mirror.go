package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"aead.dev/minisign"
	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/hub"
)

func newMirror(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mirror",
		Short: "Copy models and plugins to a registry of your own, or to a file for machines without network",
	}
	cmd.AddCommand(newMirrorSync(a), newMirrorExport(a), newMirrorImport(a))
	return cmd
}

func newMirrorSync(a *app) *cobra.Command {
	var o hub.MirrorOptions
	cmd := &cobra.Command{
		Use:   "sync MODEL|PATTERN... --to oci://HOST/PATH | DIR",
		Short: "Copy models to a registry or folder: what is missing there; nothing is deleted",
		Example: `  zoo mirror sync 'resnet*' squeezenet1_1 --to oci://registry.example.org/models --plugins
  ZOO_REGISTRY=oci://registry.example.org/models zoo pull resnet50`,
		Args: cobra.MinimumNArgs(1),
	}
	a.publishes(cmd, func(ctx context.Context, c *classifier.Client, args []string, to string, key *minisign.PrivateKey) ([]*hub.Pushed, error) {
		o.Key = key
		return c.Hub.Mirror(ctx, args, to, o)
	})
	cmd.Flags().Lookup("key").Usage += ", and publish a signed index"
	cmd.Flags().BoolVar(&o.Plugins, "plugins", false, "copy the families' plugin binaries too, for all platforms")
	return cmd
}

func newMirrorExport(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "export FILE.tar MODEL...",
		Short: "Write models of the store to one file, an OCI layout as tar",
		Example: `  zoo pull resnet50 mobilenet_v2
  zoo mirror export models.tar resnet50 mobilenet_v2`,
		Args: cobra.MinimumNArgs(2),

		ValidArgsFunction: func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return a.models(cmd, begun), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.open()
			if err != nil {
				return err
			}
			err = classifier.WriteFile(args[0], func(w io.Writer) error { return c.Hub.Export(cmd.Context(), w, args[1:]...) })
			if err != nil {
				return err
			}
			a.Note("wrote %s", args[0])
			return nil
		},
	}
}

func newMirrorImport(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "import FILE.tar",
		Short:   "Verify an exported file and take its models into the store",
		Example: `  zoo mirror import models.tar`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			c, err := a.open()
			if err != nil {
				return err
			}
			names, err := c.Hub.ImportArchive(cmd.Context(), f)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return a.Print(names, func(w io.Writer) error {
				for _, n := range names {
					fmt.Fprintln(w, n)
				}
				return nil
			})
		},
	}
}
