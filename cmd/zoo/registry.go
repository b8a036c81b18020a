package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/sign"
	"github.com/go-modelzoo/zoo/internal/plural"
)

func newRegistry(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "registry", Short: "Check and sign an index (registry.json), and pin the keys that may sign"}
	cmd.AddCommand(newRegistryCheck(a), newRegistrySign(a), newRegistryPin(a))
	return cmd
}

func newRegistryCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check an index: form, names, digests, expiry; and, once a key is pinned, its signature FILE.minisig",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			result := struct {
				Version  int64     `json:"version"`
				Expires  time.Time `json:"expires"`
				Models   int       `json:"models"`
				Weights  int       `json:"weights"`
				SignedBy string    `json:"signed_by,omitempty"`
				Warning  string    `json:"warning,omitempty"`
			}{}
			var index *registry.Index
			if len(args) == 0 {
				c, err := a.open()
				if err != nil {
					return err
				}
				if index, err = c.Hub.Index(cmd.Context()); err != nil {
					return err
				}
			} else {
				var err error
				if index, result.SignedBy, err = a.checkIndex(args[0]); err != nil {
					return err
				}
			}
			var err error
			if result.Warning, err = (registry.Policy{Now: time.Now(), Grace: registry.DefaultGrace}).Check(index); err != nil {
				return err
			}
			result.Version, result.Expires, result.Models = index.Version, index.Expires, len(index.Models)
			for _, m := range index.Models {
				result.Weights += len(m.Weights)
			}
			return a.Print(result, func(w io.Writer) error {
				fmt.Fprintf(w, "version %d, expires %s, %s, %d weights\n", result.Version, result.Expires.Format(time.DateOnly),
					plural.Count(result.Models, "model", "models"), result.Weights)
				if result.SignedBy != "" {
					fmt.Fprintf(w, "signed by %s\n", result.SignedBy)
				}
				if result.Warning != "" {
					fmt.Fprintf(w, "warning: %s\n", result.Warning)
				}
				return nil
			})
		},
	}
}

// checkIndex parses an index file and verifies its signature by the pinned keys, if any are pinned.
func (a *app) checkIndex(file string) (*registry.Index, string, error) {
	config, err := a.config()
	if err != nil {
		return nil, "", err
	}
	keys, err := sign.ParseKeys(config.Hub.Keys...)
	if err != nil {
		return nil, "", err
	}
	if len(keys) == 0 {
		a.Note("the signature of %s is not checked, since no key is pinned: `zoo registry pin KEY` does", file)
	}
	return hub.CheckIndex(file, keys)
}

func newRegistrySign(a *app) *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "sign FILE --key zoo.key",
		Short: "Check an index and write its signature to FILE.minisig (minisign can check it too)",
		Example: `  minisign -G -p zoo.pub -s zoo.key
  zoo registry sign registry.json --key zoo.key`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			k, err := privateKey(key)
			if err != nil {
				return err
			}
			if k == nil {
				return usagef("--key is empty: name a minisign secret key file")
			}
			signature, err := hub.SignIndex(args[0], *k)
			if err != nil {
				return err
			}
			a.Note("wrote %s", signature)
			return nil
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "minisign secret key file, as minisign -G makes it; "+keyPassword+" unlocks an encrypted one")
	cmd.MarkFlagRequired("key")
	return cmd
}

func newRegistryPin(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "pin KEY|FILE",
		Short:   "Trust what this minisign public key signs; others are refused from then on",
		Example: `  zoo registry pin zoo.pub`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			home, err := hub.DefaultHome()
			if err != nil {
				return err
			}
			if err := hub.PinKey(home, args[0]); err != nil {
				return err
			}
			a.Note("pinned in %s: indexes and artifacts that no pinned key signed are refused from now on", home)
			return nil
		},
	}
}
