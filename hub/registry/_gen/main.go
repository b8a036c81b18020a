// Command _gen writes registry.json from a table of facts about public checkpoints.
//
//	go run ./hub/registry/_gen -facts FACTS.json -out registry.json -version N -expires 2027-11-30
//
// The table is a JSON object {"models":[...]} with one row per checkpoint, the fields of type fact below; it was collected
// from torchvision's weight enums and timm's default configurations and is not part of the repository. What this program
// adds to it: the family that builds each model, options that a checkpoint needs, notes, and the CIFAR ResNets.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/internal/preprocess"
)

// fact is one row of the table.
type fact struct {
	Model         string    `json:"model"`
	Family        string    `json:"family"`
	Source        string    `json:"source"`
	Weights       string    `json:"weights"`
	Default       *bool     `json:"default"`
	URL           string    `json:"url"`
	HubID         string    `json:"hf_hub_id"`
	HubFile       string    `json:"hf_file"`
	SHA256        string    `json:"sha256"`
	SHA256Prefix  string    `json:"sha256_prefix"`
	FileBytes     int64     `json:"file_bytes"`
	FileMiB       float64   `json:"file_size_mb"`
	Params        int64     `json:"num_params"`
	GMACs         float64   `json:"gflops"`
	Acc1          float64   `json:"acc1"`
	Acc5          float64   `json:"acc5"`
	Crop          int       `json:"crop"`
	Resize        int       `json:"resize"`
	Interpolation string    `json:"interpolation"`
	Mean          []float64 `json:"mean"`
	Std           []float64 `json:"std"`
	Recipe        string    `json:"recipe"`
	MinSize       [2]int    `json:"min_size"`
	Classes       int       `json:"num_classes"`
	License       string    `json:"license"`
	Note          string    `json:"note"`
}

// families maps the table's families to the plugins that build them.
var families = map[string]string{
	"alexnet": "alexnet", "convnext": "convnext", "densenet": "densenet", "efficientnet": "efficientnet",
	"efficientnetv2": "efficientnet", "inception": "inception", "mnasnet": "mnasnet", "mobilenet": "mobilenet",
	"resnet": "resnet", "resnext": "resnet", "wideresnet": "resnet", "senet": "senet", "shufflenet": "shufflenet",
	"squeezenet": "squeezenet", "vgg": "vgg",
}

// unbuilt are models of those families that no plugin builds; their rows are left out.
var unbuilt = []string{"inception_v4", "inception_resnet_v2"}

// plain are families of the program without public checkpoints of their own.
var plain = []string{"lenet"}

// defaults names the default tag where the table marks none and the first row is not it.
var defaults = map[string]string{"seresnext50_32x4d": "racm_in1k"}

// options are what a checkpoint needs beyond its model: torchvision's GoogLeNet and Inception V3 normalise their input
// once more, and timm's Inception V3 files have no auxiliary head.
func options(f fact) map[string]string {
	switch {
	case f.Source == "torchvision" && (f.Model == "googlenet" || f.Model == "inception_v3"):
		return map[string]string{"transform_input": "true"}
	case f.Source == "timm" && f.Model == "inception_v3" && f.Weights != "tv_in1k":
		return map[string]string{"aux_logits": "false"}
	}
	return nil
}

func main() {
	facts := flag.String("facts", "", "table of facts")
	out := flag.String("out", "registry.json", "index to write")
	version := flag.Int64("version", 0, "version of the index: higher than any published one")
	expires := flag.String("expires", "", "day of expiry, YYYY-MM-DD")
	flag.Parse()
	if err := run(*facts, *out, *version, *expires); err != nil {
		log.Fatal(err)
	}
}

