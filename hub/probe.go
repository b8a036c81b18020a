package hub

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/source"
)

// Reach says whether a source answers.
type Reach struct {
	// Source is its address; for the authors' servers that of each.
	Source string
	// Upstream says that it is one of the authors' servers.
	Upstream bool
	// Err is nil if it answers, also if it has nothing of what was asked for.
	Err error
}

// Probe asks every source for something small, all at once.
func (h *Hub) Probe(ctx context.Context) ([]Reach, error) {
	index, err := h.Index(ctx)
	if err != nil {
		return nil, err
	}
	var probes []func() Reach
	for _, s := range h.sources {
		if s.String() == SourceUpstream {
			for address, ref := range origins(index) {
				probes = append(probes, func() Reach {
					return Reach{address, true, touch(ctx, source.Upstream(h.client, index), ref)}
				})
			}
			continue
		}
		probes = append(probes, func() Reach {
			repo, err := s.Repository(indexRepository)
			if err == nil {
				_, err = repo.Resolve(ctx, indexTag)
			}
			if errors.Is(err, source.ErrNotFound) {
				err = nil
			}
			return Reach{s.String(), false, err}
		})
	}
	list := make([]Reach, len(probes))
	var all sync.WaitGroup
	for i, probe := range probes {
		all.Go(func() { list[i] = probe() })
	}
	all.Wait()
	slices.SortFunc(list, func(a, b Reach) int { return strings.Compare(a.Source, b.Source) })
	return list, nil
}

// origins maps each of the authors' servers to the first model there, by name and tag.
func origins(x *registry.Index) map[string][2]string {
	servers := map[string][2]string{}
	for _, m := range x.Models {
		for _, w := range m.Weights {
			if w.Origin == nil {
				continue
			}
			u, err := url.Parse(w.Origin.URL)
			if err != nil {
				continue // pulling it says so
			}
			if server := u.Scheme + "://" + u.Host; servers[server] == ([2]string{}) {
				servers[server] = [2]string{m.Name, w.Tag}
			}
		}
	}
	return servers
}

// touch asks for the first byte of a model.
func touch(ctx context.Context, s source.Source, ref [2]string) error {
	repo, err := s.Repository(ref[0])
	if err != nil {
		return err
	}
	d, err := repo.Resolve(ctx, ref[1])
	if err != nil {
		return err
	}
	part, err := repo.Open(ctx, d, source.Range{End: 1})
	if err != nil {
		return err
	}
	return part.Body.Close()
}
