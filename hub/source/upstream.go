package source

import (
	"context"
	"fmt"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/registry"
)

// upstream is the authors' servers, as the index lists them.
type upstream struct {
	client *Client
	index  *registry.Index
}

// Upstream returns the source that serves each model of the index from its origin, and plugins from their addresses. What
// it resolves are plain files (MediaTypeOrigin), to be converted by the caller.
func Upstream(c *Client, x *registry.Index) Source { return upstream{c, x} }

func (upstream) String() string { return "upstream" }

func (u upstream) Repository(name string) (Repository, error) {
	return origin{u.client, u.index.ByName(name)}, nil
}

// origin is one model's files.
type origin struct {
	client *Client
	model  *registry.Model
}

func (o origin) Resolve(_ context.Context, tag string) (ocispec.Descriptor, error) {
	if o.model == nil {
		return ocispec.Descriptor{}, fmt.Errorf("the index lists no such model: %w", ErrNotFound)
	}
	w := o.model.ByTag(tag)
	if w == nil || w.Origin == nil {
		return ocispec.Descriptor{}, fmt.Errorf("the index lists no file of %s:%s: %w", o.model.Name, tag, ErrNotFound)
	}
	d := ocispec.Descriptor{
		MediaType: MediaTypeOrigin, Size: w.Origin.Size, URLs: []string{w.Origin.URL},
		Annotations: map[string]string{AnnotationFormat: string(w.Origin.Format)},
	}
	if w.Origin.SHA256 != "" {
		d.Digest = digest.NewDigestFromEncoded(digest.SHA256, w.Origin.SHA256)
	} else if w.Origin.SHA256Prefix != "" {
		d.Annotations[AnnotationDigestPrefix] = w.Origin.SHA256Prefix
	}
	if w.Origin.SizeEstimate > 0 {
		d.Annotations[AnnotationSizeEstimate] = strconv.FormatInt(w.Origin.SizeEstimate, 10)
	}
	return d, nil
}

func (o origin) Open(ctx context.Context, d ocispec.Descriptor, r Range) (*Part, error) {
	return openURL(ctx, o.client, d, r)
}

func (origin) Referrers(context.Context, ocispec.Descriptor, string) ([]ocispec.Descriptor, error) {
	return nil, nil
}

func openURL(ctx context.Context, c *Client, d ocispec.Descriptor, r Range) (*Part, error) {
	if len(d.URLs) == 0 {
		return nil, fmt.Errorf("%s has no address: %w", d.Digest, ErrNotFound)
	}
	return get(ctx, c, d.URLs[0], r)
}

// File returns the repository of a single file at an https address.
func File(c *Client) Repository { return origin{client: c} }
