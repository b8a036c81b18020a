package hub_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
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

	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/source/sourcetest"
)

// crossing is the address of a registry where the first to set a tag is overtaken by the second: both have read it before either wrote.
func crossing(t *testing.T, tag string) string {
	t.Helper()
	var writers atomic.Int32
	second := make(chan struct{})
	return writable(t, &sourcetest.Writable{Before: func(req *http.Request) {
		if req.Method != http.MethodPut || !strings.HasSuffix(req.URL.Path, "/manifests/"+tag) {
			return
		}
		switch writers.Add(1) {
		case 1:
			select {
			case <-second:
				time.Sleep(50 * time.Millisecond) // until that one is written
			case <-time.After(10 * time.Second):
				t.Error("nobody else writes the tag")
			}
		case 2:
			close(second)
		}
	}})
}

// all runs everything at once.
func all(run ...func()) {
	var wait sync.WaitGroup
	for _, f := range run {
		wait.Go(f)
	}
	wait.Wait()
}

// platformsOf are the platforms of a version, as a client finds them.
func (w *world) platformsOf(t *testing.T, spec string) []string {
	t.Helper()
	_, pin := w.fromRegistry(t, spec)
	return slices.Sorted(maps.Keys(pin.Platforms))
}

func TestTwoPushesOfOneVersionAtOnceLoseNoPlatform(t *testing.T) {
	w := newWorld(t, 100)
	to := crossing(t, "0.1.0")
	push := func(on string) func() {
		h := w.open(t, elsewhere(t))
		args := scripts(t, map[string]string{here: "a", on: on})
		return func() {
			p, err := h.PushPlugin(t.Context(), args, to, describedAs("mine", "0.1.0"), hub.PluginPushOptions{})
			if err != nil || p.Skipped {
				t.Errorf("%s: %+v, %v", on, p, err)
			}
		}
	}
	all(push("plan9/mips"), push("js/wasm"))
	want := []string{here, "js/wasm", "plan9/mips"}
	slices.Sort(want)
	if got := w.platformsOf(t, to+"/plugins/mine:0.1.0"); !slices.Equal(got, want) {
		t.Errorf("%v instead of %v", got, want)
	}
}

// A matrix of builds pushes all its platforms at the same moment.
func TestManyPushesOfOneVersionAtOnceLoseNoPlatform(t *testing.T) {
	for name, target := range map[string]func(t *testing.T) string{
		"registry": func(t *testing.T) string { return "oci://" + sourcetest.Docker(t, "", "") + "/team" },
		"folder":   func(t *testing.T) string { return t.TempDir() },
	} {
		t.Run(name, func(t *testing.T) {
			w, to := newWorld(t, 100), target(t)
			want := map[string]string{here: "a"}
			var pushes []func()
			for i := range 6 {
				on := fmt.Sprintf("os%d/arch", i)
				want[on] = on
				h := w.open(t, elsewhere(t))
				args := scripts(t, map[string]string{here: "a", on: on})
				pushes = append(pushes, func() {
					if _, err := h.PushPlugin(t.Context(), args, to, describedAs("mine", "0.1.0"), hub.PluginPushOptions{}); err != nil {
						t.Error(err)
					}
				})
			}
			all(pushes...)
			last, err := w.open(t, nil).PushPlugin(t.Context(), scripts(t, want), to, describedAs("mine", "0.1.0"), hub.PluginPushOptions{})
			if err != nil || !last.Skipped {
				t.Errorf("some are not there: %+v, %v", last, err)
			}
		})
	}
}

// Of two pushes of the same bytes at once docker-registry refuses one's manifest now and then.
func TestRegistryThatDoesNotSeeABlobYetIsAskedAgain(t *testing.T) {
	w := newWorld(t, 100)
	registry := &sourcetest.Writable{}
	var puts atomic.Int32
	web := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && puts.Add(1) == 1 {
			rw.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(rw, `{"errors":[{"code":"DIGEST_INVALID"},{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}`)
			return
		}
		registry.ServeHTTP(rw, r)
	}))
	defer web.Close()
	to := "oci://" + strings.TrimPrefix(web.URL, "http://") + "/team"
	if _, err := w.open(t, nil).PushPlugin(t.Context(), scripts(t, map[string]string{here: "a"}), to, describedAs("mine", "0.1.0"), hub.PluginPushOptions{}); err != nil {
		t.Error(err)
	}
}

