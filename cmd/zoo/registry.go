package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"aead.dev/minisign"
	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/sign"
)

func newRegistry(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "registry", Short: "Check and sign an index (registry.json), and pin the keys that may sign"}
	cmd.AddCommand(newRegistryCheck(a), newRegistrySign(a), newRegistryPin(a))
	return cmd
}

func newRegistryCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check an index: form, names, digests, expiry; and its signature FILE.minisig if there is one",
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
				data, err := os.ReadFile(args[0])
				if err != nil {
					return err
				}
				if index, err = registry.Parse(data); err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				if result.SignedBy, err = a.checkSignature(args[0], data); err != nil {
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
				fmt.Fprintf(w, "version %d, expires %s, %d models, %d weights\n", result.Version, result.Expires.Format(time.DateOnly), result.Models, result.Weights)
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

// checkSignature verifies FILE.minisig by the pinned keys, if there is one.
func (a *app) checkSignature(file string, data []byte) (string, error) {
	signature, err := os.ReadFile(file + ".minisig")
	if os.IsNotExist(err) {
		a.Note("%s is not signed: `zoo registry sign` does", file)
		return "", nil
	}
	if err != nil {
		return "", err
	}
	config, err := a.config()
	if err != nil {
		return "", err
	}
	if len(config.Hub.Keys) == 0 {
		return "", fmt.Errorf("%s.minisig cannot be checked: no key is pinned: run `zoo registry pin KEY`", file)
	}
	keys, err := sign.ParseKeys(config.Hub.Keys...)
	if err != nil {
		return "", err
	}
	return keys.Verify(data, signature)
}

func newRegistrySign(a *app) *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "sign FILE --key zoo.key",
		Short: "Check an index and write its signature to FILE.minisig (minisign can check it too)",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			k, err := privateKey(key)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			index, err := registry.Parse(data)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			signature := sign.Sign(*k, data, fmt.Sprintf("registry.json version %d", index.Version))
			return os.WriteFile(args[0]+".minisig", signature, 0o644)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "minisign secret key file (`minisign -G` makes one)")
	cmd.MarkFlagRequired("key")
	return cmd
}

func newRegistryPin(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "pin KEY|FILE",
		Short: "Trust what this minisign public key signs; others are refused from then on",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			keys, err := sign.ParseKeys(args[0])
			if err != nil {
				return err
			}
			home, err := hub.DefaultHome()
			if err != nil {
				return err
			}
			text := publicKeyText(keys[0])
			config, err := hub.LoadConfig(home)
			if err != nil {
				return err
			}
			if slices.Contains(config.Keys, text) {
				return nil
			}
			config.Keys = append(config.Keys, text)
			return hub.SaveConfig(config)
		},
	}
}

// publicKeyText is the base64 line of a minisign public key.
func publicKeyText(k minisign.PublicKey) string {
	text, err := k.MarshalText()
	if err != nil {
		return base64.StdEncoding.EncodeToString(nil)
	}
	return string(text)
}
