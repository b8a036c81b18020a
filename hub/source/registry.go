package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/go-modelzoo/zoo/hub/registry"
)

// Registry is an OCI registry, with all repositories below one path.
type Registry struct {
	client *Client
	base   string // host[:port][/path]
	auth   *auth.Client

	scheme chan struct{} // held while plain is found out
	plain  *bool         // whether a host on this machine speaks plain HTTP; nil until asked
}

// OCI returns the source at "oci://HOST[:PORT][/PATH]". Credentials come from Docker's configuration and its helpers, read
// when a server asks for them. A host on this machine may speak plain HTTP; others only if the client allows it.
func OCI(c *Client, address string) (*Registry, error) {
	base := strings.TrimSuffix(strings.TrimPrefix(address, registry.OCIPrefix), "/")
	if _, err := remote.NewRepository(base + "/x"); err != nil || !strings.HasPrefix(address, registry.OCIPrefix) {
		return nil, fmt.Errorf("%q is not the address of a registry: use oci://HOST/PATH", address)
	}
	r := &Registry{client: c, base: base, scheme: make(chan struct{}, 1)}
	r.auth = &auth.Client{
		Client: c.Client,
		Cache:  auth.NewCache(),
		Header: http.Header{"User-Agent": {userAgent}},
		Credential: func(ctx context.Context, host string) (auth.Credential, error) {
			store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
			if err != nil {
				return auth.EmptyCredential, fmt.Errorf("docker credentials: %w", err)
			}
			return credentials.Credential(store)(ctx, host)
		},
	}
	return r, nil
}

// String implements Source: the address as OCI took it.
func (r *Registry) String() string { return registry.OCIPrefix + r.base }

// Repository implements Source.
func (r *Registry) Repository(name string) (Repository, error) {
	repo, err := remote.NewRepository(r.base + "/" + name)
	if err != nil {
		return nil, fmt.Errorf("repository %s/%s: %w", r.base, name, err)
	}
	repo.Client = r.auth
	repo.SkipReferrersGC = true // registries may forbid deleting
	return &ociRepository{registry: r, repo: repo}, nil
}

// Remote returns oras-go's client of a repository, for writing.
func (r *Registry) Remote(ctx context.Context, name string) (*remote.Repository, error) {
	repo, err := r.Repository(name)
	if err != nil {
		return nil, err
	}
	return repo.(*ociRepository).remote(ctx)
}

