package classifier

import (
	"context"
	"slices"
	"strings"

	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/hub/registry"
)

// Entry is a model as `zoo list` shows it.
type Entry struct {
	Name     string   `json:"name"` // with address and tag for what was pulled from a registry by its address
	Family   string   `json:"family"`
	Params   int64    `json:"params"`
	MACs     int64    `json:"macs"`
	Input    [3]int   `json:"input"`
	Classes  int      `json:"classes"`
	Top1     float64  `json:"top1,omitempty"` // of the default weights, in percent, on ImageNet-1k or what the model's classes are of
	Tags     []string `json:"weights,omitempty"`
	Licenses []string `json:"licenses,omitempty"`
	Paper    string   `json:"paper,omitempty"`
	// State is "local" for models of the store, "index" for those that can be pulled, "architecture" for networks without public
	// weights.
	State string `json:"state"`
}

// List returns every model that can be named, sorted by name. A model of the store alone that cannot be used, since it is damaged or is not what the
// lock pins, is left out: Find says why.
func (c *Client) List(ctx context.Context) (_ []Entry, err error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end(&err)
	entries, _, err := c.list(ctx)
	return entries, err
}

// list also says why plugins that may have further models cannot be used.
func (c *Client) list(ctx context.Context) (entries []Entry, unusable, err error) {
	index, err := c.Hub.Index(ctx)
	if err != nil {
		return nil, nil, err
	}
	byName := map[string]*Entry{}
	for i := range index.Models {
		m := &index.Models[i]
		e := &Entry{Name: m.Name, Family: m.Family, Params: m.Params, MACs: m.MACs, Input: m.Input, Classes: m.Classes, Tags: m.Tags(), State: "index"}
		if w := m.ByTag(""); w != nil {
			e.Top1 = w.Metrics["acc@1"]
		}
		for _, w := range m.Weights {
			if !slices.Contains(e.Licenses, w.License) {
				e.Licenses = append(e.Licenses, w.License)
			}
		}
		if len(m.Weights) == 0 {
			e.State = "architecture"
		}
		byName[m.Name] = e
	}
	list, err := c.Host.Plugins(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range list {
		if !p.Used {
			continue
		}
		for _, m := range p.Models {
			if e := byName[m.Name]; e != nil {
				if e.Family == p.Family {
					e.Paper = m.Paper
				}
				continue
			}
			byName[m.Name] = &Entry{
				Name: m.Name, Family: p.Family, Paper: m.Paper, State: "architecture",
				Input: [3]int{m.Input.C, m.Input.H, m.Input.W}, Classes: 1000,
			}
		}
	}
	local, err := c.Hub.Cache()
	if err != nil {
		return nil, nil, err
	}
	for _, l := range local {
		if l.Partial {
			continue
		}
		_, model, addressed := registry.CutAddress(l.Reference)
		name, tag, err := registry.SplitReference(model)
		if err != nil {
			continue // a plugin
		}
		if addressed { // its name is all of that
			name = l.Reference
		}
		e := byName[name]
		if e == nil || !slices.Contains(e.Tags, tag) { // weights that the index does not describe
			m, err := c.Hub.Local(ctx, l.Reference)
			if ctx.Err() != nil {
				return nil, nil, context.Cause(ctx)
			}
			if err != nil {
				continue
			}
			k := m.Card
			if e == nil || e.Params == 0 { // of an architecture that no index has, only the plugin's few words are known
				paper := ""
				if e != nil && k.Model == name && k.Family == e.Family {
					paper = e.Paper
				}
				e = &Entry{
					Name: name, Family: k.Family, Params: k.Params, MACs: k.MACs, Input: k.Input, Classes: k.Classes, Top1: k.Metrics["acc@1"], Paper: paper,
				}
				byName[name] = e
			}
			if !slices.Contains(e.Licenses, k.License) {
				e.Licenses = append(e.Licenses, k.License)
			}
		}
		if !slices.Contains(e.Tags, tag) {
			e.Tags = append(e.Tags, tag)
		}
		e.State = "local"
	}
	entries = make([]Entry, 0, len(byName))
	for _, e := range byName {
		entries = append(entries, *e)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, host.Unusable(list), nil
}

// names are the entries' names, in their order.
func names(entries []Entry) []string {
	list := make([]string, len(entries))
	for i, e := range entries {
		list[i] = e.Name
	}
	return list
}