// A registry that never shows what was tagged stands for others that always replace it.
func TestPushThatNeverSettlesIsNotSaidToBeDone(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds to give up")
	}
	w := newWorld(t, 100)
	registry := &sourcetest.Writable{}
	web := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/0.1.0") {
			http.NotFound(rw, r)
			return
		}
		registry.ServeHTTP(rw, r)
	}))
	defer web.Close()
	to := "oci://" + strings.TrimPrefix(web.URL, "http://") + "/team"
	push := func(ctx context.Context) error {
		_, err := w.open(t, nil).PushPlugin(ctx, scripts(t, map[string]string{here: "a"}), to, describedAs("mine", "0.1.0"), hub.PluginPushOptions{})
		return err
	}
	if err := push(t.Context()); err == nil || !strings.Contains(err.Error(), "does not keep what is pushed") {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := push(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestTwoSyncsAtOnceListTheModelsOfBoth(t *testing.T) {
	w := newWorld(t, 5000)
	again := w.index.Models[0].Weights[0]
	again.Tag, again.Default = "V2", false
	w.index.Models[0].Weights = append(w.index.Models[0].Weights, again)
	w.config.Index = encodeIndex(t, w.index)
	to := crossing(t, "latest")
	public, private := keyPair(t)
	sync := func(ref string) func() {
		h := w.open(t, elsewhere(t, hub.SourceUpstream))
		return func() {
			if _, err := h.Mirror(t.Context(), []string{ref}, to, hub.MirrorOptions{Key: &private}); err != nil {
				t.Error(err)
			}
		}
	}
	all(sync(ref), sync(model+":V2"))
	change := elsewhere(t, to)
	client := w.open(t, trusting(public, change))
	x, err := client.Index(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{tag, "V2"} {
		if x.ByName(model).ByTag(tag).Artifact == nil {
			t.Errorf("the index does not list %s", tag)
		}
	}
}

// byHand pushes binaries to a mirror.
func (w *world) byHand(t *testing.T, to string, texts map[string]string) {
	t.Helper()
	if _, err := w.open(t, elsewhere(t)).PushPlugin(t.Context(), scripts(t, texts), to, describedAs("mlp", "1.0.0"), hub.PluginPushOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestMirrorKeepsPlatformsThatTheIndexDoesNotList(t *testing.T) {
	w := newWorld(t, 100)
	w.withPlugins(t, "1.0.0")
	to := writable(t, &sourcetest.Writable{})
	w.byHand(t, to, map[string]string{here: "1.0.0-" + strings.ReplaceAll(here, "/", "-"), "js/wasm": "c"})
	h := w.open(t, nil)
	for round := range 2 {
		done, err := h.Mirror(t.Context(), []string{ref}, to, hub.MirrorOptions{Plugins: true})
		if err != nil || done[1].Skipped != (round > 0) {
			t.Fatal(done, err)
		}
	}
	want := []string{here, "js/wasm", "plan9/mips"}
	slices.Sort(want)
	if got := w.platformsOf(t, to+"/plugins/mlp:1.0.0"); !slices.Equal(got, want) {
		t.Errorf("%v instead of %v", got, want)
	}
	if !w.warned(to + "/plugins/mlp:1.0.0 keeps its binaries for js/wasm") {
		t.Errorf("%q", w.warnings)
	}
}

func TestMirrorReplacesNoOtherBytesOfAVersion(t *testing.T) {
	w := newWorld(t, 100)
	w.withPlugins(t, "1.0.0")
	to := writable(t, &sourcetest.Writable{})
	w.byHand(t, to, map[string]string{here: "other"})
	done, err := w.open(t, nil).Mirror(t.Context(), []string{ref}, to, hub.MirrorOptions{Plugins: true})
	if !errors.Is(err, hub.ErrPublished) || len(done) != 1 || strings.Contains(err.Error(), "\n") {
		t.Error(done, err)
	}
	p, _ := w.fromRegistry(t, to+"/plugins/mlp:1.0.0")
	binaryIs(t, p, "other")
}

func TestMirrorOfPluginsThatAreNotListedSaysSo(t *testing.T) {
	w := newWorld(t, 100)
	if _, err := w.open(t, nil).Mirror(t.Context(), []string{ref}, t.TempDir(), hub.MirrorOptions{Plugins: true}); err != nil {
		t.Fatal(err)
	}
	if !w.warned("no plugin binaries are copied of mlp") {
		t.Errorf("%q", w.warnings)
	}
}

// Binaries that one home pushed are signed from another, which has none of it in its store.
func TestPluginInAFolderSignedFromAnotherHome(t *testing.T) {
	w := newWorld(t, 100)
	dir := t.TempDir()
	_, private := keyPair(t)
	args := scripts(t, map[string]string{here: "a"})
	for _, o := range []hub.PluginPushOptions{{}, {Key: &private}} {
		if _, err := w.open(t, elsewhere(t)).PushPlugin(t.Context(), args, dir, describedAs("mine", "0.1.0"), o); err != nil {
			t.Error(err)
		}
	}
}

// The lock could not be written: the plugin was gone by then, and the pin of it kept every other from running.
func TestRemovalThatCannotUnpinRemovesNothing(t *testing.T) {
	w := newWorld(t, 100)
	w.withPlugins(t, "1.0.0")
	h := w.open(t, nil)
	install(t, h, "mlp")
	guard := flock.New(filepath.Join(w.config.Home, "."+lock.Name+".guard"))
	if err := guard.Lock(); err != nil {
		t.Fatal(err)
	}
	defer guard.Close() // that ends it
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if removed, _, err := h.RemovePlugin(ctx, "mlp", ""); !errors.Is(err, context.DeadlineExceeded) || len(removed) > 0 {
		t.Error(removed, err)
	}
	if _, err := h.Plugins().Find("mlp", ""); err != nil {
		t.Error(err)
	}
}

// tiny imports a model called mine with weights of its own.
func (w *world) tiny(t *testing.T, h *hub.Hub, n int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mine.safetensors")
	if err := os.WriteFile(path, checkpoint(t, n, registry.FormatSafetensors), 0o644); err != nil {
		t.Fatal(err)
	}
	c := &card.Card{Name: "mine", Family: "mlp", Model: "tiny", Input: [3]int{1, 8, 8}, Classes: 2, Preprocess: registry.Preprocess{Mean: []float64{0}, Std: []float64{1}}}
	if _, err := h.Import(t.Context(), path, c, hub.ImportOptions{Overwrite: true}); err != nil {
		t.Fatal(err)
	}
}

func TestPushThatMovesATagSaysSo(t *testing.T) {
	for _, to := range []string{writable(t, &sourcetest.Writable{}), t.TempDir()} {
		h := newWorld(t, 100).open(t, nil)
		var before digest.Digest
		for i, step := range []struct {
			n             int
			copied, moved bool
		}{{100, true, false}, {104, true, true}, {100, false, true}, {100, false, false}} {
			newWorld(t, 100).tiny(t, h, step.n)
			p, err := h.Push(t.Context(), "mine", to, hub.PushOptions{Tag: "v1"})
			if err != nil {
				t.Fatal(err)
			}
			replaced := digest.Digest("")
			if step.moved {
				replaced = before
			}
			if p.Bytes > 0 != step.copied || p.Replaced != replaced || p.Skipped != (!step.copied && !step.moved) {
				t.Errorf("push %d to %s: %+v, before it was %s", i, to, p, before)
			}
			before = p.Manifest.Digest
		}
	}
}

// A share that is not mounted took the models with it that had been pulled from there.
func TestStoreServesWhatCameFromAFolderThatIsGone(t *testing.T) {
	w := newWorld(t, 5000)
	public, private := keyPair(t)
	dir := w.mirrorOf(t, &private)
	change := trusting(public, elsewhere(t, dir))
	client := func() *hub.Hub { return w.open(t, change) }
	pull(t, client(), ref)
	if err := os.Rename(dir, dir+"-gone"); err != nil {
		t.Fatal(err)
	}
	h := client()
	if _, err := h.Local(t.Context(), ref); err != nil {
		t.Error(err)
	}
	if m := pull(t, h, ref); m.Source != hub.SourceStore || !w.warned("the index of "+dir+" was not read") {
		t.Errorf("%+v, %q", m, w.warnings)
	}
	if findings, err := h.Verify(t.Context(), false); err != nil || len(findings) > 0 {
		t.Error(findings, err)
	}
	if _, err := h.Pull(t.Context(), "other"); !errors.Is(err, source.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "oci://HOST/PATH") {
		t.Error(err)
	}
	elsewhere := elsewhere(t, dir, hub.SourceUpstream)
	if m := pull(t, w.open(t, elsewhere), ref); m.Source != hub.SourceUpstream || !w.warned(ref+" could not be had from "+dir) {
		t.Errorf("%+v, %q", m, w.warnings)
	}
}
