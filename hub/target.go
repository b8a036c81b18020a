package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"

	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/store"
	"github.com/go-modelzoo/zoo/internal/files"
)

// target is a place that artifacts are written to.
type target interface {
	// reference is what a repository's tag is called there.
	reference(repository, tag string) string
	// source reads what is there.
	source() source.Source
	// put copies a manifest of the hub's store with all below it, then those that refer to it, and tags it last: nobody finds it by the tag
	// without its signatures. It returns the bytes copied and what the tag named before.
	put(ctx context.Context, h *Hub, u upload) (copied int64, had digest.Digest, err error)
	// settle says whether a change that put made may still be undone, by somebody who read the tag before it was made. If so it waits until that
	// would show.
	settle(ctx context.Context) (unsure bool, err error)
	close()
}

// upload is what a target is to take.
type upload struct {
	repository, tag string
	root            ocispec.Descriptor
	referrers       []ocispec.Descriptor
	progress        Progress
	// onto is what the tag must name until then, "" being nothing; errMoved if not. Nil: what it names does not matter.
	onto *digest.Digest
}

// errMoved says that a tag does not name what is to be replaced.
var errMoved = errors.New("another push has set the tag meanwhile")

// check says whether the tag, which names had, is to be set.
func (u *upload) check(had digest.Digest) (set bool, err error) {
	if had == u.root.Digest {
		return false, nil
	}
	if u.onto != nil && *u.onto != had {
		return false, errMoved
	}
	return true, nil
}

// maxRounds is how often merge tries.
const maxRounds = 12

// merge calls add, which adds to what a tag names, until that finds nothing to add. A registry does not set a tag on condition that it still names
// what was read: of two who read the same and write, the first finds only by looking again that its part is gone.
func merge(ctx context.Context, t target, reference string, add func() (*Pushed, error)) (*Pushed, error) {
	var all *Pushed
	var copied int64
	for range maxRounds {
		p, err := add()
		if err != nil && !errors.Is(err, errMoved) {
			return nil, err
		}
		copied += p.Bytes
		if err != nil {
			continue
		}
		if all == nil {
			all = p
		}
		all.Manifest, all.Bytes, all.Skipped = p.Manifest, copied, all.Skipped && copied == 0
		if p.Skipped {
			return all, nil
		}
		unsure, err := t.settle(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s was written, but another push may have replaced it since: %w", reference, err)
		}
		if !unsure {
			return all, nil
		}
	}
	return nil, fmt.Errorf("%s does not keep what is pushed, since others push to it all the time: push again once they are done", reference)
}

// target parses the address that Push and Mirror write to.
func (h *Hub) target(to string) (target, error) {
	if strings.HasPrefix(to, registry.OCIPrefix) {
		r, err := source.OCI(h.client, to)
		if err != nil {
			return nil, err
		}
		return &ociTarget{registry: r}, nil
	}
	if strings.Contains(to, "://") {
		return nil, fmt.Errorf("%s cannot be written to: use oci://HOST/PATH or a directory", to)
	}
	s, err := store.OpenLayout(to)
	if err != nil {
		return nil, err
	}
	return dirTarget{s}, nil
}

// holdTarget is target, with the store kept from being pruned until done is called.
func (h *Hub) holdTarget(ctx context.Context, to string) (t target, done func(), err error) {
	if t, err = h.target(to); err != nil {
		return nil, nil, err
	}
	free, err := h.store.Hold(ctx)
	if err != nil {
		t.close()
		return nil, nil, err
	}
	return t, func() {
		free()
		t.close()
	}, nil
}

// repositoryAt is a repository of a target, to read.
func repositoryAt(t target, name string) (source.Repository, error) {
	return t.source().Repository(name)
}

// ociTarget is a registry.
type ociTarget struct {
	registry *source.Registry
	tagging  time.Duration // how long the last tag took from being read to being set
}

func (t *ociTarget) reference(repository, tag string) string {
	return t.registry.String() + "/" + repository + ":" + tag
}

func (t *ociTarget) source() source.Source { return t.registry }

func (*ociTarget) close() {}

// minSettle and maxSettle bound how long settle waits. Tests wait less.
var minSettle = time.Second

const maxSettle = 10 * time.Second

// settle waits several times as long as it took to set the tag after reading it: others need about as long.
func (t *ociTarget) settle(ctx context.Context) (bool, error) {
	wait := min(max(8*t.tagging, minSettle), maxSettle)
	return true, source.Sleep(ctx, wait+rand.N(wait)) // at random, so that those who met once do not meet again
}

