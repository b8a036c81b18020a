package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/source"
)

// Resolved is where a model was found.
type Resolved struct {
	Name, Tag string
	// Source is the address of the source that has it; SourceStore if it is in the store.
	Source string
	// Descriptor is of the artifact's manifest, or of the authors' file (source.MediaTypeOrigin).
	Descriptor ocispec.Descriptor
	// Row and Weights are the index's; nil if it does not list the model.
	Row     *registry.Model
	Weights *registry.Weights

	repository source.Repository
	reference  *reference
}

// String is what the model was asked for by.
func (r *Resolved) String() string { return r.reference.String() }

// Resolve finds which source has a model, without downloading it. The store comes first.
func (h *Hub) Resolve(ctx context.Context, ref string) (*Resolved, error) {
	r, err := h.referenceTo(ctx, ref)
	if err != nil {
		return nil, err
	}
	if d, err := h.store.Resolve(r.entry()); err == nil && (r.digest == "" || r.digest == d.Digest) {
		return &Resolved{Name: r.name, Tag: r.tag, Source: SourceStore, Descriptor: d, Row: r.row, Weights: r.weights, reference: r}, nil
	}
	var found *Resolved
	err = h.try(ctx, r, func(res *Resolved) error {
		found = res
		return nil
	})
	return found, err
}

// referenceTo reads what a model is asked for by, with the newest index that can be had.
func (h *Hub) referenceTo(ctx context.Context, ref string) (*reference, error) {
	x, err := h.Index(ctx)
	if err != nil {
		return nil, err
	}
	return h.parse(x, ref)
}

// try resolves r at each source in order and calls use with what it finds, until use succeeds. Absence and unreachability lead to
// the next source; any other failure ends.
func (h *Hub) try(ctx context.Context, r *reference, use func(*Resolved) error) error {
	sources := h.sources
	if r.from != nil {
		sources = []source.Source{r.from}
	}
	var failed failures
	var asked []string
	for _, s := range sources {
		if s.String() == SourceUpstream {
			if r.row == nil {
				continue
			}
			s = source.Upstream(h.client, &registry.Index{Models: []registry.Model{*r.row}})
		}
		res, err := h.resolveAt(ctx, s, r)
		if err == nil {
			err = use(res)
		}
		if err == nil {
			for _, f := range failed {
				if !errors.Is(f, source.ErrNotFound) {
					h.warn("%s could not be had from %v", r, f)
				}
			}
			return nil
		}
		if ctx.Err() != nil || !passable(err) {
			return fmt.Errorf("%s: %w", r, at(s, err))
		}
		failed, asked = append(failed, at(s, err)), append(asked, s.String())
	}
	present := func(f error) bool { return !errors.Is(f, source.ErrNotFound) }
	switch {
	case r.digest != "" && !slices.ContainsFunc(failed, present):
		return fmt.Errorf("%s@%s: %w: nothing there has that digest", r, r.digest, ErrNotFound)
	case r.from != nil && !slices.ContainsFunc(failed, present):
		return fmt.Errorf("%s: %w: name a tag that is there, as in %s/%s:TAG", r, ErrNotFound, r.from, r.name)
	case !slices.ContainsFunc(failed, present) && r.untagged && r.row == nil:
		return fmt.Errorf("%s: %w (asked: %s): run zoo list, or, if another tag is meant, name it, as in %s:v1", r, ErrNotFound, cmp.Or(strings.Join(asked, ", "), "none"), r.name)
	case !slices.ContainsFunc(failed, present):
		return fmt.Errorf("%s: %w (asked: %s): run zoo list, or look at the configured sources", r, ErrNotFound, cmp.Or(strings.Join(asked, ", "), "none"))
	case len(failed) == 1:
		return fmt.Errorf("%s: %w%s", r, failed[0], advice(failed))
	default:
		return fmt.Errorf("%s: %w: %w%s", r, ErrNotFound, failed, advice(failed))
	}
}

// at names the source of an error that does not begin with its name, as that of a server's answer does.
func at(s source.Source, err error) error {
	if strings.HasPrefix(err.Error(), s.String()) {
		return err
	}
	return fmt.Errorf("%s: %w", s, err)
}

// advice says what to do where a server could not be reached.
func advice(failed failures) string {
	var dns *net.DNSError
	var dial *net.OpError
	if errors.As(failed, &dns) || errors.As(failed, &dial) {
		return ": check network and proxy, or name a mirror in ZOO_REGISTRY"
	}
	return ""
}

// failures are what each source said, in one line.
type failures []error

func (f failures) Error() string {
	texts := make([]string, len(f))
	for i, err := range f {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap makes errors.Is look at each.
func (f failures) Unwrap() []error { return f }

// passable says whether a source's failure is one that another source may make up for: it does not have the thing or
// cannot be reached. Whatever looks like tampering is not.
func passable(err error) bool {
	var dns *net.DNSError
	var status *source.StatusError
	return errors.As(err, &dns) || errors.As(err, &status) && status.Temporary() || // however long it is to be left alone
		errors.Is(err, source.ErrNotFound) || errors.Is(err, source.ErrUnavailable) || errors.Is(err, source.ErrOffline) ||
		errors.Is(err, source.ErrUnauthorized) || source.Temporary(err)
}

func (h *Hub) resolveAt(ctx context.Context, s source.Source, r *reference) (*Resolved, error) {
	repo, err := s.Repository(r.name)
	if err != nil {
		return nil, err
	}
	what := r.tag
	if r.digest != "" {
		what = r.digest.String()
	}
	d, err := repo.Resolve(ctx, what)
	if err != nil {
		return nil, err
	}
	if d.MediaType != source.MediaTypeOrigin {
		if r.digest != "" && d.Digest != r.digest {
			return nil, fmt.Errorf("%w: asked for %s and got %s", ErrTampered, r.digest, d.Digest)
		}
		if r.weights != nil && r.weights.Artifact != nil && d.Digest != r.weights.Artifact.Digest {
			return nil, fmt.Errorf("%w: the index lists artifact %s and the tag is %s: the tag was moved, or the index is old", ErrTampered, r.weights.Artifact.Digest, d.Digest)
		}
	}
	return &Resolved{Name: r.name, Tag: r.tag, Source: s.String(), Descriptor: d, Row: r.row, Weights: r.weights, repository: repo, reference: r}, nil
}
