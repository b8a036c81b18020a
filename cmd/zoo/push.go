package main

import (
	"fmt"
	"io"
	"os"

	"aead.dev/minisign"
	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/sign"
	"github.com/go-modelzoo/zoo/internal/ui"
)

// keyPassword names the environment variable with the password of an encrypted minisign key.
const keyPassword = "ZOO_KEY_PASSWORD"

// privateKey reads the minisign key of --key; nil without one.
func privateKey(path string) (*minisign.PrivateKey, error) {
	if path == "" {
		return nil, nil
	}
	key, err := sign.PrivateKey(path, os.Getenv(keyPassword))
	if err != nil {
		return nil, fmt.Errorf("--key: %w (an encrypted key takes its password from %s)", err, keyPassword)
	}
	return &key, nil
}

// pushResult is a pushed model in JSON.
type pushResult struct {
	Reference string `json:"reference"`
	Digest    string `json:"digest"`
	Bytes     int64  `json:"bytes"`
	Skipped   bool   `json:"skipped"`
}

func newPush(a *app) *cobra.Command {
	var to, key string
	var o hub.PushOptions
	cmd := &cobra.Command{
		Use:   "push MODEL --to oci://HOST/PATH | DIR",
		Short: "Publish a model of the store, with its card, provenance and signature",
		Example: `  zoo push ants-bees --to oci://registry.example.org/models --key zoo.key
  zoo push ants-bees --to ./layout --dtype f16`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.Key, err = privateKey(key); err != nil {
				return err
			}
			c, err := a.open()
			if err != nil {
				return err
			}
			p, err := c.Hub.Push(cmd.Context(), args[0], to, o)
			if err != nil {
				return err
			}
			return a.pushed([]*hub.Pushed{p})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "registry (oci://HOST/PATH) or folder to publish in")
	cmd.Flags().StringVar(&o.DType, "dtype", "", "convert the weights to f16 or bf16")
	cmd.Flags().StringVar(&o.Tag, "tag", "", "publish under this tag (default: the model's)")
	cmd.Flags().StringVar(&key, "key", "", "sign with this minisign secret key file ("+keyPassword+" unlocks an encrypted one)")
	cmd.MarkFlagRequired("to")
	return cmd
}

func (a *app) pushed(list []*hub.Pushed) error {
	results := make([]pushResult, len(list))
	for i, p := range list {
		results[i] = pushResult{p.Reference, p.Manifest.Digest.String(), p.Bytes, p.Skipped}
	}
	return a.Print(results, func(w io.Writer) error {
		for _, r := range results {
			what := ui.Bytes(r.Bytes) + " copied"
			if r.Bytes == 0 {
				what = "already there"
			}
			fmt.Fprintf(w, "%s@%s: %s\n", r.Reference, r.Digest, what)
		}
		return nil
	})
}
