package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/source"
)

// drip sends a byte now and then, until the client goes away.
func drip(w http.ResponseWriter, r *http.Request) {
	for {
		if _, err := io.WriteString(w, " "); err != nil {
			return
		}
		http.NewResponseController(w).Flush() // the client may be gone
		select {
		case <-r.Context().Done():
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// registryAt returns a repository of a registry with the handler, asked by a client that waits for so long.
func registryAt(t *testing.T, stall time.Duration, h http.HandlerFunc) *source.Registry {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	r, err := source.OCI(client(t, source.ClientOptions{StallTimeout: stall}), "oci://"+strings.TrimPrefix(server.URL, "http://")+"/m")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestDrippingManifestGivenUp(t *testing.T) {
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 1000}
	r := registryAt(t, 200*time.Millisecond, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", d.MediaType)
		w.Header().Set("Content-Length", fmt.Sprint(d.Size))
		drip(w, r)
	})
	repo, err := r.Repository("a")
	if err != nil {
		t.Fatal(err)
	}
	part, err := repo.Open(t.Context(), d, source.Range{})
	if err != nil {
		t.Fatal(err)
	}
	defer part.Body.Close()
	if _, err := io.ReadAll(part.Body); !errors.Is(err, source.ErrStalled) {
		t.Error(err)
	}
}

func TestDrippingTokenGivenUp(t *testing.T) {
	r := registryAt(t, 200*time.Millisecond, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			drip(w, r)
			return
		}
		w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="x"`, r.Host))
		w.WriteHeader(http.StatusUnauthorized)
	})
	repo, err := r.Repository("a")
	if err != nil {
		t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 1000}
	if _, err := repo.Open(t.Context(), d, source.Range{}); !errors.Is(err, source.ErrStalled) {
		t.Error(err)
	}
}

// uploadTo pushes a blob that no socket's buffer holds to a registry that does so with it.
func uploadTo(t *testing.T, stall time.Duration, put http.HandlerFunc) error {
	t.Helper()
	r := registryAt(t, stall, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost:
			w.Header().Set("Location", "/v2/m/a/blobs/uploads/1")
			w.WriteHeader(http.StatusAccepted)
		case http.MethodPut:
			put(w, r)
		}
	})
	repo, err := r.Remote(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 32<<20)
	return repo.Push(t.Context(), ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(data), Size: int64(len(data))}, bytes.NewReader(data))
}

func TestUploadThatTheServerDoesNotTakeGivenUp(t *testing.T) {
	over := make(chan struct{})
	timer := time.AfterFunc(10*time.Second, func() { close(over) })
	err := uploadTo(t, 300*time.Millisecond, func(_ http.ResponseWriter, r *http.Request) {
		io.CopyN(io.Discard, r.Body, 1<<20)
		<-over // with a body that is not read, the context does not tell that the client went away
	})
	if !timer.Stop() {
		t.Error("it waited for as long as the server did")
	} else {
		close(over)
	}
	if !errors.Is(err, source.ErrStalled) || !source.Temporary(err) {
		t.Error(err)
	}
}

func TestRegistryThatTakesLongToStoreAnUploadAwaited(t *testing.T) {
	const stall = 300 * time.Millisecond
	err := uploadTo(t, stall, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(3 * stall)
		w.WriteHeader(http.StatusCreated)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPasswordInAnAddressNotShown(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "bob" || password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		io.WriteString(w, "no index")
	}))
	t.Cleanup(server.Close)
	s, err := source.Static(client(t, source.ClientOptions{}), strings.Replace(server.URL, "://", "://bob:secret@", 1)+"/hub/")
	if err != nil {
		t.Fatal(err)
	}
	repo, err := s.Repository("m")
	if err != nil {
		t.Fatal(err)
	}
	_, err = repo.Resolve(t.Context(), "v1")
	if err == nil || errors.Is(err, source.ErrUnauthorized) || strings.Contains(err.Error()+s.String(), "secret") {
		t.Errorf("%v of %v", err, s)
	}
}

// The first caller finds out whether a registry on this machine speaks TLS, and one that says nothing holds it up. The others waited with it,
// whatever time they had.
func TestSilentRegistryHoldsUpOneCallerAlone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled := make(chan struct{}, 10)
	c := client(t, source.ClientOptions{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled <- struct{}{}
		return new(net.Dialer).DialContext(ctx, network, address)
	}})
	r, err := source.OCI(c, "oci://"+l.Addr().String()+"/m")
	if err != nil {
		t.Fatal(err)
	}
	resolve := func(ctx context.Context) error {
		repo, err := r.Repository("a")
		if err != nil {
			return err
		}
		_, err = repo.Resolve(ctx, "v1")
		return err
	}
	patient, enough := context.WithTimeout(t.Context(), 5*time.Second)
	defer enough()
	first := make(chan error)
	go func() { first <- resolve(patient) }()
	<-dialled
	brief, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := resolve(brief); !errors.Is(err, context.DeadlineExceeded) || patient.Err() != nil {
		t.Errorf("%v, the first caller has %v", err, patient.Err())
	}
	enough()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