func (t *ociTarget) put(ctx context.Context, h *Hub, u upload) (int64, digest.Digest, error) {
	var copied atomic.Int64
	var had digest.Digest
	tried := false
	err := source.Retry(ctx, source.DefaultAttempts, func() error {
		repo, err := t.registry.Remote(ctx, u.repository)
		if err != nil {
			return err
		}
		options := oras.DefaultCopyGraphOptions
		options.PostCopy = func(_ context.Context, d ocispec.Descriptor) error {
			copied.Add(d.Size)
			return nil
		}
		from := &pushStorage{hub: h, p: u.progress}
		// What refers to root is put again where it is there: a push that was cut off may have left it out of the list of such manifests, which
		// clients write where the registry has no API for it.
		options.OnCopySkipped = func(ctx context.Context, d ocispec.Descriptor) error {
			if !slices.ContainsFunc(u.referrers, func(r ocispec.Descriptor) bool { return r.Digest == d.Digest }) {
				return nil
			}
			raw, err := content.FetchAll(ctx, from, d)
			if err != nil {
				return err
			}
			return repo.Push(ctx, d, bytes.NewReader(raw))
		}
		for _, d := range slices.Concat([]ocispec.Descriptor{u.root}, u.referrers) {
			if err := oras.CopyGraph(ctx, from, repo, d, options); err != nil {
				return t.registry.Explain(err)
			}
		}
		began := time.Now()
		there, err := repo.Resolve(ctx, u.tag)
		if err = t.registry.Explain(err); err != nil && !errors.Is(err, source.ErrNotFound) {
			return err
		}
		if !tried {
			had = there.Digest
		}
		if set, err := u.check(there.Digest); err != nil || !set {
			return err
		}
		tried = true // where the answer is lost, the next attempt may find the tag set
		err = t.registry.Explain(repo.Tag(ctx, u.root, u.tag))
		t.tagging = time.Since(began)
		return err
	})
	return copied.Load(), had, err
}

// pushStorage is the store as oras-go reads it. It reports bytes of large blobs.
type pushStorage struct {
	hub *Hub
	p   Progress
}

var _ content.ReadOnlyStorage = (*pushStorage)(nil)

func (s *pushStorage) Exists(_ context.Context, d ocispec.Descriptor) (bool, error) {
	return s.hub.store.Has(d.Digest), nil
}

func (s *pushStorage) Fetch(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	f, err := s.hub.store.Open(d.Digest)
	if err != nil {
		return nil, err
	}
	if d.Size < 1<<20 || s.p.Total == 0 {
		return f, nil
	}
	progress := &progressWriter{hub: s.hub, p: s.p}
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(f, progress), f}, nil
}

// dirTarget is an OCI layout in a directory.
type dirTarget struct{ store *store.Store }

func (t dirTarget) reference(repository, tag string) string {
	return t.store.Dir() + ":" + source.RefName(repository, tag)
}

func (t dirTarget) source() source.Source { return source.Directory(t.store.Dir()) }

func (t dirTarget) close() { t.store.Close() } // everything was flushed

// settle has nothing to wait for: put keeps others from the folder's tags from reading one to setting it.
func (dirTarget) settle(context.Context) (bool, error) { return false, nil }

func (t dirTarget) put(ctx context.Context, h *Hub, u upload) (copied int64, had digest.Digest, err error) {
	free, err := t.store.Hold(ctx)
	if err != nil {
		return 0, "", err
	}
	defer free()
	from := &pushStorage{hub: h, p: u.progress}
	var graph func(d ocispec.Descriptor) error
	graph = func(d ocispec.Descriptor) error {
		below, err := content.Successors(ctx, from, d)
		if err != nil {
			return err
		}
		for _, b := range below {
			if err := graph(b); err != nil {
				return err
			}
		}
		if t.store.Has(d.Digest) {
			return ctx.Err()
		}
		r, err := from.Fetch(ctx, d)
		if err != nil {
			return err
		}
		defer r.Close() // only read
		copied += d.Size
		return t.store.Ingest(d.Digest, d.Size, files.Reader(ctx, r))
	}
	if err := graph(u.root); err != nil {
		return copied, "", err
	}
	for _, d := range u.referrers {
		if err := graph(d); err != nil {
			return copied, "", err
		}
		if err := t.store.Tag(ctx, "", d); err != nil {
			return copied, "", err
		}
	}
	release, err := t.store.Lock(ctx, "tags", nil)
	if err != nil {
		return copied, "", err
	}
	defer release()
	name := source.RefName(u.repository, u.tag)
	have, err := t.store.Resolve(name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return copied, "", err
	}
	set, err := u.check(have.Digest)
	if err == nil && set {
		err = t.store.Tag(ctx, name, u.root)
	}
	return copied, have.Digest, err
}
