// Package hub gets, keeps and publishes models: Resolve, Pull, Verify, Push, Mirror, Import, Export. The nouns are in the
// packages below it: registry (the index), source (where things come from), download, store (verified blobs on disk), codec
// (packed weights), card, sign, lock and plugins. docs/hub.md has the formats and the threat model.
//
// Invariants:
//   - A Model's Path is a safetensors file whose SHA-256 was compared before the file got its name, and it is the digest that
//     the card, and the lock if the model is pinned there, say.
//   - What is trusted follows from one of: a digest in the program's own index, a signature by a pinned key, or the lock
//     (trust on first use). What is trusted less is said through Config.Warn.
//   - A failure to verify ends the operation; only absence and unreachability make it try the next source.
//   - No model is deleted but by Remove and Prune. Verify takes what is damaged, if it is to repair, and Pull the file that it has converted.
//
// A Hub is safe for concurrent use, and any number of processes may use the same Home.
package hub

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/go-modelzoo/zoo"
	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/download"
	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/sign"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/store"
)

var (
	// ErrNotFound says that no source has the model.
	ErrNotFound = errors.New("no source has it")
	// ErrLicense says that a model's licence is not one of the required.
	ErrLicense = errors.New("the licence is not allowed")
	// ErrUnpublished says that nobody published a digest of a model, so that there is nothing to check it against.
	ErrUnpublished = errors.New("no digest is published")
	// ErrNameTaken says that the store has another model of a name that a new one is to get.
	ErrNameTaken = errors.New("the store has another model of that name")
	// ErrTampered says that something does not fit together as it must: somebody changed it, or mixed parts of two things.
	ErrTampered = errors.New("refused: it does not fit together")
)

// Hub is a client of sources with a store.
type Hub struct {
	config  Config
	store   *store.Store
	client  *source.Client
	limiter *download.Limiter
	keys    sign.Keys
	sources []source.Source // in the configured order; the upstream one is a marker until the index is known
	shipped *registry.Index

	say sync.Mutex // around Progress and Warn

	refreshing chan struct{} // held while the sources are asked for the index
	refreshed  bool          // guarded by it

	indexes      sync.Mutex      // around the rest
	remote       *registry.Index // the newest verified index from a source or an earlier run; nil: none
	warnedExpiry bool
}

