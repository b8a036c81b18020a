package hub_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/crypto/bcrypt"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/download"
	"github.com/go-modelzoo/zoo/hub/sign"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/source/sourcetest"
)

const (
	registryUser     = "zoo"
	registryPassword = "correct horse"
)

// dockerRegistry starts the real thing with TLS and a password, and returns its address and the file of its certificate.
func dockerRegistry(t *testing.T) (host, caFile string) {
	t.Helper()
	dir := t.TempDir()
	caFile, keyFile := certificate(t, dir)
	hash, err := bcrypt.GenerateFromPassword([]byte(registryPassword), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	passwords := filepath.Join(dir, "htpasswd")
	if err := os.WriteFile(passwords, []byte(registryUser+":"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tls := fmt.Sprintf("{certificate: %q, key: %q}", caFile, keyFile)
	return sourcetest.Docker(t, tls, fmt.Sprintf("{htpasswd: {realm: zoo, path: %q}}", passwords)), caFile
}

// certificate writes a self-signed certificate of 127.0.0.1 and its key.
func certificate(t *testing.T, dir string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "zoo test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// login writes Docker's configuration with a password for the host.
func login(t *testing.T, host, password string) {
	t.Helper()
	dir := t.TempDir()
	text, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{
		"auth": base64.StdEncoding.EncodeToString([]byte(registryUser + ":" + password)),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
}

func TestRealRegistry(t *testing.T) {
	host, ca := dockerRegistry(t)
	login(t, host, registryPassword)
	w := newWorld(t, 3<<20) // several chunks
	w.config.CAFile = ca
	public, private := keyPair(t)
	to := "oci://" + host + "/ml/zoo"
	h := w.open(t, nil)
	want := pull(t, h, ref)

	first, err := h.Mirror(t.Context(), []string{ref}, to, hub.MirrorOptions{Key: &private})
	if err != nil || len(first) != 2 || first[0].Bytes < 5<<20 || first[0].Reference != to+"/"+ref {
		t.Fatalf("%+v, %v", first, err)
	}
	t.Run("MirrorTwiceCopiesNothing", func(t *testing.T) {
		second, err := h.Mirror(t.Context(), []string{ref}, to, hub.MirrorOptions{Key: &private})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range second {
			if !p.Skipped || p.Bytes != 0 {
				t.Errorf("%+v", p)
			}
		}
	})
	t.Run("PullOnCleanHome", func(t *testing.T) {
		change := elsewhere(t, to)
		client := w.open(t, trusting(public, change))
		m := pull(t, client, ref)
		sound(t, m)
		if m.Digest != want.Digest || m.Source != to {
			t.Errorf("%+v", m)
		}
		by := pull(t, w.open(t, elsewhere(t, hub.SourceUpstream)), to+"/"+ref+"@"+first[0].Manifest.Digest.String())
		if by.Digest != want.Digest {
			t.Errorf("by digest: %+v", by)
		}
	})
	t.Run("PushAndPull", func(t *testing.T) {
		p, err := h.Push(t.Context(), ref, to, hub.PushOptions{DType: "bf16", Key: &private})
		if err != nil || p.Reference != to+"/tiny:V1-bf16" {
			t.Fatal(p, err)
		}
		again, err := h.Push(t.Context(), ref, to, hub.PushOptions{DType: "bf16", Key: &private})
		if err != nil || again.Bytes > 4096 || again.Manifest.Digest != p.Manifest.Digest {
			t.Errorf("the second push copied %d bytes: %v", again.Bytes, err)
		}
		change := elsewhere(t, to)
		client := w.open(t, trusting(public, change))
		m := pull(t, client, "tiny:V1-bf16")
		sound(t, m)
		if m.Card.Weights.DType != "BF16" {
			t.Errorf("%+v", m.Card.Weights)
		}
	})
	t.Run("ManifestsAreOtherToolsToo", func(t *testing.T) { otherTools(t, host, ca) })
	t.Run("WrongPassword", func(t *testing.T) {
		login(t, host, "wrong")
		for _, verb := range []func(*hub.Hub) error{
			func(h *hub.Hub) error { _, err := h.Pull(t.Context(), ref); return err },
			func(h *hub.Hub) error {
				if _, err := h.Import(t.Context(), want.Path, &card.Card{Name: "x", Family: "mlp", Model: "x", Input: [3]int{1, 1, 1}, Classes: 1, Preprocess: want.Card.Preprocess}, hub.ImportOptions{}); err != nil {
					t.Fatal(err)
				}
				_, err := h.Push(t.Context(), "x", to, hub.PushOptions{})
				return err
			},
		} {
			err := verb(w.open(t, elsewhere(t, to)))
			if !errors.Is(err, source.ErrUnauthorized) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "docker login "+host) || len(err.Error()) > 250 {
				t.Errorf("not one clear line: %v", err)
			}
		}
	})
	t.Run("UntrustedCertificate", func(t *testing.T) {
		change := elsewhere(t, to)
		client := w.open(t, func(c *hub.Config) { change(c); c.CAFile = "" })
		if _, err := client.Pull(t.Context(), ref); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Error(err)
		}
	})
}

// otherTools reads an artifact as oras does, with oras-go alone, and finds its parts and its signature.
func otherTools(t *testing.T, host, ca string) {
	pemText, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pemText)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	repo, err := remote.NewRepository(host + "/ml/zoo/" + model)
	if err != nil {
		t.Fatal(err)
	}
	repo.Client = &auth.Client{Client: &http.Client{Transport: transport}, Credential: auth.StaticCredential(host, auth.Credential{Username: registryUser, Password: registryPassword})}
	copied := memory.New()
	d, err := oras.Copy(t.Context(), repo, tag, copied, "", oras.DefaultCopyOptions)
	if err != nil {
		t.Fatal(err)
	}
	_, raw, err := oras.FetchBytes(t.Context(), copied, tag, oras.DefaultFetchBytesOptions)
	if err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, l := range m.Layers {
		types = append(types, l.MediaType)
	}
	wanted := fmt.Sprint([]string{hub.MediaTypeWeightsShuffle4, download.MediaTypeTable, hub.MediaTypeProvenance})
	if m.ArtifactType != card.ArtifactType || m.Config.MediaType != card.MediaType || fmt.Sprint(types) != wanted {
		t.Errorf("%s", raw)
	}
	var signatures int
	err = repo.Referrers(context.Background(), d, sign.ArtifactType, func(list []ocispec.Descriptor) error {
		signatures += len(list)
		return nil
	})
	if err != nil || signatures != 1 {
		t.Errorf("%d signatures, %v", signatures, err)
	}
	body, err := copied.Fetch(t.Context(), m.Layers[2])
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close() // only read
	var statement struct {
		Type          string `json:"_type"`
		PredicateType string `json:"predicateType"`
		Subject       []struct{ Digest map[string]string }
	}
	if err := json.NewDecoder(body).Decode(&statement); err != nil || statement.Type != "https://in-toto.io/Statement/v1" ||
		statement.PredicateType != "https://slsa.dev/provenance/v1" || len(statement.Subject) != 1 || statement.Subject[0].Digest["sha256"] == "" {
		t.Errorf("%+v, %v", statement, err)
	}
}
