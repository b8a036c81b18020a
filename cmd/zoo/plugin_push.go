package main

import (
	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/hub"
)

func newPluginPush(a *app) *cobra.Command {
	var to, key string
	var o hub.PluginPushOptions
	cmd := &cobra.Command{
		Use:   "push [OS/ARCH=]BINARY... --to oci://HOST/PATH | DIR",
		Short: "Publish a plugin of yours, as HOST/PATH/plugins/NAME:VERSION",
		Long: `Publish the binaries of one version of a plugin, a platform each, as HOST/PATH/plugins/NAME:VERSION.

The binary for this platform is started to ask for name and version; the others are taken to be of the same version. A Go program says itself
what platform it was built for; before others write OS/ARCH=. Platforms that the version has there already stay, so that more can be added later,
one push at a time.`,
		Example: `  zoo plugin push plugins/zoo-tinynet dist/zoo-tinynet-linux-arm64 --to oci://registry.example.org/zoo --key zoo.key
  zoo plugin push linux/amd64=zoo-mean linux/arm64=arm64/zoo-mean --to oci://registry.example.org/zoo
  zoo plugin install oci://registry.example.org/zoo/plugins/tinynet:0.1.0`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.Key, err = privateKey(key); err != nil {
				return err
			}
			c, err := a.open()
			if err != nil {
				return err
			}
			p, err := c.PushPlugin(cmd.Context(), args, to, o)
			if err != nil {
				return err
			}
			return a.pushed([]*hub.Pushed{p})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "registry (oci://HOST/PATH) or folder to publish in")
	cmd.Flags().StringVar(&key, "key", "", "sign with this minisign secret key file ("+keyPassword+" unlocks an encrypted one)")
	cmd.Flags().BoolVar(&o.Overwrite, "overwrite", false, "replace binaries that are published under this version")
	cmd.MarkFlagRequired("to")
	return cmd
}
