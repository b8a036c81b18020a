package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/internal/ui"
)

func newCache(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "cache", Short: "List and remove what the store holds (nothing is ever removed by itself)"}
	cmd.AddCommand(newCacheList(a), newCacheRemove(a), newCachePrune(a))
	return cmd
}

// cacheResult is an entry of the store in JSON.
type cacheResult struct {
	Reference string    `json:"reference"`
	Bytes     int64     `json:"bytes"`
	Used      time.Time `json:"used"`
	Partial   bool      `json:"partial,omitempty"`
	Shared    bool      `json:"shared,omitempty"`
	Damaged   bool      `json:"damaged,omitempty"`
	Features  bool      `json:"features,omitempty"` // of a training with --cache-features
}

func newCacheList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List models, incomplete downloads and cached features",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := a.open()
			if err != nil {
				return err
			}
			entries, err := c.Hub.Cache()
			if err != nil {
				return err
			}
			features, err := c.CachedFeatures()
			if err != nil {
				return err
			}
			results := []cacheResult{}
			for _, e := range entries {
				results = append(results, cacheResult{Reference: e.Reference, Bytes: e.Bytes, Used: e.Used, Partial: e.Partial, Shared: e.Shared, Damaged: e.Damaged})
			}
			for _, f := range features {
				results = append(results, cacheResult{Reference: f.Reference, Bytes: f.Bytes, Used: f.Used, Partial: f.Partial, Features: true})
			}
			return a.Print(results, func(w io.Writer) error {
				var rows [][]string
				for _, e := range results {
					note := ""
					switch {
					case e.Features && e.Partial:
						note = "incomplete features"
					case e.Features:
						note = "features of a training"
					case e.Partial:
						note = "incomplete download"
					case e.Damaged:
						note = "damaged: see zoo verify"
					case e.Shared:
						note = "shared store"
					}
					rows = append(rows, []string{e.Reference, ui.Bytes(e.Bytes), e.Used.Format(time.DateTime), note})
				}
				return ui.Table(w, []string{"model", "size", "last used", ""}, rows)
			})
		},
	}
}

func newCacheRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "rm MODEL...",
		Short:   "Remove models, downloads or cached features, as cache ls names them",
		Example: `  zoo cache rm resnet50 ants-bees:local`,
		Args:    cobra.MinimumNArgs(1),

		ValidArgsFunction: a.stored,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.open()
			if err != nil {
				return err
			}
			var models, features []string
			for _, arg := range args {
				if strings.HasPrefix(arg, classifier.FeaturesPrefix) {
					features = append(features, arg)
				} else {
					models = append(models, arg)
				}
			}
			freed, err := c.RemoveFeatures(features...)
			if err != nil {
				return err
			}
			n, err := c.Hub.Remove(cmd.Context(), models...)
			if err != nil {
				return err
			}
			return a.freed(args, freed+n, false)
		},
	}
}

func newCachePrune(a *app) *cobra.Command {
	var older string
	var o hub.PruneOptions
	cmd := &cobra.Command{
		Use:   "prune [--older-than AGE]",
		Short: "Remove models and cached features that were not used for long, and what nothing needs",
		Long: `Remove models and cached features that were not used for so long as --older-than says, and what nothing needs: files of models that were replaced,
and what downloads and imports left that were cut off a day ago or, if that is less, as long ago as --older-than says. Models that were imported or
trained here stay: nothing could bring them back.`,
		Example: `  zoo cache prune
  zoo cache prune --older-than 90d --keep-last 5 --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.OlderThan, err = parseAge(older); err != nil {
				return &usageError{err}
			}
			if o.KeepLast < 0 {
				return usagef("--keep-last %d: 0 or more models can be kept", o.KeepLast)
			}
			c, err := a.open()
			if err != nil {
				return err
			}
			models, freed, err := c.Hub.Prune(cmd.Context(), o)
			if err != nil {
				return err
			}
			features, n, err := c.PruneFeatures(o.OlderThan, o.DryRun)
			if err != nil {
				return err
			}
			return a.freed(append(models, features...), freed+n, o.DryRun)
		},
	}
	cmd.Flags().StringVar(&older, "older-than", "", "remove what was not used for this long, such as 90d or 12h")
	cmd.Flags().IntVar(&o.KeepLast, "keep-last", 0, "keep this many models, those last used, whatever their age")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what would be removed")
	return cmd
}

// parseAge reads a duration that may be in days; "" is 0.
func parseAge(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n < 36500 {
			return time.Duration(n * 24 * float64(time.Hour)), nil
		}
	} else if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return d, nil
	}
	return 0, fmt.Errorf("%q is not an age such as 90d or 12h", s)
}

func (a *app) freed(models []string, bytes int64, dry bool) error {
	result := struct {
		Removed []string `json:"removed"`
		Bytes   int64    `json:"bytes"`
		DryRun  bool     `json:"dry_run,omitempty"`
	}{append([]string{}, models...), bytes, dry}
	return a.Print(result, func(w io.Writer) error {
		verb := "removed"
		if dry {
			verb = "would remove"
		}
		for _, m := range models {
			fmt.Fprintf(w, "%s %s\n", verb, m)
		}
		_, err := fmt.Fprintf(w, "%s %s\n", ui.Bytes(bytes), map[bool]string{true: "would be freed", false: "freed"}[dry])
		return err
	})
}