// plainHTTP finds out once which scheme the host speaks.
func (r *Registry) plainHTTP(ctx context.Context) (bool, error) {
	host, _, _ := strings.Cut(r.base, "/")
	name := host
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		name = host[:i]
	}
	if !registry.IsLoopback(strings.Trim(name, "[]")) {
		return r.client.plain, nil
	}
	select { // another caller, with more time, may be asking
	case r.scheme <- struct{}{}:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	defer func() { <-r.scheme }()
	if r.plain != nil {
		return *r.plain, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/v2/", nil)
	if err != nil {
		return false, err
	}
	resp, err := r.client.Do(req)
	plain := false
	switch {
	case err == nil:
		resp.Body.Close() // only the scheme was of interest
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		plain = true
	default:
		return false, redact(err)
	}
	r.plain = &plain
	return plain, nil
}

type ociRepository struct {
	registry *Registry

	settle  sync.Mutex // around the first use, which finds out the scheme
	settled bool
	repo    *remote.Repository // not changed once settled
}

func (o *ociRepository) remote(ctx context.Context) (*remote.Repository, error) {
	o.settle.Lock()
	defer o.settle.Unlock()
	if !o.settled {
		plain, err := o.registry.plainHTTP(ctx)
		if err != nil {
			return nil, err
		}
		o.repo.PlainHTTP, o.settled = plain, true
	}
	return o.repo, nil
}

func (o *ociRepository) Resolve(ctx context.Context, reference string) (d ocispec.Descriptor, err error) {
	err = Retry(ctx, DefaultAttempts, func() error {
		repo, err := o.remote(ctx)
		if err != nil {
			return err
		}
		d, err = repo.Resolve(ctx, reference)
		return o.explain(err)
	})
	return d, err
}

// Open reads blobs by HTTP range requests with oras-go's authentication, and manifests whole.
func (o *ociRepository) Open(ctx context.Context, d ocispec.Descriptor, r Range) (*Part, error) {
	repo, err := o.remote(ctx)
	if err != nil {
		return nil, err
	}
	if isManifest(d) {
		body, err := repo.Manifests().Fetch(ctx, d)
		if err != nil {
			return nil, o.explain(err)
		}
		return &Part{Body: body, Size: d.Size}, nil
	}
	scheme := "https"
	if repo.PlainHTTP {
		scheme = "http"
	}
	ctx = auth.AppendRepositoryScope(ctx, repo.Reference, auth.ActionPull)
	part, err := get(ctx, o.registry.auth, scheme+"://"+repo.Reference.Host()+"/v2/"+repo.Reference.Repository+"/blobs/"+d.Digest.String(), r)
	return part, o.explain(err)
}

func (o *ociRepository) Referrers(ctx context.Context, d ocispec.Descriptor, artifactType string) (list []ocispec.Descriptor, err error) {
	err = Retry(ctx, DefaultAttempts, func() error {
		repo, err := o.remote(ctx)
		if err != nil {
			return err
		}
		list = nil
		return o.explain(repo.Referrers(ctx, d, artifactType, func(page []ocispec.Descriptor) error {
			list = append(list, page...)
			if len(list) > maxReferrers {
				return fmt.Errorf("%s has more than %d referrers", d.Digest, maxReferrers)
			}
			return nil
		}))
	})
	return list, err
}

// maxReferrers bounds how many signatures of one artifact are read.
const maxReferrers = 64

// Explain turns oras-go's errors into this package's.
func (r *Registry) Explain(err error) error {
	if err == nil {
		return nil
	}
	host, _, _ := strings.Cut(r.base, "/")
	var status *errcode.ErrorResponse
	code := 0
	if errors.As(err, &status) {
		code = status.StatusCode
	}
	switch {
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return fmt.Errorf("%s: %w: run docker login %s", host, ErrUnauthorized, host)
	case errors.Is(err, ErrUnauthorized), code == http.StatusUnauthorized, code == http.StatusForbidden:
		return fmt.Errorf("%s: %w: run docker login %s with an account that may do this", host, ErrUnauthorized, host)
	case errors.Is(err, errdef.ErrNotFound):
		return fmt.Errorf("%s: %w", r.base, ErrNotFound)
	case code != 0:
		return &StatusError{URL: status.URL.Scheme + "://" + status.URL.Host + status.URL.Path, StatusCode: code, Reasons: reasons(status.Errors)}
	case foreign.MatchString(err.Error()):
		return fmt.Errorf("%s does not answer as a registry does (%s): check the address, and that no log-in page of the network answers for it", r.base, foreign.FindString(err.Error()))
	}
	return redact(err)
}

// foreign matches oras-go's errors, which have no type, of manifests' headers that no registry would send. The rest of their text may be a signed address.
var foreign = regexp.MustCompile("missing required header \"[A-Za-z-]+\"|unknown response Content-Length|invalid response `Content-Type` header")

// reasonCode matches the codes of the OCI distribution specification, and registries' own of that form.
var reasonCode = regexp.MustCompile(`^[A-Z][A-Z_]{0,63}$`)

// reasons are the first codes of a registry's answer. Its texts are left out: they are any server's words.
func reasons(list errcode.Errors) (codes []string) {
	for _, e := range list[:min(len(list), 4)] {
		if reasonCode.MatchString(e.Code) && !slices.Contains(codes, e.Code) {
			codes = append(codes, e.Code)
		}
	}
	return codes
}

func (o *ociRepository) explain(err error) error { return o.registry.Explain(err) }

// isManifest says whether registries serve d as a manifest rather than a blob.
func isManifest(d ocispec.Descriptor) bool {
	return d.MediaType == ocispec.MediaTypeImageManifest || d.MediaType == ocispec.MediaTypeImageIndex
}

// DecodeManifest parses an OCI image manifest, checks what this program relies on (media type, a config, valid digests and
// sizes) and refuses anything else.
func DecodeManifest(data []byte) (*ocispec.Manifest, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if m.SchemaVersion != 2 || m.MediaType != "" && m.MediaType != ocispec.MediaTypeImageManifest {
		return nil, fmt.Errorf("manifest: schema %d and media type %q are not those of an OCI image manifest", m.SchemaVersion, m.MediaType)
	}
	blobs := append([]ocispec.Descriptor{m.Config}, m.Layers...)
	if m.Subject != nil {
		blobs = append(blobs, *m.Subject)
	}
	for _, d := range blobs {
		if err := CheckDescriptor(d); err != nil {
			return nil, fmt.Errorf("manifest: %w", err)
		}
	}
	return &m, nil
}

// CheckDescriptor refuses descriptors without a valid SHA-256, or with a size that is negative or above 1 TiB.
func CheckDescriptor(d ocispec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil || d.Digest.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %q is not a valid sha256", d.Digest)
	}
	if d.Size < 0 || d.Size > 1<<40 {
		return fmt.Errorf("size %d of %s is not in 0..2^40", d.Size, d.Digest)
	}
	return nil
}
