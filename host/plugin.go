package host

import (
	"fmt"
	"strings"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	"github.com/go-modelzoo/zoo/sdk"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// Plugin is a family's binary, or the family that the running program has linked in.
type Plugin struct {
	Family      string
	Version     string // semantic; "" if Err is set and the folder does not tell
	Description string
	License     string
	Homepage    string
	// Path is the binary's; "" for an embedded family.
	Path     string
	Embedded bool
	// Used says that this is the one that serves the family here.
	Used bool
	// Protocol is the newest version that both sides speak, 0 if unknown.
	Protocol int
	Models   []ModelInfo
	// Err says why the plugin cannot be used, or is nil.
	Err error

	// folder is the plugin's own, in which it may keep files; "" if it shares it with others.
	folder string
}

// String returns the family and version, such as "resnet 1.2.0".
func (p Plugin) String() string {
	if p.Version == "" {
		return p.Family
	}
	return p.Family + " " + p.Version
}

// at returns the family and version as a command line has them, such as "resnet@1.2.0".
func (p Plugin) at() string { return strings.Replace(p.String(), " ", "@", 1) }

// Model returns the model of that name.
func (p Plugin) Model(name string) (ModelInfo, bool) {
	for _, m := range p.Models {
		if m.Name == name {
			return m, true
		}
	}
	return ModelInfo{}, false
}

// ModelInfo is what a family tells of a model without building it.
type ModelInfo struct {
	Name    string
	Paper   string
	Input   graph.Shape // what public weights expect
	MinSize int         // smallest height and width
	Options []sdk.Option
}

// embedded describes a linked-in family. This reads its table; none of its functions are called.
func embedded(f sdk.Family) Plugin {
	p := Plugin{
		Family: f.Name, Version: f.Version, Description: f.Description, License: f.License, Homepage: f.Homepage,
		Embedded: true, Protocol: pluginrpc.ProtocolEngine,
	}
	for _, m := range f.Models {
		p.Models = append(p.Models, ModelInfo{Name: m.Name, Paper: m.Paper, Input: m.Input, MinSize: m.MinSize, Options: m.Options})
	}
	return p
}

// Limits of a description, well above any real one.
const (
	maxModels  = 10_000
	maxText    = 2000
	maxOptions = 100
)

// describe takes over what a plugin tells of itself.
func (p *Plugin) describe(r *zoov1.DescribeResponse) error {
	if r.GetName() != p.Family {
		return fmt.Errorf("the binary is called zoo-%s but serves family %.100q: rename it", p.Family, r.GetName())
	}
	if len(r.GetModels()) > maxModels {
		return fmt.Errorf("it has %d models, more than %d", len(r.GetModels()), maxModels)
	}
	p.Version = line(r.GetVersion(), 100)
	p.Description, p.License, p.Homepage = line(r.GetDescription(), maxText), line(r.GetLicense(), 100), line(r.GetHomepage(), maxText)
	p.Models = nil
	for _, m := range r.GetModels() {
		info := ModelInfo{
			Name: line(m.GetName(), 200), Paper: line(m.GetPaper(), maxText),
			Input: pluginrpc.ShapeOf(m.GetInput()), MinSize: int(m.GetMinSize()),
		}
		if _, err := pluginrpc.TensorBytes(1, info.Input); err != nil || info.MinSize < 1 {
			return fmt.Errorf("model %s has input %v and smallest size %d", info.Name, info.Input, info.MinSize)
		}
		for _, o := range m.GetOptions()[:min(len(m.GetOptions()), maxOptions)] {
			option := sdk.Option{Name: line(o.GetName(), 100), Default: line(o.GetDefault(), maxText), Help: line(o.GetHelp(), maxText)}
			for _, v := range o.GetValues() {
				option.Values = append(option.Values, line(v, maxText))
			}
			info.Options = append(info.Options, option)
		}
		p.Models = append(p.Models, info)
	}
	return nil
}
