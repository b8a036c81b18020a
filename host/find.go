package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/Masterminds/semver/v3"

	"github.com/go-modelzoo/zoo/internal/pluginrpc"
)

// Plugins lists what was found, for each family the one that serves it first. A binary that was not listed before is started to ask
// it; one that fails is listed with Err.
func (h *Host) Plugins(ctx context.Context) ([]Plugin, error) {
	families := map[string]bool{}
	for _, f := range h.opt.Embedded {
		families[f.Name] = true
	}
	found, err := h.scan("")
	if err != nil {
		return nil, err
	}
	for _, p := range found {
		families[p.Family] = true
	}
	var list []Plugin
	unserved := map[string]error{}
	for _, family := range slices.Sorted(maps.Keys(families)) {
		candidates, err := h.candidates(family)
		if err != nil {
			return nil, err
		}
		used, err := h.choose(ctx, family, candidates)
		unserved[family] = err
		for i, p := range candidates {
			p.Used = err == nil && i == used
			list = append(list, p)
		}
	}
	var wait sync.WaitGroup
	limit := make(chan struct{}, 4)
	for i := range list {
		wait.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			p, err := h.described(ctx, list[i])
			p.Err = cmp.Or(err, unserved[p.Family])
			list[i] = p
		})
	}
	wait.Wait()
	if ctx.Err() != nil {
		return nil, cause(ctx)
	}
	// The one in use first, then the others as they are found.
	sort.SliceStable(list, func(i, j int) bool {
		return list[i].Family < list[j].Family || list[i].Family == list[j].Family && list[i].Used && !list[j].Used
	})
	return list, nil
}

// Unusable returns why families in a list that Plugins returned have no plugin that can be used, nil if each has one. What models such a family
// has is not known, so that this belongs to the error about a model that no plugin has.
func Unusable(list []Plugin) error {
	why := map[string]error{}
	for _, p := range slices.Backward(list) { // the most preferred has the last word
		if p.Err != nil {
			why[p.Family] = p.Err
		}
	}
	for _, p := range list {
		if p.Used && p.Err == nil {
			delete(why, p.Family)
		}
	}
	if len(why) == 0 {
		return nil
	}
	more := ""
	if n := len(why) - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more: zoo plugin list)", n)
	}
	first := slices.Min(slices.Collect(maps.Keys(why)))
	return fmt.Errorf("it may be of a plugin that cannot be used: %w%s", why[first], more)
}

// Describe returns the plugin that serves a family.
func (h *Host) Describe(ctx context.Context, family string) (Plugin, error) {
	p, err := h.used(ctx, family)
	if err != nil {
		return Plugin{}, err
	}
	return h.described(ctx, p)
}

// Inspect starts the binary at path, which need not be in one of the host's folders, and returns what it says of itself. Errors leave it to
// the caller to name the path.
func (h *Host) Inspect(ctx context.Context, path string) (Plugin, error) {
	if _, err := os.Stat(path); err != nil {
		return Plugin{}, errors.Unwrap(err) // without the path
	}
	p, ok := given(path)
	if !ok || p.Err != nil {
		return Plugin{}, fmt.Errorf("not a plugin: it must be a file called %s that can be executed", binaryName("FAMILY"))
	}
	return h.described(ctx, p)
}

// Model returns the plugin that has a model, and the model. It asks embedded and known plugins first.
func (h *Host) Model(ctx context.Context, name string) (Plugin, ModelInfo, error) {
	list, err := h.Plugins(ctx)
	if err != nil {
		return Plugin{}, ModelInfo{}, err
	}
	for _, p := range list {
		if m, ok := p.Model(name); ok && p.Used {
			return p, m, nil
		}
	}
	err = fmt.Errorf("no plugin has a model %q: %w: zoo plugin list shows what is installed", name, ErrNotFound)
	if unusable := Unusable(list); unusable != nil {
		err = fmt.Errorf("%w; %w", err, unusable)
	}
	return Plugin{}, ModelInfo{}, err
}

// find returns the plugin for a network.
func (h *Host) find(ctx context.Context, family, model string) (Plugin, error) {
	if family != "" {
		return h.used(ctx, family)
	}
	p, _, err := h.Model(ctx, model)
	return p, err
}

// used returns the plugin that serves a family, as far as files tell.
func (h *Host) used(ctx context.Context, family string) (Plugin, error) {
	if !pluginrpc.FamilyName.MatchString(family) {
		return Plugin{}, fmt.Errorf("%.100q is no name of a family: %w", family, ErrNotFound)
	}
	candidates, err := h.candidates(family)
	if err != nil {
		return Plugin{}, err
	}
	i, err := h.choose(ctx, family, candidates)
	if err != nil {
		return Plugin{}, err
	}
	candidates[i].Used = true
	return candidates[i], nil
}

