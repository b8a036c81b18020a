package main

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/internal/ui"
)

func newList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list [GLOB]",
		Short: "List models: those of the index, of the store, and architectures without weights",
		Example: `  zoo list
  zoo list 'resnet*' -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			glob := "*"
			if len(args) == 1 {
				glob = args[0]
			}
			if _, err := path.Match(glob, ""); err != nil {
				return usagef("pattern %q is malformed: use *, ? and [a-z] as in a shell", glob)
			}
			flat := strings.NewReplacer("/", "\x00") // * is also for the slashes of an address
			address := flat.Replace(glob)
			return a.list(cmd, func(m classifier.Entry) bool {
				ok, _ := path.Match(address, flat.Replace(m.Name)) // the pattern was checked
				below, _ := path.Match(glob, path.Base(m.Name))
				return ok || below
			}, fmt.Sprintf("no model matches %q; `zoo list` shows all", glob))
		},
	}
}

func newSearch(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "search WORD...",
		Short: "Find models whose name, family, licence, paper or weights have all the words",
		Example: `  zoo search mobilenet
  zoo search xie resnext`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.list(cmd, func(m classifier.Entry) bool {
				text := strings.ToLower(strings.Join([]string{m.Name, m.Family, m.Paper, strings.Join(m.Licenses, " "), strings.Join(m.Tags, " ")}, " "))
				return !slices.ContainsFunc(args, func(w string) bool { return !strings.Contains(text, strings.ToLower(w)) })
			}, "no model has all of these words; `zoo list` shows all")
		},
	}
}

func (a *app) list(cmd *cobra.Command, keep func(classifier.Entry) bool, none string) error {
	c, err := a.open()
	if err != nil {
		return err
	}
	all, err := c.List(cmd.Context())
	if err != nil {
		return err
	}
	entries := slices.DeleteFunc(all, func(e classifier.Entry) bool { return !keep(e) })
	if len(entries) == 0 {
		return errors.New(none)
	}
	return a.Print(entries, func(w io.Writer) error {
		rows := make([][]string, len(entries))
		for i, e := range entries {
			rows[i] = []string{e.Name, e.Family, millions(e.Params), giga(e.MACs), size(e.Input), percent(e.Top1), strings.Join(e.Tags, ","), e.State}
		}
		return ui.Table(w, []string{"name", "family", "params", "gmacs", "input", "top-1", "weights", "state"}, rows)
	})
}

func millions(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1fM", float64(n)/1e6)
}

func giga(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3g", float64(n)/1e9)
}

func percent(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", v)
}

func size(in [3]int) string {
	if in == ([3]int{}) {
		return "-"
	}
	return fmt.Sprintf("%dx%dx%d", in[0], in[1], in[2])
}
