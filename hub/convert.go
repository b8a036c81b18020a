package hub

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/internal/files"
	"github.com/go-modelzoo/zoo/weights"
)

// convert makes a model of a checkpoint in the store, in any format that package weights reads.
func (h *Hub) convert(ctx context.Context, c *card.Card, checkpoint digest.Digest) (*artifact, error) {
	path, err := h.store.Path(checkpoint)
	if err != nil {
		return nil, err
	}
	if err := h.storeWeights(ctx, c, path, checkpoint); err != nil {
		return nil, fmt.Errorf("%s:%s: %w", c.Name, c.Tag, err)
	}
	if c.Origin == nil || c.Origin.Digest == "" {
		c.Origin = &card.Origin{Digest: checkpoint}
	}
	provenance, err := h.putProvenance(c)
	if err != nil {
		return nil, err
	}
	// The lock is asked before the model gets its name.
	if err := h.pinModel(ctx, c.Name+":"+c.Tag, &artifact{card: c}); err != nil {
		return nil, err
	}
	return h.publish(ctx, source.RefName(c.Name, c.Tag), c, []ocispec.Descriptor{plainLayer(c), provenance})
}

// storeWeights stores the checkpoint at path as safetensors and notes digest and size in the card. A safetensors file stays
// as it is; stored is its digest if it is in the store already, else empty.
func (h *Hub) storeWeights(ctx context.Context, c *card.Card, path string, stored digest.Digest) error {
	f, err := weights.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	for _, note := range f.Notes() {
		h.warn("%s:%s: %s", c.Name, c.Tag, note)
	}
	if f.Format() == weights.Safetensors && stored != "" {
		c.Weights.Digest = stored
		c.Weights.Size, err = h.store.Size(stored)
		return err
	}
	tensors := slices.Collect(f.All())
	var most int64 = 1 << 20
	for _, t := range tensors {
		most += int64(t.Len())*int64(t.DType.Size()) + int64(len(t.Name)) + 1<<10
	}
	progress := &progressWriter{h, Progress{Name: c.Name + ":" + c.Tag, Stage: StageConvert, Total: most}}
	w, err := h.store.Create(most + int64(len(fmt.Sprint(f.Metadata()))*6))
	if err != nil {
		return err
	}
	if f.Format() == weights.Safetensors {
		err = copyFile(files.Writer(ctx, w), path)
	} else {
		err = weights.WriteSafetensors(files.Writer(ctx, w), tensors, map[string]string{"format": "pt"})
	}
	if err != nil {
		w.Discard()
		return err
	}
	if c.Weights.Digest, c.Weights.Size, err = w.Publish(""); err != nil {
		return err
	}
	progress.p.Done, progress.p.Total = c.Weights.Size, c.Weights.Size
	h.progress(progress.p)
	return nil
}

func plainLayer(c *card.Card) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: MediaTypeWeights, Digest: c.Weights.Digest, Size: c.Weights.Size,
		Annotations: map[string]string{ocispec.AnnotationTitle: c.Name + ".safetensors"},
	}
}

func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	_, err = io.Copy(w, f)
	return err
}
