package classifier

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/store"
	"github.com/go-modelzoo/zoo/internal/files"
	"github.com/go-modelzoo/zoo/internal/preprocess"
	"github.com/go-modelzoo/zoo/internal/ui"
	"github.com/go-modelzoo/zoo/vision/transforms"
)

// Files of a model in a folder, as `zoo finetune --out DIR` writes them.
const (
	FolderWeights = "model.safetensors"
	FolderCard    = "card.json"
)

// Checkpoint is a model's description with a file of its weights, or without one: an architecture alone.
type Checkpoint struct {
	// Name is what the model was asked for by.
	Name string
	Card card.Card
	// Path is a safetensors file, "" for an architecture without weights, and SHA256 its digest in hex.
	Path   string
	SHA256 string
	// Source says where the weights came from, such as "store" or "oci://…".
	Source string
}

// Network is what a host builds of the checkpoint.
func (c *Checkpoint) Network() host.Network {
	return host.Network{
		Family: c.Card.Family, Model: c.Card.Model, Options: c.Card.Options, Classes: c.Card.Classes,
		Input: graph.Shape{C: c.Card.Input[0], H: c.Card.Input[1], W: c.Card.Input[2]},
	}
}

// whole compares the weights with their digest, if there is one, as plugins do. What reads them in this process does it first.
func (c *Checkpoint) whole(ctx context.Context) error {
	if c.SHA256 == "" {
		return nil
	}
	f, err := os.Open(c.Path)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	d, err := store.HashFile(ctx, f)
	if err == nil && d.Encoded() != c.SHA256 {
		err = fmt.Errorf("%s: %s has SHA-256 %s, not %s: the file was changed or damaged: run zoo verify", c.Name, c.Path, d.Encoded(), c.SHA256)
	}
	return err
}

// Find resolves a reference to a model with weights: a folder, a model of the store, or one of the index or an OCI reference,
// which is then pulled. A licence that the configuration does not allow is refused wherever the model comes from.
func (c *Client) Find(ctx context.Context, ref string) (_ *Checkpoint, err error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end(&err)
	ck, err := c.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	return ck, c.Hub.CheckLicense(ref, ck.Card.License)
}

func (c *Client) find(ctx context.Context, ref string) (*Checkpoint, error) {
	if isFolder(ref) {
		return openFolder(ref)
	}
	if err := notFile(ref); err != nil {
		return nil, err
	}
	m, err := c.Hub.Local(ctx, ref)
	if errors.Is(err, store.ErrNotFound) {
		m, err = c.Pull(ctx, ref)
	}
	if err != nil {
		return nil, err
	}
	return &Checkpoint{Name: ref, Card: *m.Card, Path: m.Path, SHA256: m.Digest.Encoded(), Source: m.Source}, nil
}

