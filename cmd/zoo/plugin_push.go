package main

import (
	"context"

	"aead.dev/minisign"
	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/hub"
)

func newPluginPush(a *app) *cobra.Command {
	var o hub.PluginPushOptions
	cmd := &cobra.Command{
		Use:   "push [OS/ARCH=]BINARY... --to oci://HOST/PATH | DIR",
		Short: "Publish a plugin of yours, as HOST/PATH/plugins/NAME:VERSION",
		Long: `Publish the binaries of one version of a plugin, a platform each, as HOST/PATH/plugins/NAME:VERSION.

The binary for this platform is started to ask for name and version; the others are taken to be of the same version. A Go program says itself
what platform it was built for; before others write OS/ARCH=. Platforms that the version has there already stay, so that more can be added later,
or by several pushes at once.`,
		Example: `  zoo plugin push plugins/zoo-tinynet dist/zoo-tinynet-linux-arm64 --to oci://registry.example.org/zoo --key zoo.key
  zoo plugin push linux/amd64=zoo-mean linux/arm64=arm64/zoo-mean --to oci://registry.example.org/zoo
  zoo plugin install oci://registry.example.org/zoo/plugins/tinynet:0.1.0`,
		Args: cobra.MinimumNArgs(1),
	}
	a.publishes(cmd, func(ctx context.Context, c *classifier.Client, args []string, to string, key *minisign.PrivateKey) ([]*hub.Pushed, error) {
		o.Key = key
		return only(c.PushPlugin(ctx, args, to, o))
	})
	cmd.Flags().BoolVar(&o.Overwrite, "overwrite", false, "replace binaries that are published under this version")
	return cmd
}
