package source_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/go-modelzoo/zoo/hub/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t *testing.T, o source.ClientOptions) *source.Client {
	t.Helper()
	c, err := source.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestPlainHTTPToOtherMachinesRefused(t *testing.T) {
	c := client(t, source.ClientOptions{})
	for _, address := range []string{"http://192.0.2.1/x", "http://registry.example/x", "http://127.0.0.1.example/x", "http://[2001:db8::1]/x"} {
		_, err := source.File(c).Open(t.Context(), ocispec.Descriptor{URLs: []string{address}}, source.Range{})
		if !errors.Is(err, source.ErrPlainHTTP) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestPrivateAuthorityIsNamedWithAdvice(t *testing.T) {
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.StartTLS()
	defer web.Close()
	_, err := source.File(client(t, source.ClientOptions{})).Open(t.Context(), ocispec.Descriptor{URLs: []string{web.URL + "/x"}}, source.Range{})
	if err == nil || !strings.Contains(err.Error(), "ZOO_CA_FILE") {
		t.Error(err)
	}
}

func TestBlobThatIsNotItsDigestRefused(t *testing.T) {
	dir := t.TempDir()
	d := digest.FromString("right")
	blob := filepath.Join(dir, filepath.FromSlash(source.BlobPath(d)))
	if err := os.MkdirAll(filepath.Dir(blob), 0o755); err != nil {
		t.Fatal(err)
	}
	repo, err := source.Directory(dir).Repository("m")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content string
		size    int64
		ok      bool
	}{
		"right":         {"right", 5, true},
		"other bytes":   {"wrong", 5, false},
		"longer":        {"right and more", 5, false},
		"shorter":       {"rig", 5, false},
		"over the size": {"right", 500, false},
	} {
		if err := os.WriteFile(blob, []byte(c.content), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := source.ReadAll(t.Context(), repo, ocispec.Descriptor{Digest: d, Size: c.size}, 100)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPathTraversalInDigestsRefused(t *testing.T) {
	dir := t.TempDir()
	repo, err := source.Directory(dir).Repository("m")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []digest.Digest{"sha256:../../../etc/passwd", "../x:y", "sha256:", "", "sha512:" + digest.Digest(strings.Repeat("a", 128))} {
		if part, err := repo.Open(t.Context(), ocispec.Descriptor{Digest: d, Size: 1}, source.Range{}); err == nil {
			part.Body.Close()
			t.Errorf("digest %q opens", d)
		}
	}
}

func TestMissingIsNotFound(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	c := client(t, source.ClientOptions{})
	static, err := source.Static(c, web.URL)
	if err != nil {
		t.Fatal(err)
	}
	oci, err := source.OCI(c, "oci://"+strings.TrimPrefix(web.URL, "http://")+"/zoo")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []source.Source{static, oci, source.Directory(t.TempDir())} {
		repo, err := s.Repository("resnet50")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := repo.Resolve(t.Context(), "V1"); !errors.Is(err, source.ErrNotFound) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestServerThatIsNoRegistryIsNamed(t *testing.T) {
	for path, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"portal": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/html") }, "/portal does not answer as a registry does (unknown response Content-Length)"},
		"page": {func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "page.html", time.Time{}, strings.NewReader("<html>"))
		}, "/page does not answer as a registry does (missing required header"},
		"loop": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"?secret", http.StatusFound)
		}, ": /v2/loop/resnet50/manifests/V1: 127.0.0.1"},
	} {
		web := httptest.NewServer(c.answer)
		defer web.Close()
		oci, err := source.OCI(client(t, source.ClientOptions{}), "oci://"+strings.TrimPrefix(web.URL, "http://")+"/"+path)
		if err != nil {
			t.Fatal(err)
		}
		repo, err := oci.Repository("resnet50")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := repo.Resolve(t.Context(), "V1"); err == nil || !strings.Contains(": "+err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestAddressesOfSourcesChecked(t *testing.T) {
	c := client(t, source.ClientOptions{})
	for _, a := range []string{"oci://", "oci:///x", "oci://HOST UPPER/x", "https://h"} {
		if _, err := source.OCI(c, a); err == nil {
			t.Errorf("%q is a registry", a)
		}
	}
	for _, a := range []string{"https://", "https://h/x?y", "::"} {
		if _, err := source.Static(c, a); err == nil {
			t.Errorf("%q is a static hub", a)
		}
	}
}

func TestRetryEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := source.Retry(ctx, 100, func() error {
		if calls++; calls == 2 {
			cancel()
		}
		return io.ErrUnexpectedEOF
	})
	if calls != 2 || !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, context.Canceled) {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func FuzzDecodeManifest(f *testing.F) {
	d := ocispec.Descriptor{MediaType: "a/b", Digest: digest.FromString("x"), Size: 1}
	seed, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: d, Layers: []ocispec.Descriptor{d}, Subject: &d})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{d}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(index)
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := source.DecodeManifest(data); err == nil {
			for _, d := range append(m.Layers, m.Config) {
				if p := source.BlobPath(d.Digest); !filepath.IsLocal(p) || !strings.HasPrefix(p, "blobs/sha256/") || d.Size < 0 {
					t.Fatalf("%q passes", d.Digest)
				}
			}
		}
		if x, err := source.DecodeIndex(data); err == nil {
			for _, d := range x.Manifests {
				if !filepath.IsLocal(source.BlobPath(d.Digest)) {
					t.Fatalf("%q passes", d.Digest)
				}
			}
		}
	})
}