func run(facts, out string, version int64, expires string) error {
	data, err := os.ReadFile(facts)
	if err != nil {
		return err
	}
	var table struct{ Models []fact }
	if err := json.Unmarshal(data, &table); err != nil {
		return fmt.Errorf("%s: %w", facts, err)
	}
	day, err := time.Parse(time.DateOnly, expires)
	if err != nil {
		return fmt.Errorf("-expires: %w", err)
	}
	x := &registry.Index{Version: version, Expires: day, Models: cifar()}
	for _, f := range table.Models {
		family, ok := families[f.Family]
		if !ok || slices.Contains(unbuilt, f.Model) {
			continue
		}
		if err := add(x, family, f); err != nil {
			return fmt.Errorf("%s %s: %w", f.Model, f.Weights, err)
		}
	}
	for i := range x.Models {
		settle(&x.Models[i])
	}
	slices.SortFunc(x.Models, func(a, b registry.Model) int { return strings.Compare(a.Name, b.Name) })
	x.Families = listFamilies()
	if err := x.Validate(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(x, "", " ")
	if err != nil {
		return err
	}
	text = numbers.ReplaceAllFunc(text, func(list []byte) []byte { return spaces.ReplaceAll(list, nil) })
	return os.WriteFile(out, append(text, '\n'), 0o644)
}

// numbers finds lists of numbers, which are written on one line.
var (
	numbers = regexp.MustCompile(`\[[0-9.,\s]+\]`)
	spaces  = regexp.MustCompile(`\s+`)
)

func listFamilies() []registry.Family {
	names := slices.Clone(plain)
	for _, name := range families {
		names = append(names, name)
	}
	slices.Sort(names)
	var list []registry.Family
	for _, name := range slices.Compact(names) {
		list = append(list, registry.Family{Name: name})
	}
	return list
}

func add(x *registry.Index, family string, f fact) error {
	w := registry.Weights{
		Tag: f.Weights, Default: f.Default != nil && *f.Default, Options: options(f),
		Params: f.Params, MACs: int64(math.Round(f.GMACs * 1e9)), Input: [3]int{3, f.Crop, f.Crop},
		Preprocess: registry.Preprocess{Resize: f.Resize, Crop: f.Crop, Interpolation: f.Interpolation, Mean: f.Mean, Std: f.Std},
		License:    f.License, Recipe: f.Recipe, Note: f.Note,
	}
	if f.Acc1 > 0 {
		w.Metrics = map[string]float64{"acc@1": f.Acc1, "acc@5": f.Acc5}
	}
	if w.License == "" {
		w.License = "unknown"
	}
	if w.License == "apache-2.0" { // timm's spelling
		w.License = "Apache-2.0" // SPDX's
	}
	if strings.Contains(w.License, "SWAG") {
		w.License = "CC-BY-NC-4.0"
	}
	o := &registry.Origin{URL: f.URL, SHA256: f.SHA256, SHA256Prefix: f.SHA256Prefix, Size: f.FileBytes, Format: registry.FormatPTH}
	if o.URL == "" && f.HubID != "" {
		o.URL = "https://huggingface.co/" + f.HubID + "/resolve/main/" + f.HubFile
	}
	switch {
	case o.URL == "":
		return errors.New("no address")
	case strings.HasSuffix(o.URL, ".safetensors"):
		o.Format = registry.FormatSafetensors
	case !strings.HasSuffix(o.URL, ".pth") && !strings.HasSuffix(o.URL, ".th"):
		return fmt.Errorf("format of %s is not known", o.URL)
	}
	if o.SHA256 != "" {
		o.SHA256Prefix = ""
	}
	if o.Size == 0 {
		o.SizeEstimate = int64(math.Round(f.FileMiB * (1 << 20)))
	}
	w.Origin = o
	m := x.ByName(f.Model)
	if m == nil {
		x.Models = append(x.Models, registry.Model{
			Name: f.Model, Family: family, Variant: variant(f), Classes: f.Classes, MinSize: f.MinSize,
			Capabilities: []string{"classify", "features"},
		})
		m = &x.Models[len(x.Models)-1]
	}
	m.Weights = append(m.Weights, w)
	return nil
}

// variant keeps the table's finer family, such as resnext, where a plugin holds several.
func variant(f fact) string {
	if families[f.Family] != f.Family {
		return f.Family
	}
	return ""
}

// settle chooses the default weights and moves to the model what its weights share.
func settle(m *registry.Model) {
	if len(m.Weights) == 0 {
		return
	}
	if m.ByTag("") == nil {
		pick := &m.Weights[0]
		if w := m.ByTag(defaults[m.Name]); defaults[m.Name] != "" && w != nil {
			pick = w
		}
		pick.Default = true
	}
	d := m.ByTag("")
	m.Params, m.MACs, m.Input = d.Params, d.MACs, d.Input
	for i := range m.Weights {
		w := &m.Weights[i]
		if w.Params == m.Params {
			w.Params = 0
		}
		if w.MACs == m.MACs {
			w.MACs = 0
		}
		if w.Input == m.Input {
			w.Input = [3]int{}
		}
	}
}

// cifar are the ResNets for 32x32 images of He et al. (2015), section 4.2, with shortcuts of option A, as published in
// akamaster/pytorch_resnet_cifar10 (BSD-2-Clause); digests and sizes were taken from the files of that commit.
func cifar() []registry.Model {
	const base = "https://raw.githubusercontent.com/akamaster/pytorch_resnet_cifar10/d5489e8995e81e91ce6b1d69dcc98ad579b0b153/pretrained_models/"
	rows := []struct {
		depth        int
		file, sha256 string
		size         int64
		acc1         float64
	}{
		{20, "resnet20-12fca82f.th", "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8", 1099231, 91.78},
		{32, "resnet32-d509ac18.th", "d509ac1820d7f25398913559d7e81a13229b1e7adc5648e3bfa5e22dc137f850", 1890043, 92.78},
		{44, "resnet44-014dd654.th", "014dd6541728a1c700b1642ab640e211dc6eb8ed507d70697458dc8f8a0ae2e4", 2680855, 93.14},
		{56, "resnet56-4bfd9763.th", "4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367", 3471733, 93.62},
		{110, "", "", 0, 0},
	}
	mean, std := preprocess.ImageNet()
	var models []registry.Model
	for _, r := range rows {
		n := int64(r.depth-2) / 6 // blocks a stage
		conv := func(in, out, side, count int64) (params, macs int64) {
			return count * (in*out*9 + 2*out), count * in * out * 9 * side * side
		}
		params, macs := int64(64*10+10), int64(64*10)
		for _, c := range [][4]int64{{3, 16, 32, 1}, {16, 16, 32, 2 * n}, {16, 32, 16, 1}, {32, 32, 16, 2*n - 1}, {32, 64, 8, 1}, {64, 64, 8, 2*n - 1}} {
			p, m := conv(c[0], c[1], c[2], c[3])
			params, macs = params+p, macs+m
		}
		m := registry.Model{
			Name: fmt.Sprintf("resnet%d", r.depth), Family: "resnet", Variant: "cifar", Params: params, MACs: macs,
			Input: [3]int{3, 32, 32}, Classes: 10, Capabilities: []string{"classify", "features"},
		}
		if r.file != "" {
			m.Weights = []registry.Weights{{
				Tag: "CIFAR10", Params: params, MACs: macs, Input: m.Input,
				Origin:     &registry.Origin{URL: base + r.file, SHA256: r.sha256, Size: r.size, Format: registry.FormatPTH},
				Preprocess: registry.Preprocess{Crop: 32, Mean: mean[:], Std: std[:]},
				Metrics:    map[string]float64{"acc@1": r.acc1}, License: "BSD-2-Clause",
				Recipe: "https://github.com/akamaster/pytorch_resnet_cifar10",
			}}
		}
		models = append(models, m)
	}
	return models
}
