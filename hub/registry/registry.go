// Package registry holds the index of models, weights and plugin binaries (registry.json): its types, the only parser,
// and the rules every index keeps.
//
// Invariants of an Index that Parse returned: names are unique and safe as file and repository names, every model's family
// is listed, every model with weights has exactly one default, digests are well-formed SHA-256, addresses are https (http
// only for loopback), sizes and counts are not negative. Whether an index may be used at all (signature, version floor,
// expiry) is decided by package sign and Policy; Parse does not read clocks.
//
// An Index is not written to after Parse and is then safe for concurrent use.
package registry

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Index is the content of registry.json.
type Index struct {
	// Version grows by at least one with every published index. A client refuses a lower one than it has seen.
	Version int64 `json:"version"`
	// Expires is the end of the index's validity. See Policy.
	Expires time.Time `json:"expires"`
	// Families are the plugins that build networks.
	Families []Family `json:"families"`
	// Models are the networks, sorted by name.
	Models []Model `json:"models"`
}

// Family is a plugin and its published binaries.
type Family struct {
	// Name is the family's name, such as "resnet".
	Name string `json:"name"`
	// Plugins are the published versions, in any order.
	Plugins []Plugin `json:"plugins,omitempty"`
}

// Plugin is one published version of a family's binary.
type Plugin struct {
	// Version is a semantic version without a leading v.
	Version string `json:"version"`
	// Protocol is the plugin protocol version that the binary speaks.
	Protocol int `json:"protocol"`
	// Platforms maps "GOOS/GOARCH" to the binary.
	Platforms map[string]Binary `json:"platforms"`
}

// Binary is an executable of one platform.
type Binary struct {
	Digest digest.Digest `json:"digest"`
	// Size is in bytes.
	Size int64 `json:"size"`
	// URL is where the binary is published over HTTPS. Empty: only in OCI registries and layouts.
	URL string `json:"url,omitempty"`
}

// Model is a network under the name that torchvision, or timm where torchvision has none, gives it.
type Model struct {
	Name    string `json:"name"`
	Family  string `json:"family"`
	Variant string `json:"variant,omitempty"`
	// Options are passed to the family when it builds the network.
	Options map[string]string `json:"options,omitempty"`
	// Params counts all parameters, auxiliary heads included where the checkpoints have them; no running statistics.
	Params int64 `json:"params"`
	// MACs counts multiply-accumulates of convolutions and linear layers for one image of size Input. Rows whose source
	// gives it in billions with three decimals are exact to 1e6.
	MACs int64 `json:"macs"`
	// Input is the image's channels, height and width after preprocessing.
	Input [3]int `json:"input"`
	// MinSize is the smallest height and width that the publisher states; the network may take smaller ones. Zero: not known.
	MinSize [2]int `json:"min_size,omitzero"`
	Classes int    `json:"classes"`
	// Capabilities are words of the plugin protocol, such as "classify" and "features".
	Capabilities []string `json:"capabilities,omitempty"`
	// Weights are the published parameter sets. Empty: the network is only built and trained.
	Weights []Weights `json:"weights,omitempty"`
}

// Weights is one published parameter set of a model.
type Weights struct {
	// Tag tells the model's weights apart, such as "IMAGENET1K_V2".
	Tag string `json:"tag"`
	// Default marks the weights that the model's bare name means.
	Default bool `json:"default,omitempty"`
	// Origin is the file that the authors published.
	Origin *Origin `json:"origin,omitempty"`
	// Artifact is the packed form in OCI registries and layouts.
	Artifact *Artifact `json:"artifact,omitempty"`
	// Options are added to the model's for these weights.
	Options map[string]string `json:"options,omitempty"`
	// Params, MACs and Input replace the model's where these weights differ. Zero: as the model's.
	Params     int64      `json:"params,omitempty"`
	MACs       int64      `json:"macs,omitempty"`
	Input      [3]int     `json:"input,omitzero"`
	Preprocess Preprocess `json:"preprocess"`
	// Metrics are published results in percent, such as acc@1 and acc@5 on ImageNet-1k.
	Metrics map[string]float64 `json:"metrics,omitempty"`
	// License is an SPDX identifier, an address, or "unknown".
	License string `json:"license"`
	// Recipe is the address of how the weights were trained.
	Recipe string `json:"recipe,omitempty"`
	// Note is a warning to show on pull.
	Note string `json:"note,omitempty"`
}

