package hub

import (
	"encoding/json"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/card"
)

// Provenance of a model: an in-toto statement (v1) with the SLSA provenance predicate (v1), https://slsa.dev/spec/v1.0/provenance.
// Its subject is the weights, since the manifest that carries it cannot be named in it.
type (
	provenance struct {
		Type          string              `json:"_type"`
		Subject       []provenanceSubject `json:"subject"`
		PredicateType string              `json:"predicateType"`
		Predicate     predicate           `json:"predicate"`
	}
	provenanceSubject struct {
		Name   string            `json:"name"`
		Digest map[string]string `json:"digest"`
	}
	predicate struct {
		BuildDefinition buildDefinition `json:"buildDefinition"`
		RunDetails      runDetails      `json:"runDetails"`
	}
	buildDefinition struct {
		BuildType            string         `json:"buildType"`
		ExternalParameters   map[string]any `json:"externalParameters"`
		ResolvedDependencies []dependency   `json:"resolvedDependencies"`
	}
	dependency struct {
		URI    string            `json:"uri,omitempty"`
		Name   string            `json:"name,omitempty"`
		Digest map[string]string `json:"digest"`
	}
	runDetails struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
	}
)

// Build types say how weights came about.
const (
	buildConvert  = "https://zoo.dev/build/convert/v1"
	buildFinetune = "https://zoo.dev/build/finetune/v1"
)

func digestSet(d digest.Digest) map[string]string {
	return map[string]string{d.Algorithm().String(): d.Encoded()}
}

// newProvenance states what a card's weights were made of.
func newProvenance(c *card.Card) provenance {
	p := provenance{
		Type: "https://in-toto.io/Statement/v1", PredicateType: "https://slsa.dev/provenance/v1",
		Subject: []provenanceSubject{{c.Name + ".safetensors", digestSet(c.Weights.Digest)}},
	}
	def := &p.Predicate.BuildDefinition
	def.BuildType = buildConvert
	def.ExternalParameters = map[string]any{"name": c.Name, "tag": c.Tag, "family": c.Family, "model": c.Model}
	if len(c.Options) > 0 {
		def.ExternalParameters["options"] = c.Options
	}
	if c.Weights.DType != "" {
		def.ExternalParameters["dtype"] = c.Weights.DType
	}
	if c.Base != nil {
		def.BuildType = buildFinetune
		def.ResolvedDependencies = append(def.ResolvedDependencies, dependency{Name: c.Base.Name + ":" + c.Base.Tag, Digest: digestSet(c.Base.Weights)})
	}
	if c.Weights.Source != "" {
		def.ResolvedDependencies = append(def.ResolvedDependencies, dependency{Name: c.Name + ".safetensors", Digest: digestSet(c.Weights.Source)})
	}
	if c.Origin != nil {
		def.ResolvedDependencies = append(def.ResolvedDependencies, dependency{URI: c.Origin.URL, Digest: digestSet(c.Origin.Digest)})
	}
	p.Predicate.RunDetails.Builder.ID = "https://github.com/go-modelzoo/zoo"
	return p
}

// putProvenance stores the provenance of a card's weights and returns its layer.
func (h *Hub) putProvenance(c *card.Card) (ocispec.Descriptor, error) {
	text, err := json.Marshal(newProvenance(c))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d, err := h.store.Put(text)
	return ocispec.Descriptor{MediaType: MediaTypeProvenance, Digest: d, Size: int64(len(text))}, err
}
