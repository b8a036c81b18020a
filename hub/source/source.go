// Package source reads models and plugins from where they are published: the authors' servers, OCI registries, OCI image
// layouts in a directory, in the program or on a static HTTP server. Each kind is one file; all are behind Source and
// Repository, so that resolving, downloading and mirroring are written once.
//
// Invariants: a source trusts nothing it reads and verifies nothing either (sizes and digests are checked by package
// download and package store); it never writes; it dials only hosts that its address names or that such a host
// redirects to. All sources are safe for concurrent use.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Source is a place where repositories of models and plugins are published.
type Source interface {
	// String is the source's address as configured, for messages.
	String() string
	// Repository names one model ("resnet50"), one plugin ("plugins/resnet") or the index ("registry"). It does no I/O.
	Repository(name string) (Repository, error)
}

// Repository is the published versions of one thing.
type Repository interface {
	// Resolve finds what the tag or digest names. The empty tag is the default one where the source knows it. The error
	// wraps ErrNotFound when the source answers that there is nothing of that name.
	Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error)
	// Open starts reading a part of the blob that d describes; the caller closes the part's body.
	Open(ctx context.Context, d ocispec.Descriptor, r Range) (*Part, error)
	// Referrers lists the manifests of the given artifact type whose subject is d.
	Referrers(ctx context.Context, d ocispec.Descriptor, artifactType string) ([]ocispec.Descriptor, error)
}

// Range asks for the bytes from Start to before End of a blob. The zero Range asks for the whole.
type Range struct {
	Start int64
	// End is exclusive. Zero: to the end.
	End int64
	// Validator is that of an earlier part of the same blob: the source then answers ErrChanged rather than with a part
	// of a different version.
	Validator string
}

// whole says whether r asks for everything.
func (r Range) whole() bool { return r.Start == 0 && r.End == 0 }

// Part is an answer to Open. A source may answer with more than was asked for.
type Part struct {
	Body io.ReadCloser
	// Start is the offset of the body's first byte in the blob: the asked one, or 0 where the source ignored the range.
	Start int64
	// Size is the size of the whole blob in bytes, or -1 if the source does not say.
	Size int64
	// Validator tells versions of the blob apart. Empty: the source has none.
	Validator string
	// Ranged says that the source honours ranges.
	Ranged bool
}

var (
	// ErrNotFound says that a source has nothing of the name.
	ErrNotFound = errors.New("not found")
	// ErrUnauthorized says that a source wants other credentials.
	ErrUnauthorized = errors.New("credentials are missing or wrong")
	// ErrChanged says that a blob changed between two parts.
	ErrChanged = errors.New("the file changed on the server during the download")
	// ErrRange says that a server's answer to a range does not fit the question.
	ErrRange = errors.New("the server answered a range request wrongly")
	// ErrOffline says that a request was not made because the client is offline.
	ErrOffline = errors.New("offline")
	// ErrUnavailable says that a source's directory cannot be opened: the share that it is on is not mounted, or its name is wrong.
	ErrUnavailable = errors.New("the source directory cannot be opened")
	// ErrPlainHTTP says that a request was not made because it would go over plain HTTP.
	ErrPlainHTTP = errors.New("plain HTTP is refused")
	// ErrStalled says that a server sent too little for too long.
	ErrStalled = errors.New("the server stalled")
)

// StatusError is an HTTP answer that is not the wanted one.
type StatusError struct {
	URL        string
	StatusCode int
	// Reasons are the codes that a registry gives (OCI distribution specification), such as MANIFEST_BLOB_UNKNOWN.
	Reasons []string
	// RetryAfter is the server's wish. Zero: none.
	RetryAfter time.Duration
}

// Error gives the address, the status, the reasons and when to ask again.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s answered %d %s", e.URL, e.StatusCode, http.StatusText(e.StatusCode))
	if len(e.Reasons) > 0 {
		text += " (" + strings.Join(e.Reasons, ", ") + ")"
	}
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(", to be asked again after %v", e.RetryAfter)
	}
	return text
}

// Is makes 404 and 410 ErrNotFound, 401 and 403 ErrUnauthorized.
func (e *StatusError) Is(target error) bool {
	switch e.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		return target == ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return target == ErrUnauthorized
	}
	return false
}

// Temporary says whether asking again may help.
func (e *StatusError) Temporary() bool {
	switch e.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	// A manifest is put when all below it was: the registry does not see it yet. That of the distribution project shows a blob as broken while
	// somebody else puts the same one.
	return slices.Contains(e.Reasons, "MANIFEST_BLOB_UNKNOWN")
}

// Media type and annotations of a descriptor that an upstream source resolves to: a plain file, not an OCI manifest.
const (
	MediaTypeOrigin = "application/vnd.zoo.origin.v1"
	// AnnotationFormat is the file's registry.Format.
	AnnotationFormat = "dev.zoo.origin.format"
	// AnnotationDigestPrefix is the known start of the SHA-256 in hex where Descriptor.Digest is empty.
	AnnotationDigestPrefix = "dev.zoo.origin.sha256-prefix"
	// AnnotationSizeEstimate is the approximate size in bytes where Descriptor.Size is 0.
	AnnotationSizeEstimate = "dev.zoo.origin.size-estimate"
)

// ReadAll reads a small blob, such as a manifest, whole and checks it against d. It refuses more than limit bytes.
func ReadAll(ctx context.Context, r Repository, d ocispec.Descriptor, limit int64) ([]byte, error) {
	if d.Size < 0 || d.Size > limit {
		return nil, fmt.Errorf("%s is declared with %d bytes, more than the %d that its kind may have", d.Digest, d.Size, limit)
	}
	var data []byte
	err := Retry(ctx, DefaultAttempts, func() error {
		part, err := r.Open(ctx, d, Range{})
		if err != nil {
			return err
		}
		defer part.Body.Close() // the body was only read
		data, err = io.ReadAll(io.LimitReader(part.Body, d.Size+1))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", d.Digest, err)
	}
	if int64(len(data)) != d.Size {
		return nil, fmt.Errorf("%s has %d bytes or more, but %d were declared: the source is damaged or lies", d.Digest, len(data), d.Size)
	}
	if got := digest.FromBytes(data); got != d.Digest {
		return nil, fmt.Errorf("a blob named %s hashes to %s: the source is damaged or lies", d.Digest, got)
	}
	return data, nil
}

// RefName is the name that an OCI layout's index gives to a tag of a repository.
func RefName(repository, tag string) string { return repository + "/" + tag }
