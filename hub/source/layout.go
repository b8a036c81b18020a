package source

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxIndex bounds a layout's index.json, in bytes.
const MaxIndex = 16 << 20

// layout is an OCI image layout behind a way to read its files.
type layout struct {
	name string
	open func(ctx context.Context, file string, r Range) (*Part, error)
}

// Directory returns the OCI image layout in a directory, which need not be there before it is asked for something. Symbolic links that lead out
// of it are not followed.
func Directory(dir string) Source {
	return layout{dir, func(_ context.Context, file string, r Range) (*Part, error) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			cause := err
			if failed := new(fs.PathError); errors.As(err, &failed) {
				cause = failed.Err // whoever asks a source names it
			}
			// Not %w for the cause: that a folder is missing is not that a file in it is.
			return nil, fmt.Errorf("%w: %v: mount it, or correct its name: a registry is written oci://HOST/PATH", ErrUnavailable, cause)
		}
		defer root.Close() // files opened through it stay open
		f, err := root.Open(file)
		if err != nil {
			return nil, err
		}
		return filePart(f, r)
	}}
}

// Embedded returns an OCI image layout in a file system whose files can seek, such as an embed.FS. name is for messages.
func Embedded(name string, files fs.FS) Source {
	return layout{name, func(_ context.Context, file string, r Range) (*Part, error) {
		f, err := files.Open(file)
		if err != nil {
			return nil, err
		}
		return filePart(f, r)
	}}
}

// Static returns an OCI image layout below an https address.
func Static(c *Client, address string) (Source, error) {
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil || req.URL.Host == "" || req.URL.RawQuery != "" {
		return nil, fmt.Errorf("%q is not the address of a hub: use https://HOST/PATH", address)
	}
	base := strings.TrimSuffix(address, "/")
	name := strings.TrimSuffix(req.URL.Redacted(), "/") // a password that stands in the address is shown to nobody
	return layout{name, func(ctx context.Context, file string, r Range) (*Part, error) {
		return get(ctx, c, base+"/"+file, r)
	}}, nil
}

// filePart positions an open file.
func filePart(f fs.File, r Range) (*Part, error) {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", info.Name())
	}
	seeker, ranged := f.(io.Seeker)
	switch {
	case err != nil:
	case ranged:
		_, err = seeker.Seek(r.Start, io.SeekStart)
	default:
		r.Start = 0
	}
	if err != nil {
		f.Close() // the file was only read
		return nil, err
	}
	// The validator catches a file that is replaced between two parts.
	return &Part{Body: f, Start: r.Start, Size: info.Size(), Validator: info.ModTime().Format(time.RFC3339Nano), Ranged: ranged}, nil
}

func (l layout) String() string { return l.name }

func (l layout) Repository(name string) (Repository, error) { return layoutRepository{l, name}, nil }

type layoutRepository struct {
	layout layout
	name   string
}

// index reads the layout's index.json.
func (l layout) index(ctx context.Context) (*ocispec.Index, error) {
	var data []byte
	err := Retry(ctx, DefaultAttempts, func() error {
		part, err := l.open(ctx, ocispec.ImageIndexFile, Range{})
		if err != nil {
			return err
		}
		defer part.Body.Close() // the body was only read
		data, err = io.ReadAll(io.LimitReader(part.Body, MaxIndex+1))
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("there is no OCI layout: %w", ErrNotFound)
	}
	if err != nil && (errors.Is(err, ErrUnavailable) || strings.HasPrefix(err.Error(), l.name)) { // of a server's answer it has the address
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	x, err := DecodeIndex(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	return x, nil
}

// DecodeIndex parses an OCI image index and refuses descriptors that CheckDescriptor refuses.
func DecodeIndex(data []byte) (*ocispec.Index, error) {
	if len(data) > MaxIndex {
		return nil, fmt.Errorf("index of more than %d bytes", MaxIndex)
	}
	var x ocispec.Index
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&x); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	if x.SchemaVersion != 2 {
		return nil, fmt.Errorf("index: schema %d is not 2", x.SchemaVersion)
	}
	for _, d := range x.Manifests {
		if err := CheckDescriptor(d); err != nil {
			return nil, fmt.Errorf("index: %w", err)
		}
	}
	return &x, nil
}

func (l layoutRepository) Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	x, err := l.layout.index(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	want := RefName(l.name, reference)
	for _, d := range x.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] == want || d.Digest.String() == reference {
			return d, nil
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("%s: %w", want, ErrNotFound)
}

func (l layoutRepository) Open(ctx context.Context, d ocispec.Descriptor, r Range) (*Part, error) {
	if err := CheckDescriptor(d); err != nil { // the digest becomes a path
		return nil, err
	}
	part, err := l.layout.open(ctx, BlobPath(d.Digest), r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if r.Validator != "" && part.Validator != "" && r.Validator != part.Validator {
		part.Body.Close() // the file was only read
		return nil, fmt.Errorf("%s: %w", d.Digest, ErrChanged)
	}
	return part, nil
}

// Referrers looks at the layout's manifests that have no name: that is where they stand in a layout.
func (l layoutRepository) Referrers(ctx context.Context, d ocispec.Descriptor, artifactType string) ([]ocispec.Descriptor, error) {
	x, err := l.layout.index(ctx)
	if err != nil {
		return nil, err
	}
	var list []ocispec.Descriptor
	for _, m := range x.Manifests {
		if m.Annotations[ocispec.AnnotationRefName] != "" || m.MediaType != ocispec.MediaTypeImageManifest || m.ArtifactType != "" && m.ArtifactType != artifactType {
			continue
		}
		data, err := ReadAll(ctx, l, m, MaxManifest)
		if errors.Is(err, ErrNotFound) {
			continue // it was damaged, and zoo verify forgot it
		}
		if err != nil {
			return nil, err
		}
		manifest, err := DecodeManifest(data)
		if err != nil || manifest.Subject == nil || manifest.Subject.Digest != d.Digest || manifest.ArtifactType != artifactType {
			continue // somebody else's manifest: not a signature of d
		}
		if list = append(list, m); len(list) > maxReferrers {
			return nil, fmt.Errorf("%s has more than %d referrers", d.Digest, maxReferrers)
		}
	}
	return list, nil
}

// MaxManifest bounds a manifest.
const MaxManifest = 4 << 20

// BlobPath is the slash-separated path of a blob in an OCI layout. The digest must be valid.
func BlobPath(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}
