package golden

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/graph"
)

// Float32s is a list of little-endian float32 in base64.
type Float32s []float32

// UnmarshalJSON implements json.Unmarshaler.
func (f *Float32s) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	if len(raw)%4 != 0 {
		return fmt.Errorf("%d bytes are not a list of float32", len(raw))
	}
	*f = make(Float32s, len(raw)/4)
	for i := range *f {
		(*f)[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return nil
}

// Batch is the shape of a batch of images: N, C, H, W.
type Batch [4]int

// N returns the number of images.
func (b Batch) N() int { return b[0] }

// Shape returns the shape of one image.
func (b Batch) Shape() graph.Shape { return graph.Shape{C: b[1], H: b[2], W: b[3]} }

// String returns "NxCxHxW".
func (b Batch) String() string { return fmt.Sprintf("%dx%v", b.N(), b.Shape()) }

// Forward is the logits of one network in evaluation mode on Input("input", …).
type Forward struct {
	// Path is the file it came from.
	Path string `json:"-"`
	// Model is torchvision's name, or timm's.
	Model string `json:"model"`
	// Params counts all parameters, those of auxiliary classifiers included.
	Params int64 `json:"params"`
	// Gain is the argument of Fill.
	Gain  float64 `json:"gain"`
	Input Batch   `json:"input"`
	// Sensitivity is the relative L2 change of the logits when the whole input is replaced: errors near it mean nothing.
	Sensitivity float64  `json:"input_sensitivity"`
	LogitsShape [2]int   `json:"logits_shape"`
	Logits      Float32s `json:"logits_f32le_base64"`
	// Emulated is the relative L2 error of PyTorch with operands rounded as in the precision: "high", "medium".
	Emulated map[string]float64 `json:"emulated_error"`
}

// Tolerance returns the largest relative L2 error allowed at a precision, and whether the case says anything at that precision.
func (f Forward) Tolerance(p engine.Precision) (tolerance float64, meaningful bool) {
	if p == engine.Highest {
		return 2e-5, true
	}
	e, ok := f.Emulated[p.String()]
	return 4 * e, ok && e <= 0.1
}

// Train is three optimiser steps in train mode without dropout and stochastic depth.
type Train struct {
	Path    string   `json:"-"`
	Model   string   `json:"model"`
	Classes int      `json:"num_classes"`
	Gain    float64  `json:"gain"`
	Batch   Batch    `json:"batch"`
	Inputs  []string `json:"inputs"` // names for Input, one a step
	Labels  []int    `json:"labels"`
	// Optimizer has PyTorch's arguments.
	Optimizer struct {
		Name        string  `json:"name"` // "sgd", "adam" or "adamw"
		LR          float64 `json:"lr"`
		Momentum    float64 `json:"momentum"`
		WeightDecay float64 `json:"weight_decay"`
	} `json:"optimizer"`
	// FrozenPrefixes: parameters whose name begins so are not trained, and their batch norms stay in evaluation mode.
	FrozenPrefixes []string `json:"frozen_prefixes"`
	Dropout        float64  `json:"dropout"`
	// Losses are those before each step.
	Losses []float64 `json:"losses"`
	// GradL2 is the L2 norm of each parameter's gradient in the first step.
	GradL2 map[string]float64 `json:"grad_l2_step1"`
	// EvalInput is the shape of Input("input", …) and EvalLogits the logits in evaluation mode after the steps.
	EvalInput  Batch    `json:"eval_input"`
	EvalLogits Float32s `json:"eval_logits_f32le_base64"`
	// Spread is how far two float32 runs of PyTorch with different orders of summation differ.
	Spread Spread `json:"float32_spread"`
}

// Spread is the noise of the problem itself, relative.
type Spread struct {
	Losses     float64 `json:"losses"`
	GradL2     float64 `json:"grad_l2"`
	EvalLogits float64 `json:"eval_logits"`
}

// Tolerances returns the largest relative errors allowed at engine.Highest; gradient norms count only above GradFloor times
// the largest norm.
func (t Train) Tolerances() Spread {
	return Spread{
		Losses:     max(2e-5, 5*t.Spread.Losses),
		GradL2:     max(2e-3, 5*t.Spread.GradL2),
		EvalLogits: max(1e-3, 5*t.Spread.EvalLogits),
	}
}

// GradFloor is the share of the largest gradient norm below which a norm is not compared.
const GradFloor = 1e-3

// LoadForward reads a file of a folder's forward/.
func LoadForward(path string) (Forward, error) {
	f := Forward{Path: path}
	if err := load(path, &f); err != nil {
		return Forward{}, err
	}
	if len(f.Logits) != f.LogitsShape[0]*f.LogitsShape[1] || f.LogitsShape[0] != f.Input.N() {
		return Forward{}, fmt.Errorf("golden %s: %d logits are not of shape %v for input %v", path, len(f.Logits), f.LogitsShape, f.Input)
	}
	return f, nil
}

// LoadTrain reads a file of a folder's train/.
func LoadTrain(path string) (Train, error) {
	t := Train{Path: path}
	if err := load(path, &t); err != nil {
		return Train{}, err
	}
	if len(t.Inputs) != len(t.Losses) || len(t.Labels) != t.Batch.N() || len(t.EvalLogits) != t.EvalInput.N()*t.Classes {
		return Train{}, fmt.Errorf("golden %s: %d inputs, %d losses, %d labels and %d logits do not fit batch %v and %d classes",
			path, len(t.Inputs), len(t.Losses), len(t.Labels), len(t.EvalLogits), t.Batch, t.Classes)
	}
	return t, nil
}

func load(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("golden: %w", err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("golden %s: %w", path, err)
	}
	return nil
}

// Folders returns the module's testdata/goldens and every folder that the colon-separated list ZOO_GOLDENS names (on Windows it is
// separated by semicolons), relative to the module's root. A folder holds forward/*.json and train/*.json.
func Folders() ([]string, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	folders := []string{filepath.Join(root, "testdata", "goldens")}
	for _, dir := range filepath.SplitList(os.Getenv("ZOO_GOLDENS")) {
		if dir == "" {
			continue
		}
		if !filepath.IsAbs(dir) { // tests run in their package's folder
			dir = filepath.Join(root, dir)
		}
		_, forward := os.Stat(filepath.Join(dir, "forward"))
		_, train := os.Stat(filepath.Join(dir, "train"))
		if forward != nil && train != nil { // or a mistaken folder would test nothing
			return nil, fmt.Errorf("ZOO_GOLDENS: %s holds neither forward/ nor train/", dir)
		}
		folders = append(folders, dir)
	}
	return folders, nil
}

// ForwardCases loads all forward goldens of Folders.
func ForwardCases() ([]Forward, error) { return cases("forward", LoadForward) }

// TrainCases loads all train goldens of Folders.
func TrainCases() ([]Train, error) { return cases("train", LoadTrain) }

func cases[T any](kind string, load func(string) (T, error)) ([]T, error) {
	folders, err := Folders()
	if err != nil {
		return nil, err
	}
	var list []T
	for _, dir := range folders {
		entries, err := os.ReadDir(filepath.Join(dir, kind))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("golden: %w", err)
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".json") {
				continue
			}
			c, err := load(filepath.Join(dir, kind, e.Name()))
			if err != nil {
				return nil, err
			}
			list = append(list, c)
		}
	}
	return list, nil
}

// moduleRoot walks up from the working directory, which in a test is the package's, to the nearest go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("golden: no go.mod above the working directory: run inside the module")
		}
		dir = parent
	}
}