// candidates lists the plugins of a family in order of preference.
func (h *Host) candidates(family string) ([]Plugin, error) {
	list, err := h.scan(family)
	if err != nil {
		return nil, err
	}
	for _, f := range h.opt.Embedded {
		if f.Name == family {
			list = append(list, embedded(f))
		}
	}
	return list, nil
}

// choose returns the index of the candidate that serves.
func (h *Host) choose(ctx context.Context, family string, candidates []Plugin) (int, error) {
	want := h.opt.Versions[family]
	var broken error
	for i, p := range candidates {
		if p.Err != nil {
			broken = cmp.Or(broken, p.Err)
			continue
		}
		if want == "" {
			return i, nil
		}
		if p.Version == "" { // the folder does not tell
			described, err := h.described(ctx, p)
			if ctx.Err() != nil {
				return 0, cause(ctx)
			}
			if err != nil {
				continue
			}
			p = described
		}
		if p.Version == want {
			return i, nil
		}
	}
	if want != "" {
		return 0, fmt.Errorf("plugin %s %s, which the lock asks for: %w: run zoo plugin install %s@%s", family, want, ErrNotFound, family, want)
	}
	if broken != nil {
		return 0, broken
	}
	return 0, fmt.Errorf("plugin of family %q: %w: run zoo plugin install %s, or put %s into one of %s", family, ErrNotFound,
		family, binaryName(family), strings.Join(h.opt.Dirs, ", "))
}

// scan lists the binaries of a family, or of all if family is "", in order of preference.
func (h *Host) scan(family string) ([]Plugin, error) {
	var list []Plugin
	for _, path := range h.opt.Binaries {
		if p, ok := given(path); ok && (family == "" || p.Family == family) {
			list = append(list, p)
		}
	}
	for _, dir := range h.opt.Dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("plugin folder: %w", err)
		}
		var here []Plugin
		for _, e := range entries {
			name := familyOf(e.Name())
			if name != "" && (family == "" || name == family) {
				if p, ok := binary(filepath.Join(dir, e.Name()), name, ""); ok {
					here = append(here, p)
				}
			}
			if e.IsDir() && pluginrpc.FamilyName.MatchString(e.Name()) && (family == "" || e.Name() == family) {
				here = append(here, versions(filepath.Join(dir, e.Name()), e.Name())...)
			}
		}
		list = append(list, here...)
	}
	return list, nil
}

// versions lists dir/VERSION/zoo-FAMILY, the newest first.
func versions(dir, family string) []Plugin {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	type versioned struct {
		Plugin
		v *semver.Version
	}
	var list []versioned
	for _, e := range entries {
		v, err := semver.StrictNewVersion(e.Name())
		if err != nil {
			continue
		}
		if p, ok := binary(filepath.Join(dir, e.Name(), binaryName(family)), family, e.Name()); ok {
			p.folder = filepath.Dir(p.Path)
			list = append(list, versioned{p, v})
		}
	}
	slices.SortStableFunc(list, func(a, b versioned) int { return b.v.Compare(a.v) })
	out := make([]Plugin, len(list))
	for i, p := range list {
		out[i] = p.Plugin
	}
	return out
}

// given returns the plugin of a file that was named itself, with its folder if that is its own as in versions.
func given(path string) (Plugin, bool) {
	family := familyOf(filepath.Base(path))
	p, ok := binary(path, family, "")
	dir := filepath.Dir(p.Path)
	if _, err := semver.StrictNewVersion(filepath.Base(dir)); err == nil && filepath.Base(filepath.Dir(dir)) == family {
		p.folder = dir
	}
	return p, ok && family != ""
}

// binary returns the plugin of a file, with Err if it cannot be executed.
func binary(path, family, version string) (Plugin, bool) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return Plugin{}, false
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return Plugin{}, false
	}
	p := Plugin{Family: family, Version: version, Path: abs}
	if runtime.GOOS != "windows" && info.Mode()&0o111 == 0 {
		p.Err = &Error{Plugin: p.String(), Kind: ErrStart, Message: fmt.Sprintf("plugin %s: %s may not be executed: chmod +x it, or remove it", p, abs)}
	}
	return p, true
}

func binaryName(family string) string {
	if runtime.GOOS == "windows" {
		return "zoo-" + family + ".exe"
	}
	return "zoo-" + family
}

// familyOf returns the family of a binary's name, or "".
func familyOf(name string) string {
	family, ok := strings.CutPrefix(name, "zoo-")
	if runtime.GOOS == "windows" && ok {
		family, ok = strings.CutSuffix(family, ".exe")
	}
	if !ok || !pluginrpc.FamilyName.MatchString(family) {
		return ""
	}
	return family
}
