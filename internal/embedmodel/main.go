// Command embedmodel packs a trained model into the hub that is compiled into zoo: an OCI image layout in the folder embedded.
//
//	zoo train resnet20 --data cifar10 … --out runs/resnet20/     (the whole command is recipe, below)
//	go run ./internal/embedmodel runs/resnet20
//
// It prints the weights' row for registry.json, by whose digests the program trusts what it carries.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-modelzoo/zoo"
	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/registry"
)

const (
	tag = "ZOO_CIFAR10"
	// recipe is the training's command line without the paths of the machine that ran it.
	recipe = "zoo train resnet20 --data cifar10 --size 32 --epochs 30 --batch 64 --lr 0.1 --schedule one-cycle --warmup 0 --seed 20"
	note   = "trained by `zoo train` from random weights on 20,000 CIFAR-10 images that were JPEG-compressed once more (2,000 a class), measured on the 10,000 test images, compressed likewise (epoch 29 of 30, the best by them; the last has 82.59 %); it knows ten kinds of things and nothing else"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: embedmodel FOLDER")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "embedmodel:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, folder string) (err error) {
	data, err := os.ReadFile(filepath.Join(folder, classifier.FolderCard))
	if err != nil {
		return err
	}
	k, err := card.Parse(data)
	if err != nil {
		return err
	}
	k.Name, k.Tag, k.Variant, k.License, k.Recipe, k.Note = k.Model, tag, "cifar", "Apache-2.0", recipe, note
	home, err := os.MkdirTemp("", "embedmodel-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(home)) }()
	index, err := otherWeights(k.Model)
	if err != nil {
		return err
	}
	h, err := hub.Open(hub.Config{Home: home, Offline: true, Index: index, LockFile: filepath.Join(home, "zoo.lock")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	m, err := h.Import(ctx, filepath.Join(folder, classifier.FolderWeights), k, hub.ImportOptions{Overwrite: true})
	if err != nil {
		return err
	}
	if err := os.RemoveAll("embedded"); err != nil {
		return err
	}
	if err := os.Mkdir("embedded", 0o755); err != nil {
		return err
	}
	p, err := h.Push(ctx, m.Reference(), "embedded", hub.PushOptions{})
	if err != nil {
		return err
	}
	size, err := packedSize(p)
	if err != nil {
		return err
	}
	row := registry.Weights{
		Tag: tag, Default: true, Artifact: &registry.Artifact{Digest: p.Manifest.Digest, Size: size, Unpacked: m.Digest},
		Preprocess: k.Preprocess, Metrics: map[string]float64{"acc@1": k.Metrics["top1"], "acc@5": k.Metrics["top5"]}, License: k.License, Note: note,
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(row)
}

// otherWeights is the index without the row that is about to be made: names of the index cannot be imported.
func otherWeights(model string) ([]byte, error) {
	x, err := registry.Parse(zoo.RegistryJSON())
	if err != nil {
		return nil, err
	}
	m := x.ByName(model)
	if m == nil {
		return nil, fmt.Errorf("the index has no model %s", model)
	}
	m.Weights = slices.DeleteFunc(m.Weights, func(w registry.Weights) bool { return w.Tag == tag })
	if len(m.Weights) > 0 {
		m.Weights[0].Default = true
	}
	return json.Marshal(x)
}

// packedSize reads the size of the weights' layer from the manifest.
func packedSize(p *hub.Pushed) (int64, error) {
	data, err := os.ReadFile(filepath.Join("embedded", "blobs", "sha256", p.Manifest.Digest.Encoded()))
	if err != nil {
		return 0, err
	}
	var manifest struct {
		Layers []struct{ Size int64 }
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		return 0, err
	}
	return manifest.Layers[0].Size, nil
}
