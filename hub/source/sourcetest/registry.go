package sourcetest

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"

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
