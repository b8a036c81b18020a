package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"aead.dev/minisign"
	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
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
	Replaced  string `json:"replaced,omitempty"` // what the name had before
}

func newPush(a *app) *cobra.Command {
	var o hub.PushOptions
	cmd := &cobra.Command{
		Use:   "push MODEL --to oci://HOST/PATH | DIR",
		Short: "Publish a model of the store, with its card, provenance and signature",
		Example: `  zoo push ants-bees --to oci://registry.example.org/models --key zoo.key
  zoo push ants-bees --to ./layout --dtype f16`,
		Args: cobra.ExactArgs(1),
	}
	a.publishes(cmd, func(ctx context.Context, c *classifier.Client, args []string, to string, key *minisign.PrivateKey) ([]*hub.Pushed, error) {
		if err := o.Validate(); err != nil {
			return nil, usagef("--%w", err)
		}
		o.Key = key
		return only(c.Hub.Push(ctx, args[0], to, o))
	})
	cmd.Flags().StringVar(&o.DType, "dtype", "", "convert the weights to f16 or bf16")
	cmd.Flags().StringVar(&o.Tag, "tag", "", "publish under this tag (default: the model's, with -f16 or -bf16 if --dtype converts it)")
	return cmd
}

// only makes a list of what one push did.
func only(p *hub.Pushed, err error) ([]*hub.Pushed, error) {
	if err != nil {
		return nil, err
	}
	return []*hub.Pushed{p}, nil
}

// publishes makes a command one that publishes: it gets --to and --key, and prints what publish did.
func (a *app) publishes(cmd *cobra.Command, publish func(ctx context.Context, c *classifier.Client, args []string, to string, key *minisign.PrivateKey) ([]*hub.Pushed, error)) {
	to := cmd.Flags().String("to", "", "registry (oci://HOST/PATH) or folder to publish in")
	keyFile := cmd.Flags().String("key", "", "sign with this minisign secret key file ("+keyPassword+" unlocks an encrypted one)")
	cmd.MarkFlagRequired("to")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if likeDocker(*to) {
			return usagef("--to %s: a registry is oci://%[1]s, a folder ./%[1]s", *to)
		}
		key, err := privateKey(*keyFile)
		if err != nil {
			return err
		}
		c, err := a.open()
		if err != nil {
			return err
		}
		done, err := publish(cmd.Context(), c, args, *to, key)
		if err == nil || len(done) > 0 { // what was done before an error stays done
			err = errors.Join(err, a.pushed(done))
		}
		return err
	}
}

// likeDocker reports whether a path that is none of a folder begins with a host, as registries are written elsewhere.
func likeDocker(path string) bool {
	host, _, below := strings.Cut(path, "/")
	if !below || filepath.IsAbs(path) || strings.Contains(path, "://") || strings.HasPrefix(host, ".") || !strings.ContainsAny(host, ".:") {
		return false
	}
	_, err := os.Stat(host)
	return err != nil
}

func (a *app) pushed(list []*hub.Pushed) error {
	results := make([]pushResult, len(list))
	for i, p := range list {
		results[i] = pushResult{p.Reference, p.Manifest.Digest.String(), p.Bytes, p.Skipped, p.Replaced.String()}
	}
	return a.Print(results, func(w io.Writer) error {
		for _, r := range results {
			what := ui.Bytes(r.Bytes) + " copied"
			switch {
			case r.Skipped:
				what = "already there"
			case r.Bytes == 0:
				what = "its bytes were there, the tag is set"
			}
			if r.Replaced != "" {
				what += ", in place of " + r.Replaced
			}
			fmt.Fprintf(w, "%s@%s: %s\n", r.Reference, r.Digest, what)
		}
		return nil
	})
}
