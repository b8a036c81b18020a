// Package card defines the model card: what a program must know to use weights, and where they come from. It is the config
// of a model's OCI artifact, so the manifest's digest covers it, and a signature of the manifest too.
//
// A Card is plain data, not safe for concurrent writing.
package card

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/go-modelzoo/zoo/hub/registry"
)

const (
	// MediaType is the media type of an encoded card.
	MediaType = "application/vnd.zoo.card.v1+json"
	// ArtifactType is that of manifests of models.
	ArtifactType = "application/vnd.zoo.weights.v1"
	// MaxBytes bounds an encoded card.
	MaxBytes = 4 << 20
)

// ErrInvalid says that a card is not well-formed or does not fit its artifact.
var ErrInvalid = errors.New("model card refused")

// Card describes a model with its weights.
type Card struct {
	Name    string            `json:"name"`
	Tag     string            `json:"tag,omitempty"`
	Family  string            `json:"family"`
	Model   string            `json:"model"`
	Variant string            `json:"variant,omitempty"`
	Options map[string]string `json:"options,omitempty"`
	Params  int64             `json:"params,omitempty"`
	MACs    int64             `json:"macs,omitempty"`
	// Input is channels, height and width.
	Input   [3]int `json:"input"`
	Classes int    `json:"classes"`
	// Labels names the classes, in the order of the logits. Empty: not known.
	Labels       []string            `json:"labels,omitempty"`
	Capabilities []string            `json:"capabilities,omitempty"`
	Preprocess   registry.Preprocess `json:"preprocess"`
	Metrics      map[string]float64  `json:"metrics,omitempty"`
	License      string              `json:"license"`
	Recipe       string              `json:"recipe,omitempty"`
	Note         string              `json:"note,omitempty"`
	// Origin is the file that the weights were converted from.
	Origin *Origin `json:"origin,omitempty"`
	// Weights is the safetensors file. Zero: of a description without weights, which is no valid card.
	Weights Weights `json:"weights,omitzero"`
	// Base is the model that these weights were fine-tuned from.
	Base *Base `json:"base,omitempty"`
	// Created is when the weights were made. Zero: not known; conversions have none, so that they are reproducible.
	Created time.Time `json:"created,omitzero"`
}

// Origin is a published file.
type Origin struct {
	URL    string          `json:"url,omitempty"`
	Digest digest.Digest   `json:"digest"`
	Size   int64           `json:"size"`
	Format registry.Format `json:"format,omitempty"`
	// Unverified says that the digest was not published and was trusted on first use; Prefix is what was published of it.
	Unverified bool   `json:"unverified,omitempty"`
	Prefix     string `json:"sha256_prefix,omitempty"`
}

// Weights identify the safetensors file.
type Weights struct {
	Digest digest.Digest `json:"digest"`
	// Size is in bytes.
	Size int64 `json:"size"`
	// DType is the type that floating-point tensors were converted to on push. Empty: as they were.
	DType string `json:"dtype,omitempty"`
	// Source is the digest of the safetensors file before that conversion.
	Source digest.Digest `json:"source,omitempty"`
}

// Base is a model that another was made from.
type Base struct {
	Name    string        `json:"name"`
	Tag     string        `json:"tag,omitempty"`
	Weights digest.Digest `json:"weights"`
}

// FromRow makes the card of a registry row, without its weights' digest.
func FromRow(m *registry.Model, w *registry.Weights) *Card {
	full := m.With(w)
	return &Card{
		Name: m.Name, Tag: w.Tag, Family: m.Family, Model: m.Name, Variant: m.Variant, Options: full.Options, Params: full.Params, MACs: full.MACs,
		Input: full.Input, Classes: m.Classes, Capabilities: m.Capabilities, Preprocess: w.Preprocess, Metrics: w.Metrics,
		License: w.License, Recipe: w.Recipe, Note: w.Note,
	}
}

// Encode returns the card as JSON; the same card gives the same bytes.
func (c *Card) Encode() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(c)
}

// Parse reads and checks a card.
func Parse(data []byte) (*Card, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrInvalid, MaxBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	c := new(Card)
	if err := dec.Decode(c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: data after the end of the object", ErrInvalid)
	}
	return c, c.Validate()
}

// Validate checks names, digests, counts and preprocessing.
func (c *Card) Validate() error {
	bad := func(what string, v ...any) error {
		return fmt.Errorf("%w: %s:%s: %s", ErrInvalid, c.Name, c.Tag, fmt.Sprintf(what, v...))
	}
	switch {
	case !registry.ValidName(c.Name) || !registry.ValidTag(c.Tag) || !registry.ValidName(c.Family) || !registry.ValidName(c.Model):
		return bad("name, tag, family %q and model %q must be valid names", c.Family, c.Model)
	case c.Weights.Digest.Validate() != nil || c.Weights.Digest.Algorithm() != digest.SHA256 || c.Weights.Size <= 0:
		return bad("weights %q of %d bytes", c.Weights.Digest, c.Weights.Size)
	case c.Classes < 1 || c.Params < 0 || c.MACs < 0:
		return bad("classes %d, params %d and macs %d must not be negative", c.Classes, c.Params, c.MACs)
	case len(c.Labels) > 0 && len(c.Labels) != c.Classes:
		return bad("%d labels for %d classes", len(c.Labels), c.Classes)
	case c.License == "":
		return bad(`license is missing: write "unknown" where it is not known`)
	}
	for _, v := range c.Input {
		if v < 1 || v > 1<<16 {
			return bad("input %v", c.Input)
		}
	}
	if err := c.Preprocess.Validate(c.Input[0]); err != nil {
		return bad("%v", err)
	}
	if o := c.Origin; o != nil && (o.Digest.Validate() != nil || o.Size < 0) {
		return bad("origin %q of %d bytes", o.Digest, o.Size)
	}
	return nil
}
