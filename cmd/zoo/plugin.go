package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	hubplugins "github.com/go-modelzoo/zoo/hub/plugins"
	"github.com/go-modelzoo/zoo/internal/plural"
	"github.com/go-modelzoo/zoo/internal/ui"
)

func newPlugin(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "plugin", Short: "Families of architectures: list, install, write your own"}
	cmd.AddCommand(newPluginList(a), newPluginInstall(a), newPluginRemove(a), newPluginVerify(a), newPluginPush(a), newPluginNew(a), newPluginTest(a))
	return cmd
}

// pluginResult is a plugin in JSON.
type pluginResult struct {
	Family   string `json:"family"`
	Version  string `json:"version"`
	Protocol int    `json:"protocol"`
	Models   int    `json:"models"`
	Path     string `json:"path,omitempty"`
	Embedded bool   `json:"embedded"`
	Used     bool   `json:"used"`
	Newest   string `json:"newest,omitempty"`
	Error    string `json:"error,omitempty"`
}

func newPluginList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the plugins found, and which of them runs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.open()
			if err != nil {
				return err
			}
			list, err := c.Host.Plugins(cmd.Context())
			if err != nil {
				return err
			}
			newest, err := c.NewestPlugins(cmd.Context())
			if err != nil {
				return err
			}
			results := make([]pluginResult, len(list))
			for i, p := range list {
				results[i] = pluginResult{Family: p.Family, Version: p.Version, Protocol: p.Protocol, Models: len(p.Models), Path: p.Path, Embedded: p.Embedded, Used: p.Used, Newest: newest[p.Family]}
				if p.Err != nil {
					results[i].Error = p.Err.Error()
				}
			}
			return a.Print(results, func(w io.Writer) error {
				var rows [][]string
				for _, p := range results {
					where := cmp.Or(p.Path, "in zoo itself")
					state := "-"
					switch {
					case p.Error != "":
						state = "broken: " + p.Error
					case p.Used:
						state = "used"
					}
					rows = append(rows, []string{p.Family, p.Version, fmt.Sprint(p.Models), cmp.Or(p.Newest, "-"), state, where})
				}
				return ui.Table(w, []string{"family", "version", "models", "newest", "state", "from"}, rows)
			})
		},
	}
}

// installedResult is an installed plugin in JSON.
type installedResult struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Path    string `json:"path"`
	SHA256  string `json:"sha256"`
	Source  string `json:"source"`
}

func newPluginInstall(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "install NAME[@CONSTRAINT]|./BINARY|oci://...",
		Short: "Install a family's plugin for this platform (" + runtime.GOOS + "/" + runtime.GOARCH + ")",
		Example: `  zoo plugin install resnet@^1.2
  zoo plugin install ./zoo-ghostnet`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.open()
			if err != nil {
				return err
			}
			p, err := c.InstallPlugin(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := a.noteServing(cmd.Context(), p); err != nil {
				return err
			}
			r := installedResult{p.Name, p.Version, p.Path, p.SHA256, p.Source}
			return a.Print(r, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s %s from %s\n  sha256 %s\n", r.Name, r.Version, r.Source, r.SHA256)
				return err
			})
		},
	}
}

// noteServing says so if another binary serves the family than the one just installed.
func (a *app) noteServing(ctx context.Context, p hubplugins.Installed) (err error) {
	config, err := a.config()
	if err != nil {
		return err
	}
	c, err := classifier.Open(config) // anew: the lock has changed
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	used, err := c.Host.Describe(ctx, p.Name)
	if err == nil && used.Path != p.Path {
		a.Note("%s goes on serving (%s), not %s: remove it, or choose this version in a project's lock: touch zoo.lock and install again", used, used.Path, p.Version)
	}
	return nil // it is installed
}

func newPluginRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME[@VERSION]",
		Short: "Remove an installed plugin; another installed version, or the one in zoo itself, then runs",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.open()
			if err != nil {
				return err
			}
			name, constraint, _ := strings.Cut(args[0], "@")
			removed, unpinned, err := c.Hub.RemovePlugin(cmd.Context(), name, constraint)
			if err != nil {
				return err
			}
			if unpinned != "" {
				a.Note("%s %s is no longer pinned", name, unpinned)
			}
			return a.Print(removed, func(w io.Writer) error {
				for _, v := range removed {
					fmt.Fprintf(w, "removed %s %s\n", name, v)
				}
				return nil
			})
		},
	}
}

func newPluginVerify(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Compare every installed plugin with the digest recorded when it was installed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.open()
			if err != nil {
				return err
			}
			list, err := c.Hub.Plugins().List()
			if err != nil {
				return err
			}
			findings, err := c.Hub.VerifyPlugins()
			if err != nil {
				return err
			}
			if len(findings) > 0 {
				bad := make([]error, len(findings))
				for i, f := range findings {
					bad[i] = fmt.Errorf("%s: %w", f.Name, f.Err)
				}
				return errors.Join(bad...)
			}
			return a.Print(append([]hubplugins.Installed{}, list...), func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s, all as they were installed\n", plural.Count(len(list), "installed plugin", "installed plugins"))
				return err
			})
		},
	}
}
