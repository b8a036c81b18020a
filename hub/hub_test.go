package hub_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/source/sourcetest"
	"github.com/go-modelzoo/zoo/hub/store"
	"github.com/go-modelzoo/zoo/weights"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

const (
	model = "tiny"
	tag   = "V1"
	ref   = model + ":" + tag
)

// checkpoint returns the bytes of a file with n float32, as .pth or safetensors.
func checkpoint(t testing.TB, n int, format registry.Format) []byte {
	t.Helper()
	r := rand.New(rand.NewPCG(3, uint64(n)))
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(r.NormFloat64() * 0.02)
	}
	tensors := []weights.Tensor{
		weights.FromFloat32("features.0.weight", []int{n - n/4}, values[:n-n/4]),
		weights.FromFloat32("classifier.bias", []int{n / 4}, values[n-n/4:]),
		weights.FromInt64("bn.num_batches_tracked", nil, []int64{7}),
	}
	var b bytes.Buffer
	var err error
	if format == registry.FormatPTH {
		err = weights.WritePTH(&b, tensors)
	} else {
		err = weights.WriteSafetensors(&b, tensors, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// world is an upstream server with one model, an index that lists it, and a home.
type world struct {
	file   []byte
	origin *sourcetest.Server
	index  *registry.Index
	config hub.Config

	mu       sync.Mutex
	warnings []string
	progress []hub.Progress
	dials    atomic.Int64
}

func newWorld(t testing.TB, n int) *world {
	t.Helper()
	w := &world{file: checkpoint(t, n, registry.FormatPTH)}
	w.origin = &sourcetest.Server{Content: w.file, ETag: `"1"`}
	web := httptest.NewUnstartedServer(w.origin)
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.Start()
	t.Cleanup(web.Close)
	w.index = newIndex(web.URL+"/tiny.pth", sha256Hex(w.file), int64(len(w.file)), int64(n))
	w.config = hub.Config{
		Home:  homeDir(t),
		Index: encodeIndex(t, w.index),
		Warn: func(s string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.warnings = append(w.warnings, s)
		},
		Progress: func(p hub.Progress) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.progress = append(w.progress, p)
		},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			w.dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	return w
}

func sha256Hex(data []byte) string { return digest.FromBytes(data).Encoded() }

func newIndex(url, sum string, size, params int64) *registry.Index {
	return &registry.Index{
		Version: 5, Expires: time.Now().Add(365 * 24 * time.Hour).UTC().Truncate(time.Second),
		Families: []registry.Family{{Name: "mlp"}},
		Models: []registry.Model{{
			Name: model, Family: "mlp", Params: params, Input: [3]int{1, 8, 8}, Classes: 2,
			Weights: []registry.Weights{{
				Tag: tag, Default: true, License: "MIT", Preprocess: registry.Preprocess{Mean: []float64{0}, Std: []float64{1}},
				Origin: &registry.Origin{URL: url, SHA256: sum, Size: size, Format: registry.FormatPTH},
			}},
		}},
	}
}

func encodeIndex(t testing.TB, x *registry.Index) []byte {
	t.Helper()
	data, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// open opens a hub with the world's configuration after change, in a new home if none is kept.
func (w *world) open(t testing.TB, change func(*hub.Config)) *hub.Hub {
	t.Helper()
	c := w.config
	if change != nil {
		change(&c)
	}
	h, err := hub.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// elsewhere is a change to a clean home and the given sources.
func elsewhere(t testing.TB, sources ...string) func(*hub.Config) {
	home := homeDir(t)
	return func(c *hub.Config) { c.Home, c.Sources = home, sources }
}

// homeDir is a temporary directory that can be removed although plugins in it are read-only.
func homeDir(t testing.TB) string {
	t.Helper()
	home := t.TempDir()
	t.Cleanup(func() {
		err := filepath.WalkDir(home, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				err = os.Chmod(path, 0o755)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	return home
}

func (w *world) warned(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.warnings, func(s string) bool { return strings.Contains(s, text) })
}

func pull(t testing.TB, h *hub.Hub, name string) *hub.Model {
	t.Helper()
	m, err := h.Pull(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sound requires that a model's file is safetensors of the digest that the model says.
func sound(t testing.TB, m *hub.Model) {
	t.Helper()
	data, err := os.ReadFile(m.Path)
	if err != nil {
		t.Fatal(err)
	}
	if got := digest.FromBytes(data); got != m.Digest || m.Card.Weights.Digest != m.Digest {
		t.Errorf("file %s, model %s, card %s", got, m.Digest, m.Card.Weights.Digest)
	}
	f, err := weights.Open(m.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // only read
	if f.Format() != weights.Safetensors {
		t.Errorf("the format is %s", f.Format())
	}
	if info, err := os.Stat(m.Path); err != nil || info.Mode().Perm()&0o222 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestPullFromUpstreamConvertsAndPins(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, nil)
	m := pull(t, h, model)
	sound(t, m)
	if m.Reference() != ref || m.Source != "upstream" || m.Card.Origin.Digest != digest.FromBytes(w.file) || m.Card.License != "MIT" {
		t.Errorf("%+v, %+v", m, m.Card)
	}
	again := pull(t, h, ref)
	if again.Source != hub.SourceStore || again.Digest != m.Digest || len(w.origin.Requests()) != 1 {
		t.Errorf("the second pull: %+v after %d requests", again, len(w.origin.Requests()))
	}
	f, err := lock.Load(filepath.Join(w.config.Home, lock.Name))
	if err != nil || f.Models[ref].Weights != m.Digest || f.Models[ref].Origin != digest.FromBytes(w.file) {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := h.Pull(t.Context(), "tinny"); !errors.Is(err, hub.ErrNotFound) {
		t.Error(err)
	}
}

func TestEveryRoadLeadsToTheSameFile(t *testing.T) {
	w := newWorld(t, 300_000)
	first := w.open(t, nil)
	want := pull(t, first, ref)
	dir := t.TempDir()
	if _, err := first.Mirror(t.Context(), []string{ref}, dir, hub.MirrorOptions{}); err != nil {
		t.Fatal(err)
	}
	static := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer static.Close()
	archive := exported(t, first, ref)
	t.Run("directory", func(t *testing.T) { arrives(t, w, want, elsewhere(t, dir)) })
	t.Run("static", func(t *testing.T) { arrives(t, w, want, elsewhere(t, static.URL)) })
	t.Run("embedded", func(t *testing.T) {
		change := elsewhere(t, hub.SourceEmbedded)
		arrives(t, w, want, func(c *hub.Config) { change(c); c.Embedded = os.DirFS(dir) })
	})
	t.Run("shared store", func(t *testing.T) {
		change := elsewhere(t)
		arrives(t, w, want, func(c *hub.Config) { change(c); c.SharedStores, c.Offline = []string{dir}, true })
	})
	t.Run("archive", func(t *testing.T) {
		h := w.open(t, func(c *hub.Config) { elsewhere(t)(c); c.Offline = true })
		refs, err := h.ImportArchive(t.Context(), bytes.NewReader(archive.Bytes()))
		if err != nil || !slices.Equal(refs, []string{ref}) {
			t.Fatal(refs, err)
		}
		m := pull(t, h, ref)
		sound(t, m)
		if m.Digest != want.Digest {
			t.Errorf("%s instead of %s", m.Digest, want.Digest)
		}
	})
}

func TestModelOfASharedStoreIsNotSaidToBeRemoved(t *testing.T) {
	w := newWorld(t, 5000)
	pull(t, w.open(t, nil), ref)
	shared := filepath.Join(w.config.Home, "store")
	h := w.open(t, func(c *hub.Config) { c.Home, c.SharedStores = t.TempDir(), []string{shared} })
	if _, err := h.Remove(t.Context(), ref); err == nil || !strings.Contains(err.Error(), "shared store") {
		t.Errorf("%v", err)
	}
}

// exported is an archive of a model in the store.
func exported(t *testing.T, h *hub.Hub, ref string) *bytes.Buffer {
	t.Helper()
	var archive bytes.Buffer
	if err := h.Export(t.Context(), &archive, ref); err != nil {
		t.Fatal(err)
	}
	return &archive
}

// arrives pulls in another home and requires the same file, without asking the upstream server.
func arrives(t *testing.T, w *world, want *hub.Model, change func(*hub.Config)) {
	t.Helper()
	before := len(w.origin.Requests())
	m := pull(t, w.open(t, change), ref)
	sound(t, m)
	if m.Digest != want.Digest || len(w.origin.Requests()) != before {
		t.Errorf("%s instead of %s, %d requests upstream", m.Digest, want.Digest, len(w.origin.Requests())-before)
	}
}

func TestMirrorTwiceCopiesNothing(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, nil)
	dir := t.TempDir()
	first, err := h.Mirror(t.Context(), []string{"tin*", ref, "*"}, dir, hub.MirrorOptions{}) // each once, however many patterns name it
	if err != nil || len(first) != 1 || first[0].Bytes == 0 {
		t.Fatal(first, err)
	}
	second, err := h.Mirror(t.Context(), []string{ref}, dir, hub.MirrorOptions{})
	if err != nil || len(second) != 1 || second[0].Bytes != 0 || !second[0].Skipped {
		t.Fatalf("%+v, %v", second, err)
	}
	if _, err := h.Mirror(t.Context(), []string{"x*"}, dir, hub.MirrorOptions{}); err == nil {
		t.Error("a pattern that matches nothing passes")
	}
}

func TestOfflineDialsNothing(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, func(c *hub.Config) {
		c.Offline, c.Sources = true, []string{"oci://127.0.0.1:1/x", "http://127.0.0.1:1/", hub.SourceUpstream}
	})
	if _, err := h.Pull(t.Context(), ref); !errors.Is(err, source.ErrOffline) || !errors.Is(err, hub.ErrNotFound) || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
	if n := w.dials.Load(); n != 0 {
		t.Errorf("%d dials", n)
	}
}

func TestMirroredClientNeverDialsAnythingElse(t *testing.T) {
	w := newWorld(t, 5000)
	dir := t.TempDir()
	if _, err := w.open(t, nil).Mirror(t.Context(), []string{ref}, dir, hub.MirrorOptions{}); err != nil {
		t.Fatal(err)
	}
	static := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer static.Close()
	t.Setenv("ZOO_REGISTRY", static.URL)
	c, err := hub.LoadConfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.Index = w.config.Index
	c.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != strings.TrimPrefix(static.URL, "http://") {
			t.Errorf("dialled %s", addr)
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	h, err := hub.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	sound(t, pull(t, h, ref))
	if _, err := h.Pull(t.Context(), "resnet50"); err == nil {
		t.Error("a model that the mirror has not arrived")
	}
}

func TestUnreachableMirrorFallsThroughWithWarning(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, func(c *hub.Config) { c.Sources = []string{t.TempDir(), "http://127.0.0.1:1/", hub.SourceUpstream} })
	if testing.Short() {
		t.Skip("retries take seconds")
	}
	if m := pull(t, h, ref); m.Source != "upstream" || !w.warned("could not be had from http://127.0.0.1:1") {
		t.Errorf("%s, %q", m.Source, w.warnings)
	}
}

func TestSourceThatCannotBeUsedFallsThroughWithWarning(t *testing.T) {
	w := newWorld(t, 5000)
	closed := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusUnauthorized) }))
	t.Cleanup(closed.Close)
	busy := httptest.NewServer(&sourcetest.Server{}) // for hours
	t.Cleanup(busy.Close)
	busy.Config.Handler.(*sourcetest.Server).Script(func(sourcetest.Request) sourcetest.Fault {
		return sourcetest.Fault{Status: http.StatusServiceUnavailable, RetryAfter: 7200}
	})
	h := w.open(t, func(c *hub.Config) {
		c.Sources = []string{closed.URL, busy.URL, "https://mirror.invalid", hub.SourceUpstream}
		c.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if strings.HasPrefix(addr, "mirror.invalid:") {
				return nil, &net.DNSError{Err: "no such host", Name: "mirror.invalid", IsNotFound: true}
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	})
	if m := pull(t, h, ref); m.Source != "upstream" || !w.warned("could not be had from "+closed.URL) || !w.warned("could not be had from "+busy.URL) || !w.warned("could not be had from https://mirror.invalid") {
		t.Errorf("%s, %q", m.Source, w.warnings)
	}
}

// One caller waits for a source that says nothing. Others who need nothing of it went on waiting with it, whatever time they had.
func TestStalledSourceHoldsUpWhoDoesNotAskIt(t *testing.T) {
	w := newWorld(t, 5000)
	pull(t, w.open(t, nil), ref)
	public, _ := keyPair(t)
	asked := make(chan struct{}, 1)
	stalled := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(stalled.Close)
	h := w.open(t, func(c *hub.Config) { c.Sources, c.Keys = []string{stalled.URL}, []string{public.String()} })
	first, enough := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if _, err := h.Index(first); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	defer waiting.Wait()
	defer enough()
	<-asked
	limit := time.AfterFunc(10*time.Second, enough) // as long as those held up would wait
	if _, err := h.Local(t.Context(), ref); err != nil {
		t.Error(err)
	}
	brief, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := h.Index(brief); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if !limit.Stop() {
		t.Error("both waited for the source")
	}
}

// A server that is busy is asked again, some seconds later: who gives up meanwhile did not learn that it was that which ended the pull.
func TestGivingUpABusyServerIsTheCallersDoing(t *testing.T) {
	w := newWorld(t, 5000)
	ctx, cancel := context.WithCancel(t.Context())
	w.origin.Script(func(sourcetest.Request) sourcetest.Fault {
		time.AfterFunc(10*time.Millisecond, cancel)
		return sourcetest.Fault{Status: http.StatusServiceUnavailable, RetryAfter: 60}
	})
	_, err := w.open(t, nil).Pull(ctx, ref)
	var status *source.StatusError
	if !errors.Is(err, context.Canceled) || !errors.As(err, &status) {
		t.Error(err)
	}
}

// An import of a large file, or a conversion, went on to its end, and published what nobody waited for.
func TestImportAndConversionEndWithTheContext(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, nil)
	m := pull(t, h, ref)
	for _, format := range []registry.Format{registry.FormatPTH, registry.FormatSafetensors} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, checkpoint(t, 5000, format), 0o600); err != nil {
			t.Fatal(err)
		}
		mine := *m.Card
		mine.Name, mine.Tag, mine.Origin = "mine", "", nil
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := h.Import(ctx, path, &mine, hub.ImportOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", format, err)
		}
		if _, err := h.Push(ctx, ref, t.TempDir(), hub.PushOptions{DType: "f16"}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", format, err)
		}
	}
	if _, err := h.Local(t.Context(), "mine:local"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	change, converted := elsewhere(t, hub.SourceUpstream), false
	h = w.open(t, func(c *hub.Config) {
		change(c)
		c.Progress = func(p hub.Progress) {
			converted = converted || p.Stage == hub.StageConvert
			if p.Stage == hub.StageDownload && p.Done == p.Total {
				cancel()
			}
		}
	})
	if _, err := h.Pull(ctx, ref); !errors.Is(err, context.Canceled) || converted {
		t.Errorf("converted: %v, %v", converted, err)
	}
}

func TestLicenseRequired(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, func(c *hub.Config) { c.RequireLicenses = []string{"Apache-2.0", "BSD-3-Clause"} })
	if _, err := h.Pull(t.Context(), ref); !errors.Is(err, hub.ErrLicense) || len(w.origin.Requests()) > 0 {
		t.Error(err)
	}
	h = w.open(t, func(c *hub.Config) { c.RequireLicenses = []string{"mit"} })
	pull(t, h, ref)
}

func TestPrefixOnlyIsSaidAndPinned(t *testing.T) {
	w := newWorld(t, 5000)
	o := w.index.Models[0].Weights[0].Origin
	full := o.SHA256
	o.SHA256, o.SHA256Prefix, o.Size = "", full[:8], 0
	w.config.Index = encodeIndex(t, w.index)
	h := w.open(t, nil)
	pull(t, h, ref)
	if !w.warned("only the first 32 bits") {
		t.Errorf("%q", w.warnings)
	}
	f, err := lock.Load(filepath.Join(w.config.Home, lock.Name))
	if err != nil || f.Models[ref].Origin.Encoded() != full {
		t.Fatalf("%+v, %v", f, err)
	}
	// Another file with the same prefix of the name is refused once the whole is pinned.
	other := newWorld(t, 5001)
	o.URL, o.SHA256Prefix = other.index.Models[0].Weights[0].Origin.URL, other.index.Models[0].Weights[0].Origin.SHA256[:8]
	change := elsewhere(t, hub.SourceUpstream)
	h = other.open(t, func(c *hub.Config) {
		change(c)
		c.Index, c.LockFile = encodeIndex(t, w.index), filepath.Join(w.config.Home, lock.Name)
	})
	if _, err := h.Pull(t.Context(), ref); !errors.Is(err, store.ErrMismatch) {
		t.Error(err)
	}
}

func TestUnpublishedDigestRefusedUnlessAsked(t *testing.T) {
	w := newWorld(t, 5000)
	o := w.index.Models[0].Weights[0].Origin
	o.SHA256, o.Size = "", 0
	w.config.Index = encodeIndex(t, w.index)
	if _, err := w.open(t, nil).Pull(t.Context(), ref); !errors.Is(err, hub.ErrUnpublished) {
		t.Error(err)
	}
	pull(t, w.open(t, func(c *hub.Config) { c.TrustUnpublished = true }), ref)
	if !w.warned("trusted on first use") {
		t.Errorf("%q", w.warnings)
	}
}

// A program's image has its project's lock on a file system that is read-only, as a folder in the guard's place has it.
func TestPinnedModelIsPulledUnderAReadOnlyLock(t *testing.T) {
	w := newWorld(t, 5000)
	project := t.TempDir()
	w.config.LockFile = filepath.Join(project, lock.Name)
	pull(t, w.open(t, nil), ref)
	guard := filepath.Join(project, "."+lock.Name+".guard")
	if err := errors.Join(os.Remove(guard), os.Mkdir(guard, 0o755)); err != nil {
		t.Fatal(err)
	}
	h := w.open(t, elsewhere(t, hub.SourceUpstream))
	sound(t, pull(t, h, ref))
	path, c := antsFile(t, 500)
	if _, err := h.Import(t.Context(), path, c, hub.ImportOptions{}); err != nil {
		t.Error(err)
	}
}

// TestPullOfAStoredModelLeavesAProjectsLockEmpty: a lock that begins after the first pull would guard nothing.
func TestPullOfAStoredModelLeavesAProjectsLockEmpty(t *testing.T) {
	w := newWorld(t, 50)
	pull(t, w.open(t, nil), model)
	project := filepath.Join(t.TempDir(), lock.Name)
	want := pull(t, w.open(t, func(c *hub.Config) { c.LockFile = project }), model)
	f, err := lock.Load(project)
	if err != nil {
		t.Fatal(err)
	}
	if pin := f.Models[model+":"+tag]; pin.Weights != want.Digest {
		t.Errorf("pinned is %+v, pulled %s", f.Models, want.Digest)
	}
}

func TestChangedModelRefusedByLock(t *testing.T) {
	w := newWorld(t, 5000)
	pull(t, w.open(t, nil), ref)
	other := newWorld(t, 6000)
	change := elsewhere(t, hub.SourceUpstream)
	h := other.open(t, func(c *hub.Config) { change(c); c.LockFile = filepath.Join(w.config.Home, lock.Name) })
	if _, err := h.Pull(t.Context(), ref); !errors.Is(err, lock.ErrPinned) {
		t.Error(err)
	}
	if _, err := h.Local(t.Context(), ref); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a refused model has a name: %v", err)
	}
}

func TestTwoPullsOneDownload(t *testing.T) {
	w := newWorld(t, 4<<20) // five chunks, one at a time
	w.origin.Script(func(sourcetest.Request) sourcetest.Fault {
		time.Sleep(100 * time.Millisecond)
		return sourcetest.Fault{}
	})
	var group sync.WaitGroup
	for range 4 {
		h := w.open(t, func(c *hub.Config) { c.Parallel = 1 }) // each as a process of its own: only the files are shared
		group.Go(func() {
			if _, err := h.Pull(context.Background(), ref); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if sent := w.origin.Sent(); sent != int64(len(w.file)) {
		t.Errorf("%d bytes were sent of a file of %d", sent, len(w.file))
	}
	if !slices.ContainsFunc(w.progress, func(p hub.Progress) bool { return p.Stage == hub.StageWait && p.Name == ref && p.Done > 0 }) {
		t.Error("nobody who waited saw the other's progress")
	}
}

func TestImportPushPullLocalModel(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, nil)
	base := pull(t, h, ref)
	path := filepath.Join(t.TempDir(), "mine.pth")
	if err := os.WriteFile(path, checkpoint(t, 7000, registry.FormatPTH), 0o644); err != nil {
		t.Fatal(err)
	}
	c := *base.Card
	c.Name, c.Tag, c.Origin, c.Weights = "ants", "", nil, card.Weights{}
	c.Labels = []string{"ant", "bee"}
	c.Base = &card.Base{Name: base.Name, Tag: base.Tag, Weights: base.Digest}
	m, err := h.Import(t.Context(), path, &c, hub.ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sound(t, m)
	if m.Tag != hub.TagLocal {
		t.Error(m.Tag)
	}
	dir := t.TempDir()
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, dtype := range []string{"", "bf16", "f16"} {
		p, err := h.Push(t.Context(), "ants", dir, hub.PushOptions{DType: dtype, Key: &private, Tag: "v1" + dtype})
		if err != nil || p.Bytes == 0 {
			t.Fatal(p, err)
		}
	}
	if _, err := h.Push(t.Context(), "ants", dir, hub.PushOptions{DType: "int8"}); err == nil {
		t.Error("int8 passes")
	}
	change := elsewhere(t, dir)
	there := w.open(t, trusting(public, change))
	got := pull(t, there, "ants:v1")
	sound(t, got)
	if got.Digest != m.Digest || got.Card.Labels[1] != "bee" || got.Card.Base.Weights != base.Digest {
		t.Errorf("%+v", got.Card)
	}
	half := pull(t, there, "ants:v1bf16")
	sound(t, half)
	if half.Card.Weights.DType != "BF16" || half.Card.Weights.Source != m.Digest || half.Card.Weights.Size > m.Card.Weights.Size*6/10 {
		t.Errorf("%+v", half.Card.Weights)
	}
	if _, err := h.Import(t.Context(), path, &card.Card{Name: model, Tag: tag}, hub.ImportOptions{}); err == nil {
		t.Error("a name of the registry can be taken")
	}
	// What was copied before there was a key is signed by the next sync.
	dir = t.TempDir()
	for _, key := range []*minisign.PrivateKey{nil, &private, &private} {
		done, err := h.Mirror(t.Context(), []string{"ants"}, dir, hub.MirrorOptions{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range done {
			if p.Manifest.Digest == "" {
				t.Errorf("%s is published without a digest", p.Reference)
			}
		}
	}
	change = elsewhere(t, dir)
	sound(t, pull(t, w.open(t, trusting(public, change)), "ants:local"))
}

func TestPinningKeepsTheEnvironmentOutOfTheConfiguration(t *testing.T) {
	home := t.TempDir()
	public, _ := keyPair(t)
	t.Setenv("ZOO_REGISTRY", "oci://registry.example.org/once")
	t.Setenv("ZOO_CA_FILE", "/once.pem")
	if err := hub.PinKey(home, public.String()); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ZOO_REGISTRY", "")
	t.Setenv("ZOO_CA_FILE", "")
	c, err := hub.LoadConfig(home)
	if err != nil || len(c.Keys) != 1 || len(c.Sources) > 0 || c.CAFile != "" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestSourceWithSpacesInItsPathIsOneSource(t *testing.T) {
	for _, c := range []struct {
		value string
		want  []string // nil: refused
	}{
		{"upstream  oci://h/p\thttps://h/\n", []string{"upstream", "oci://h/p", "https://h/"}},
		{`"C:\Users\John Smith\zoo\"`, []string{`C:\Users\John Smith\zoo\`}},
		{` '/media/it is "mine"' upstream "b c"`, []string{`/media/it is "mine"`, "upstream", "b c"}},
		{`/o'brien/zoo`, []string{`/o'brien/zoo`}},
		{`"C:\Users\John Smith`, nil},
		{`"https://user:secret@host/`, nil},
		{`"a"b`, nil},
		{`""`, nil},
	} {
		t.Setenv("ZOO_REGISTRY", c.value)
		got, err := hub.LoadConfig(t.TempDir())
		told := err != nil && strings.Contains(err.Error(), "ZOO_REGISTRY") && !strings.Contains(err.Error(), "secret")
		if !slices.Equal(got.Sources, c.want) || (c.want == nil) != told {
			t.Errorf("%s: %q, %v", c.value, got.Sources, err)
		}
	}
}

func TestConfigurationOfAWindowsEditorIsRead(t *testing.T) {
	home := t.TempDir()
	text := "\ufeff{\r\n\"sources\": [\"C:/zoo/mirror\"]}\r\n"
	if err := os.WriteFile(filepath.Join(home, "config.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ZOO_REGISTRY", "")
	if c, err := hub.LoadConfig(home); err != nil || !slices.Equal(c.Sources, []string{"C:/zoo/mirror"}) {
		t.Errorf("%q, %v", c.Sources, err)
	}
}

func TestMisspeltConfigurationRefused(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "config.json"), []byte(`{"require_license": ["MIT"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := hub.LoadConfig(home); err == nil || !strings.Contains(err.Error(), "require_license") {
		t.Error(err)
	}
}

func TestVerifyFindsDamageAndRepairs(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, nil)
	m := pull(t, h, ref)
	if findings, err := h.Verify(t.Context(), false); err != nil || len(findings) > 0 {
		t.Fatal(findings, err)
	}
	data, err := os.ReadFile(m.Path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-9] ^= 1
	if err := errors.Join(os.Chmod(m.Path, 0o644), os.WriteFile(m.Path, data, 0o444)); err != nil {
		t.Fatal(err)
	}
	findings, err := h.Verify(t.Context(), true, model)
	if err != nil || len(findings) == 0 || !errors.Is(findings[0].Err, store.ErrMismatch) {
		t.Fatal(findings, err)
	}
	sound(t, pull(t, h, ref))
}

func TestLongestNameAndTag(t *testing.T) {
	w := newWorld(t, 100)
	m := &w.index.Models[0]
	m.Name, m.Weights[0].Tag = strings.Repeat("n", 80), strings.Repeat("T", 128)
	w.config.Index = encodeIndex(t, w.index)
	sound(t, pull(t, w.open(t, nil), m.Name))
	dir := t.TempDir()
	if _, err := w.open(t, nil).Mirror(t.Context(), []string{m.Name}, dir, hub.MirrorOptions{}); err != nil {
		t.Fatal(err)
	}
	sound(t, pull(t, w.open(t, elsewhere(t, dir)), m.Name))
}

func TestNaNWeightsWarned(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, nil)
	nan := float32(0)
	nan /= nan
	var b bytes.Buffer
	if err := weights.WriteSafetensors(&b, []weights.Tensor{weights.FromFloat32("w", []int{2}, []float32{1, nan})}, nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Import(t.Context(), path, &card.Card{Name: "odd", Family: "mlp", Model: model, Input: [3]int{1, 8, 8}, Classes: 2,
		Preprocess: registry.Preprocess{Mean: []float64{0}, Std: []float64{1}}}, hub.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	findings, err := h.Verify(t.Context(), false, "odd")
	if err != nil || len(findings) != 1 || !findings[0].Warning {
		t.Error(findings, err)
	}
}

func TestCacheRemovePrune(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, nil)
	m := pull(t, h, ref)
	list, err := h.Cache()
	if err != nil || len(list) != 1 || list[0].Reference != ref || list[0].Bytes < m.Card.Weights.Size {
		t.Fatal(list, err)
	}
	models, _, err := h.Prune(t.Context(), hub.PruneOptions{OlderThan: time.Nanosecond, DryRun: true})
	if err != nil || !slices.Equal(models, []string{ref}) {
		t.Fatal(models, err)
	}
	if models, _, err := h.Prune(t.Context(), hub.PruneOptions{OlderThan: time.Nanosecond, KeepLast: 1}); err != nil || len(models) > 0 {
		t.Fatal(models, err)
	}
	if models, _, err := h.Prune(t.Context(), hub.PruneOptions{OlderThan: -time.Hour}); err == nil || len(models) > 0 { // every model is older
		t.Fatal(models, err)
	}
	freed, err := h.Remove(t.Context(), model)
	if err != nil || freed < m.Card.Weights.Size {
		t.Fatal(freed, err)
	}
	if _, err := os.Stat(m.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := h.Remove(t.Context(), model); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	sound(t, pull(t, h, ref))
}

func TestIncompleteDownloadIsListedKeptAndRemoved(t *testing.T) {
	w := newWorld(t, 3<<20)
	w.origin.Script(func(q sourcetest.Request) sourcetest.Fault {
		if q.N > 0 {
			return sourcetest.Fault{Status: http.StatusNotFound}
		}
		return sourcetest.Fault{}
	})
	h := w.open(t, func(c *hub.Config) { c.Parallel = 1 })
	if _, err := h.Pull(t.Context(), ref); err == nil {
		t.Fatal("a server that stopped serving gave a file")
	}
	list, err := h.Cache()
	if err != nil || len(list) != 1 || !list[0].Partial || list[0].Bytes < 4<<20 {
		t.Fatalf("%+v, %v", list, err)
	}
	if freed, err := h.Remove(t.Context(), list[0].Reference); err != nil || freed != list[0].Bytes {
		t.Fatal(freed, err)
	}
	if list, err := h.Cache(); err != nil || len(list) > 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// Another process's pull may take an hour, and holds what is to be removed.
func TestRemovalThatWaitsSaysSo(t *testing.T) {
	w := newWorld(t, 100)
	var warning string
	warned := func() {}
	h := w.open(t, func(c *hub.Config) { c.Warn = func(text string) { warning = text; warned() } })
	pull(t, h, ref)
	_, partial := h.Store().Partial("some-download")
	hold, held := h.Store().Hold(t.Context())
	release, locked := h.Store().Lock(t.Context(), "download-some-download", nil)
	if err := errors.Join(partial, held, locked); err != nil {
		t.Fatal(err)
	}
	defer hold()
	defer release()
	for what, want := range map[string]string{ref: "waiting for other processes", "some-download": "waiting for another process that is downloading some-download"} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		warning, warned = "", cancel
		if _, err := h.Remove(ctx, what); !errors.Is(err, context.Canceled) || !strings.HasPrefix(warning, want) {
			t.Errorf("%s: %q, %v", what, warning, err)
		}
	}
}

// left lists what a home's store has on disk, besides locks.
func left(t *testing.T, home string) (files []string) {
	t.Helper()
	for _, dir := range []string{"blobs/sha256", "partial", "tmp"} {
		list, err := os.ReadDir(filepath.Join(home, "store", dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			files = append(files, dir+"/"+e.Name())
		}
	}
	return files
}

func TestPruneRemovesWhatFailedImportsAndDownloadsLeft(t *testing.T) {
	public, private := keyPair(t)
	w := newWorld(t, 3<<20)
	h := w.open(t, nil)
	pull(t, h, ref)
	if _, err := h.Push(t.Context(), ref, t.TempDir(), hub.PushOptions{Key: &private}); err != nil { // signs it here too
		t.Fatal(err)
	}
	archive := exported(t, h, ref)
	whole := archive.Bytes()
	otherKey, _ := keyPair(t)
	cases := map[string]struct {
		key  minisign.PublicKey
		fail func(h *hub.Hub) error
	}{
		"an import that was cut": {public, func(h *hub.Hub) error {
			_, err := h.ImportArchive(t.Context(), bytes.NewReader(whole[:len(whole)-3000]))
			return err
		}},
		"an import that was refused": {otherKey, func(h *hub.Hub) error {
			_, err := h.ImportArchive(t.Context(), bytes.NewReader(whole))
			return err
		}},
		"a download that was cut": {public, func(h *hub.Hub) error {
			var requests atomic.Int64
			w.origin.Script(func(sourcetest.Request) sourcetest.Fault {
				if requests.Add(1) > 1 {
					return sourcetest.Fault{Status: http.StatusNotFound}
				}
				return sourcetest.Fault{}
			})
			_, err := h.Pull(t.Context(), ref)
			return err
		}},
	}
	for name, c := range cases {
		home := homeDir(t)
		there := func(age time.Duration) *hub.Hub {
			return w.open(t, func(h *hub.Config) {
				h.Home, h.Keys, h.Parallel, h.Now = home, []string{c.key.String()}, 1, func() time.Time { return time.Now().Add(age) }
			})
		}
		if err := c.fail(there(0)); err == nil {
			t.Fatalf("%s passes", name)
		}
		before := left(t, home)
		if _, freed, err := there(time.Hour).Prune(t.Context(), hub.PruneOptions{}); err != nil || freed > 0 || len(before) == 0 || !slices.Equal(left(t, home), before) {
			t.Errorf("%s left %v, of which %d bytes are not kept for another attempt: %v", name, before, freed, err)
		}
		_, soon, err := there(time.Hour).Prune(t.Context(), hub.PruneOptions{OlderThan: time.Minute, DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		_, freed, err := there(25*time.Hour).Prune(t.Context(), hub.PruneOptions{})
		if soon != freed {
			t.Errorf("%s: %d bytes could be freed within the hour, and %d a day later", name, soon, freed)
		}
		if after := left(t, home); err != nil || freed == 0 || len(after) > 0 {
			t.Errorf("%s: a day later %d bytes are freed and %v stay: %v", name, freed, after, err)
		}
		if list, err := there(25 * time.Hour).Cache(); err != nil || len(list) > 0 {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
	}
}

func TestProgressReachesTheEnd(t *testing.T) {
	w := newWorld(t, 50_000)
	pull(t, w.open(t, nil), ref)
	last := make(map[hub.Stage]hub.Progress)
	for _, p := range w.progress {
		if p.Done < last[p.Stage].Done && p.Stage == hub.StageDownload {
			t.Errorf("%+v after %+v", p, last[p.Stage])
		}
		last[p.Stage] = p
	}
	for _, s := range []hub.Stage{hub.StageDownload, hub.StageConvert} {
		if p := last[s]; p.Done != p.Total || p.Total <= 0 || p.Name != ref {
			t.Errorf("%s ends with %+v", s, p)
		}
	}
}