// Format is a checkpoint's file format.
type Format string

// The formats that package weights reads.
const (
	FormatPTH         Format = "pth"
	FormatSafetensors Format = "safetensors"
)

// Origin is a file on its authors' server.
type Origin struct {
	URL string `json:"url"`
	// SHA256 is the whole digest in hex; empty where nobody published it.
	SHA256 string `json:"sha256,omitempty"`
	// SHA256Prefix is the start of the digest in hex, from the file's name. Used only where SHA256 is empty.
	SHA256Prefix string `json:"sha256_prefix,omitempty"`
	// Size is the exact size in bytes. Zero: not known.
	Size int64 `json:"size,omitempty"`
	// SizeEstimate is the size in bytes, to within one percent and 1 MiB, where the exact one is not known.
	SizeEstimate int64  `json:"size_estimate,omitempty"`
	Format       Format `json:"format"`
}

// Artifact is a model packed for OCI registries.
type Artifact struct {
	// Digest is the manifest's.
	Digest digest.Digest `json:"digest"`
	// Size is that of the packed weights in bytes.
	Size int64 `json:"size"`
	// Unpacked is the digest of the safetensors file that the packed weights decode to.
	Unpacked digest.Digest `json:"unpacked"`
}

// Preprocess says how an image becomes the network's input: resize the shorter side, crop the centre, scale to [0,1],
// subtract Mean and divide by Std.
type Preprocess struct {
	// Resize is the length of the shorter side in pixels. Zero: no resize.
	Resize int `json:"resize,omitempty"`
	// Crop is the side of the centre square in pixels. Zero: no crop.
	Crop int `json:"crop,omitempty"`
	// Interpolation is "bilinear" or "bicubic". Empty only when Resize is zero.
	Interpolation string `json:"interpolation,omitempty"`
	// Mean and Std are per channel (RGB) in units of [0,1] pixels.
	Mean []float64 `json:"mean"`
	Std  []float64 `json:"std"`
	// Antialias says whether shrinking filters as PIL does. Nil: it does.
	Antialias *bool `json:"antialias,omitempty"`
}

// ByName finds a model. It returns nil when there is none.
func (x *Index) ByName(name string) *Model {
	for i := range x.Models {
		if x.Models[i].Name == name {
			return &x.Models[i]
		}
	}
	return nil
}

// FamilyByName finds a family. It returns nil when there is none.
func (x *Index) FamilyByName(name string) *Family {
	for i := range x.Families {
		if x.Families[i].Name == name {
			return &x.Families[i]
		}
	}
	return nil
}

// ByTag finds weights; the empty tag means the default ones. It returns nil when there are none.
func (m *Model) ByTag(tag string) *Weights {
	for i := range m.Weights {
		w := &m.Weights[i]
		if w.Tag == tag || tag == "" && w.Default {
			return w
		}
	}
	return nil
}

// Tags lists the model's weights, the default first.
func (m *Model) Tags() []string {
	tags := make([]string, 0, len(m.Weights))
	for _, w := range m.Weights {
		if w.Default {
			tags = append(tags, w.Tag)
		}
	}
	for _, w := range m.Weights {
		if !w.Default {
			tags = append(tags, w.Tag)
		}
	}
	return tags
}

// With returns the model as it is with weights w: Params, MACs, Input and Options replaced where w says so, and w as its
// only weights.
func (m *Model) With(w *Weights) Model {
	out := *m
	if w.Params != 0 {
		out.Params = w.Params
	}
	if w.MACs != 0 {
		out.MACs = w.MACs
	}
	if w.Input != ([3]int{}) {
		out.Input = w.Input
	}
	if len(w.Options) > 0 {
		out.Options = make(map[string]string, len(m.Options)+len(w.Options))
		for k, v := range m.Options {
			out.Options[k] = v
		}
		for k, v := range w.Options {
			out.Options[k] = v
		}
	}
	out.Weights = []Weights{*w}
	return out
}
