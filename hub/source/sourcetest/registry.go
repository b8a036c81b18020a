package sourcetest

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/source"
)

// Registry serves OCI image layouts as an OCI registry that cannot be written to: the layout in the directory Registry["team/models"] has the
// repositories below team/models. It implements http.Handler and is safe for concurrent use.
type Registry map[string]string

func (r Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path, ok := strings.CutPrefix(req.URL.Path, "/v2/")
	if !ok {
		http.NotFound(w, req)
		return
	}
	if path == "" {
		return
	}
	for _, kind := range []string{"manifests", "blobs"} {
		repository, reference, ok := strings.Cut(path, "/"+kind+"/")
		slash := strings.LastIndexByte(repository, '/')
		if !ok || slash < 0 {
			continue
		}
		if dir, ok := r[repository[:slash]]; ok {
			serve(w, req, dir, source.RefName(repository[slash+1:], reference), reference)
			return
		}
	}
	http.NotFound(w, req)
}

// serve answers with the manifest of a name or digest, or with the blob of a digest.
func serve(w http.ResponseWriter, req *http.Request, dir, name, reference string) {
	text, err := os.ReadFile(filepath.Join(dir, ocispec.ImageIndexFile))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	x, err := source.DecodeIndex(text)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	mediaType := "application/octet-stream"
	for _, d := range x.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] == name || d.Digest.String() == reference {
			mediaType, reference = d.MediaType, d.Digest.String()
		}
	}
	d, err := digest.Parse(reference)
	if err != nil {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", d.String())
	http.ServeFile(w, req, filepath.Join(dir, filepath.FromSlash(source.BlobPath(d))))
}

// Writable is an OCI registry in memory, without the API for referrers. It implements http.Handler and is safe for concurrent use.
type Writable struct {
	// Before is called before each request is answered, if it is not nil.
	Before func(*http.Request)

	mu    sync.Mutex
	items map[string]item // by REPOSITORY/blobs/DIGEST, REPOSITORY/manifests/DIGEST and REPOSITORY/manifests/TAG
}

type item struct {
	mediaType string
	data      []byte
}

func (r *Writable) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r.Before != nil {
		r.Before(req)
	}
	path := strings.TrimPrefix(req.URL.Path, "/v2/")
	switch req.Method {
	case http.MethodPost:
		w.Header().Set("Location", req.URL.Path+"1")
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPut:
		data, err := io.ReadAll(req.Body)
		if err != nil {
			return // the client went away
		}
		d := digest.FromBytes(data)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.items == nil {
			r.items = make(map[string]item)
		}
		if repository, upload := strings.CutSuffix(path, "/blobs/uploads/1"); upload {
			r.items[repository+"/blobs/"+d.String()] = item{"application/octet-stream", data}
		} else {
			repository, _, _ := strings.Cut(path, "/manifests/")
			manifest := item{req.Header.Get("Content-Type"), data}
			r.items[path], r.items[repository+"/manifests/"+d.String()] = manifest, manifest
		}
		w.Header().Set("Docker-Content-Digest", d.String())
		w.WriteHeader(http.StatusCreated)
	default:
		r.mu.Lock()
		found, ok := r.items[path]
		r.mu.Unlock()
		if !ok && path != "" {
			http.NotFound(w, req)
			return
		}
		w.Header().Set("Content-Type", found.mediaType)
		w.Header().Set("Docker-Content-Digest", digest.FromBytes(found.data).String())
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(found.data))
	}
}