// Open opens the hub of a configuration and creates its home if need be. Close it when done.
func Open(c Config) (*Hub, error) {
	if c.Home == "" {
		home, err := DefaultHome()
		if err != nil {
			return nil, err
		}
		c.Home = home
	}
	if len(c.Sources) == 0 {
		c.Sources = []string{SourceEmbedded, SourceUpstream}
	}
	if c.Index == nil {
		c.Index = zoo.RegistryJSON()
	}
	if c.LockFile == "" {
		c.LockFile = filepath.Join(c.Home, lock.Name)
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	if c.Warn == nil {
		c.Warn = func(string) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	h := &Hub{config: c, limiter: download.NewLimiter(c.RateLimit), refreshing: make(chan struct{}, 1)}
	if err := h.open(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func (h *Hub) open() (err error) {
	c := &h.config
	if h.shipped, err = registry.Parse(c.Index); err != nil {
		return err
	}
	if h.keys, err = sign.ParseKeys(c.Keys...); err != nil {
		return err
	}
	if h.client, err = source.NewClient(source.ClientOptions{Offline: c.Offline, AllowPlainHTTP: c.PlainHTTP, CAFile: c.CAFile, DialContext: c.DialContext}); err != nil {
		return err
	}
	if h.store, err = store.Open(filepath.Join(c.Home, "store"), c.SharedStores...); err != nil {
		return err
	}
	h.store.Waiting = func() {
		h.warn("waiting for other processes that pull, push, import or install: what they need must not be removed")
	}
	for _, name := range c.Sources {
		s, err := h.source(name)
		if err != nil {
			return err
		}
		if s != nil {
			h.sources = append(h.sources, s)
		}
	}
	return nil
}

// source makes the source of a configured name; nil for an embedded one that is not there.
func (h *Hub) source(name string) (source.Source, error) {
	switch {
	case name == SourceUpstream:
		return source.Upstream(h.client, nil), nil
	case name == SourceEmbedded:
		if h.config.Embedded == nil {
			return nil, nil
		}
		return source.Embedded(SourceEmbedded, h.config.Embedded), nil
	case strings.HasPrefix(name, registry.OCIPrefix):
		return source.OCI(h.client, name)
	case strings.HasPrefix(name, "https://"), strings.HasPrefix(name, "http://"):
		return source.Static(h.client, name)
	}
	return source.Directory(name), nil
}

// Close releases the hub's connections and files: nothing is to be called after it. Paths of models stay valid.
func (h *Hub) Close() error {
	if h.client != nil {
		h.client.Close()
	}
	if h.store != nil {
		return h.store.Close()
	}
	return nil
}

// Store is the hub's store.
func (h *Hub) Store() *store.Store { return h.store }

func (h *Hub) warn(format string, v ...any) {
	h.say.Lock()
	defer h.say.Unlock()
	h.config.Warn(fmt.Sprintf(format, v...))
}

func (h *Hub) progress(p Progress) {
	h.say.Lock()
	defer h.say.Unlock()
	h.config.Progress(p)
}

// Model is a model in the store, ready to be used.
type Model struct {
	Name string
	Tag  string
	// Path is the safetensors file, read-only and verified.
	Path string
	// Digest is that file's.
	Digest digest.Digest
	Card   *card.Card
	// Source says which source served it; "store" if it was there.
	Source string
	// Manifest is the digest of the artifact in the store.
	Manifest digest.Digest

	reference string
	entry     string // of the store's index
}

// Reference is what to ask for the model by: NAME:TAG, or oci://HOST/PATH/NAME:TAG if that is how it was asked for.
func (m *Model) Reference() string { return m.reference }

// SourceStore is the Source of models that were in the store.
const SourceStore = "store"

// TagLocal is the tag of models that were imported or trained here.
const TagLocal = "local"

// Local returns a model that is in the store, without asking any source. The error wraps store.ErrNotFound if it is not there.
func (h *Hub) Local(ctx context.Context, ref string) (*Model, error) {
	x, err := h.cachedIndex()
	if err != nil {
		return nil, err
	}
	r, err := h.parse(x, ref)
	if err != nil {
		return nil, err
	}
	return h.local(ctx, r)
}

func (h *Hub) local(ctx context.Context, r *reference) (*Model, error) {
	d, err := h.store.Resolve(r.entry())
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%s: %w: run zoo pull %s", r, store.ErrNotFound, r)
	}
	if err != nil {
		return nil, err
	}
	if r.digest != "" && d.Digest != r.digest {
		return nil, fmt.Errorf("%s@%s: %w: run zoo pull", r, r.digest, store.ErrNotFound)
	}
	a, err := h.readArtifact(d, r.name, r.tag)
	if err != nil {
		return nil, err
	}
	f, err := lock.Load(h.config.LockFile)
	if err != nil {
		return nil, err
	}
	if _, err := f.PinModel(r.String(), a.pin()); err != nil { // the change to f is dropped
		return nil, err
	}
	if err := h.unpack(ctx, a, SourceStore); err != nil {
		return nil, err
	}
	h.store.Touch(d.Digest)
	return h.model(a, SourceStore, r)
}

func (h *Hub) model(a *artifact, from string, r *reference) (*Model, error) {
	path, err := h.store.Path(a.card.Weights.Digest)
	if err != nil {
		return nil, err
	}
	return &Model{Name: a.card.Name, Tag: a.card.Tag, Path: path, Digest: a.card.Weights.Digest, Card: a.card, Source: from, Manifest: a.descriptor.Digest, reference: r.String(), entry: r.entry()}, nil
}