// Architecture resolves a reference to a network without weights, or with those of a model at hand: nothing is downloaded.
func (c *Client) Architecture(ctx context.Context, ref string) (_ *Checkpoint, err error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end(&err)
	if isFolder(ref) {
		return openFolder(ref)
	}
	if err := notFile(ref); err != nil {
		return nil, err
	}
	m, err := c.Hub.Local(ctx, ref)
	if err == nil {
		return &Checkpoint{Name: ref, Card: *m.Card, Path: m.Path, SHA256: m.Digest.Encoded(), Source: m.Source}, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if k, err := c.row(ctx, ref); err != nil || k != nil {
		return k, err
	}
	plugin, info, err := c.Host.Model(ctx, ref)
	if errors.Is(err, host.ErrNotFound) {
		return nil, c.unknown(ctx, ref)
	}
	if err != nil {
		return nil, err
	}
	return &Checkpoint{Name: ref, Card: untrained(plugin, info)}, nil
}

// row returns the index's description of a model without its weights, nil when the index has none.
func (c *Client) row(ctx context.Context, ref string) (*Checkpoint, error) {
	name, tag, err := registry.SplitReference(ref)
	if err != nil {
		return nil, nil // an OCI reference, which no row has
	}
	index, err := c.Hub.Index(ctx)
	if err != nil {
		return nil, err
	}
	m := index.ByName(name)
	if m == nil {
		return nil, nil
	}
	w := m.ByTag(tag)
	if w == nil {
		if tag != "" {
			return nil, fmt.Errorf("%s has no weights %q; it has %s", name, tag, strings.Join(m.Tags(), ", "))
		}
		w = &registry.Weights{Preprocess: imageNet(m.Input), License: "unknown"}
	}
	return &Checkpoint{Name: ref, Card: *card.FromRow(m, w)}, nil
}

// untrained describes an architecture that has no weights: 1000 classes, ImageNet's preprocessing.
func untrained(p host.Plugin, info host.ModelInfo) card.Card {
	in := [3]int{info.Input.C, info.Input.H, info.Input.W}
	return card.Card{Name: info.Name, Family: p.Family, Model: info.Name, Classes: 1000, Input: in, Preprocess: imageNet(in), License: "unknown"}
}

// imageNet is torchvision's usual preprocessing for images of a size: the shorter side to 8/7 of it, the centre cropped. Grey images are normalised by
// the means of the three channels' values.
func imageNet(in [3]int) registry.Preprocess {
	mean, std := preprocess.ImageNet()
	p := registry.Preprocess{Resize: in[1] * 8 / 7, Crop: in[1], Interpolation: "bilinear", Mean: mean[:], Std: std[:]}
	if in[0] == 1 {
		p.Mean, p.Std = []float64{0.449}, []float64{0.226}
	}
	return p
}

// transform turns a card's preprocessing into the transform that does it.
func transform(p registry.Preprocess, channels int) transforms.Preprocess {
	t := transforms.Preprocess{
		Resize: p.Resize, Crop: p.Crop, Interpolation: transforms.Interpolation(p.Interpolation), Antialias: p.Antialias, Channels: channels,
	}
	for i := range t.Mean {
		t.Mean[i], t.Std[i] = 0, 1
		if len(p.Mean) > 0 {
			t.Mean[i] = float32(p.Mean[min(i, len(p.Mean)-1)])
		}
		if len(p.Std) > 0 {
			t.Std[i] = float32(p.Std[min(i, len(p.Std)-1)])
		}
	}
	return t
}

func (c *Client) unknown(ctx context.Context, ref string) error {
	list, unusable, err := c.list(ctx)
	if err != nil {
		return fmt.Errorf("%w %q (and the known ones cannot be listed: %w)", ErrUnknownModel, ref, err)
	}
	err = fmt.Errorf("%w %q; `zoo list` shows all%s", ErrUnknownModel, ref, ui.DidYouMean(ref, names(list)))
	if unusable != nil {
		err = fmt.Errorf("%w; %w", err, unusable)
	}
	return err
}

// reference is what a model of the store is asked for by: its name, with its tag where the index means other weights by the name alone.
func (c *Client) reference(ctx context.Context, m *hub.Model) string {
	if index, err := c.Hub.Index(ctx); err != nil || index.ByName(m.Name) != nil {
		return m.Reference()
	}
	return m.Name
}

// notFile refuses a file where a model is to be named: a checkpoint does not say of which network it is.
func notFile(ref string) error {
	if _, _, err := registry.SplitReference(ref); err == nil {
		return nil
	}
	if info, err := os.Stat(ref); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	return fmt.Errorf("%s is a file and no model: zoo import %s --as NAME --model MODEL makes one of a checkpoint", ref, ref)
}

func openFolder(dir string) (*Checkpoint, error) {
	data, err := files.ReadAll(filepath.Join(dir, FolderCard), card.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("%s is no model folder: it needs %s and %s: %w", dir, FolderCard, FolderWeights, err)
	}
	k, err := card.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, FolderCard), err)
	}
	c := &Checkpoint{Name: dir, Card: *k, Path: filepath.Join(dir, FolderWeights), Source: dir}
	if _, err := os.Stat(c.Path); err != nil {
		return nil, fmt.Errorf("%s is no model folder: %w", dir, err)
	}
	return c, nil
}
