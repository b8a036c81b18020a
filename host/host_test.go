package host

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/weights"
)

func TestEmbeddedFamilyAnswersFromAProcessOfItsOwn(t *testing.T) {
	h := newHost(t, nil)
	g, err := h.Build(t.Context(), Network{Model: "tiny", Classes: 7})
	if err != nil {
		t.Fatal(err)
	}
	want, err := testFamilies()[0].Models[0].Graph(graph.Shape{}, 7, nil)
	if err != nil {
		t.Fatal(err)
	}
	if g.NumParams() != want.NumParams() || g.MACs() != want.MACs() || g.Output.Shape.C != 7 || len(g.Nodes) != len(want.Nodes) {
		t.Errorf("the graph that arrived has %d parameters, %d MACs and %d nodes; want %d, %d and %d",
			g.NumParams(), g.MACs(), len(g.Nodes), want.NumParams(), want.MACs(), len(want.Nodes))
	}
	s := open(t, h, nil)
	if s.proc.child.pid() == os.Getpid() {
		t.Error("the family runs in the host")
	}
	info := s.Info()
	if info.Classes != 4 || info.Device != "cpu" || info.Input != (graph.Shape{C: 3, H: 8, W: 8}) || info.Plugin.String() != "tiny 1.0.0" {
		t.Errorf("session %+v", info)
	}
}

func TestSharedMemoryAndMessagesGiveTheSameLogits(t *testing.T) {
	h := newHost(t, nil)
	spec := tinySpec(nil)
	spec.Outputs = []string{"logits", "stage1", "embedding"}
	s, err := h.Open(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in := images(5, 0.25)
	shared, err := s.Infer(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	pr, id, err := s.enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer pr.release()
	streamed, err := s.inferStream(t.Context(), pr, id, in)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range shared {
		if !slices.Equal(o.Data, streamed[i].Data) || o.Shape != streamed[i].Shape || o.Name != spec.Outputs[i] {
			t.Errorf("output %d: %s %v and %s %v differ", i, o.Name, o.Shape, streamed[i].Name, streamed[i].Shape)
		}
	}
	if got := shared[1].Shape; got != (graph.Shape{C: 8, H: 8, W: 8}) {
		t.Errorf("stage1 has shape %v", got)
	}
}

func TestTensorInSharedMemoryIsNotCopied(t *testing.T) {
	h := newHost(t, nil)
	s := open(t, h, nil)
	want, err := s.Infer(t.Context(), images(3, 0.5))
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.NewTensor(t.Context(), 3, graph.Shape{C: 3, H: 8, W: 8})
	if err != nil {
		t.Fatal(err)
	}
	copy(in.Data, images(3, 0.5).Data)
	got, err := s.Infer(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got[0].Data, want[0].Data) {
		t.Errorf("logits %v, want %v", got[0].Data, want[0].Data)
	}
	if err := in.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestImagesOfOtherSizes(t *testing.T) {
	h := newHost(t, nil)
	s := open(t, h, nil)
	in := &Tensor{N: 2, Shape: graph.Shape{C: 3, H: 13, W: 9}, Data: make([]float32, 2*3*13*9)}
	out, err := s.Infer(t.Context(), in)
	if err != nil || len(out[0].Data) != 8 {
		t.Fatalf("%v, %v", out, err)
	}
	in = &Tensor{N: 1, Shape: graph.Shape{C: 3, H: 2, W: 2}, Data: make([]float32, 12)}
	_, err = s.Infer(t.Context(), in)
	oneLine(t, err, "at least 4×4")
	in.Data = in.Data[:5]
	_, err = s.Infer(t.Context(), in)
	oneLine(t, err, "5")
}

func TestMistakesOfTheUserReadAsTheFamilyPutsThem(t *testing.T) {
	h := newHost(t, nil)
	spec := tinySpec(map[string]string{"depth": "3"})
	_, err := h.Open(t.Context(), spec)
	oneLine(t, err, `tiny has no option "depth"`)
	spec = tinySpec(nil)
	spec.Outputs = []string{"stage9"}
	_, err = h.Open(t.Context(), spec)
	oneLine(t, err, `no output "stage9"`, "stage1")
	spec = tinySpec(nil)
	spec.Weights.Path = filepath.Join(t.TempDir(), "none.safetensors")
	_, err = h.Open(t.Context(), spec)
	oneLine(t, err, "none.safetensors")
	spec = tinySpec(nil)
	spec.Device = "abacus"
	_, err = h.Open(t.Context(), spec)
	oneLine(t, err, "abacus")
	_, _, err = h.Model(t.Context(), "resnet9000")
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v", err)
	}
	oneLine(t, err, "resnet9000")
	_, err = h.Describe(t.Context(), "../../bin/sh")
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

func TestMissingPluginIsNamedWithWhatToDo(t *testing.T) {
	h := newHost(t, nil)
	_, err := h.Open(t.Context(), Spec{Network: Network{Family: "resnet", Model: "resnet50"}})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v is no ErrNotFound", err)
	}
	oneLine(t, err, "resnet", "zoo plugin install resnet")
}

func TestSeparateBinaryTakesPrecedenceOverEmbedded(t *testing.T) {
	h := newHost(t, withPlugins(t, "tiny"))
	p, err := h.Describe(t.Context(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	if p.Embedded || p.Version != "2.0.0" {
		t.Errorf("plugin %+v", p)
	}
	list, err := h.Plugins(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || !list[0].Used || list[0].Embedded || list[1].Used || !list[1].Embedded {
		t.Fatalf("plugins %+v", list)
	}
	if !reflect.DeepEqual(list[0].Models, list[1].Models) || list[0].Description != list[1].Description || list[0].License != list[1].License {
		t.Errorf("the binary tells %+v, the family linked in %+v", list[0], list[1])
	}
	_, err = h.Open(t.Context(), Spec{Network: Network{Family: "tiny", Model: "newer"}})
	oneLine(t, err, `family tiny has no model "newer"`, "tiny 2.0.0", p.Path, "zoo plugin list")
}

func TestVersionsSideBySideAreChosenByTheLock(t *testing.T) {
	dirs := withPlugins(t, "tiny/1.1.0", "tiny/1.5.0", "tiny/1.10.0", "tiny/not-a-version")
	for want, lock := range map[string]string{"1.10.0": "", "1.5.0": "1.5.0", "1.0.0": "1.0.0"} {
		h := newHost(t, func(o *Options) {
			dirs(o)
			if lock != "" {
				o.Versions = map[string]string{"tiny": lock}
			}
		})
		p, err := h.Describe(t.Context(), "tiny")
		if err != nil {
			t.Fatal(err)
		}
		if p.Version != want {
			t.Errorf("lock %q chose %s, want %s", lock, p.Version, want)
		}
	}
	h := newHost(t, func(o *Options) { dirs(o); o.Versions = map[string]string{"tiny": "7.0.0"} })
	_, err := h.Describe(t.Context(), "tiny")
	oneLine(t, err, "tiny 7.0.0", "lock")
}

func TestListingDoesNotStartWhatItKnows(t *testing.T) {
	cache := t.TempDir()
	dirs := withPlugins(t, "tiny")
	change := func(o *Options) { dirs(o); o.CacheDir = cache }
	first, err := newHost(t, change).Plugins(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, change)
	second, err := h.Plugins(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(h.pools) != 0 {
		t.Errorf("listing started %d plugins", len(h.pools))
	}
	if len(second) != 2 || second[0].Version != first[0].Version || len(second[0].Models) != 1 || second[0].Protocol != 2 {
		t.Errorf("listed %+v, at first %+v", second, first)
	}
	entries, err := os.ReadDir(cache)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v %v", entries, err)
	}
	// A damaged entry is as good as none.
	for _, damaged := range []string{"\x02garbage", ""} {
		if err := os.WriteFile(filepath.Join(cache, entries[0].Name()), []byte(damaged), 0o644); err != nil {
			t.Fatal(err)
		}
		third, err := newHost(t, change).Plugins(t.Context())
		if err != nil || third[0].Version != first[0].Version {
			t.Errorf("%q: %+v, %v", damaged, third, err)
		}
	}
}

func TestConcurrentCallersShareOneProcess(t *testing.T) {
	h := newHost(t, nil)
	var wait sync.WaitGroup
	pids := make([]int, 8)
	for i := range pids {
		wait.Go(func() {
			s, err := h.Open(t.Context(), tinySpec(nil))
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if _, err := s.Infer(t.Context(), images(2, float32(i))); err != nil {
				t.Error(err)
			}
			pids[i] = s.proc.child.pid()
		})
	}
	wait.Wait()
	for _, pid := range pids {
		if pid != pids[0] {
			t.Errorf("processes %v", pids)
		}
	}
}

func TestIdleProcessEndsAndTheSessionGoesOn(t *testing.T) {
	h := newHost(t, func(o *Options) { o.IdleAfter = 50 * time.Millisecond })
	s := open(t, h, nil)
	in := images(2, 0)
	want, err := s.Infer(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	first := s.proc
	select {
	case <-first.child.exited:
	case <-time.After(5 * time.Second):
		t.Fatal("the idle process still runs")
	}
	if !first.child.state.Success() {
		t.Errorf("the idle process ended with %v", first.child.state)
	}
	got, err := s.Infer(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if s.proc == first || !slices.Equal(got[0].Data, want[0].Data) {
		t.Errorf("logits %v, want %v", got[0].Data, want[0].Data)
	}
}

func TestCancelledCallReturnsAtOnceAndThePluginLives(t *testing.T) {
	h := newHost(t, nil)
	s := open(t, h, map[string]string{"fault": "slow"})
	pid := s.proc.child.pid()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := s.Infer(ctx, images(1, 0))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if d := time.Since(begin); d > 200*time.Millisecond {
		t.Errorf("returned after %v", d)
	}
	if _, err := s.Infer(t.Context(), images(1, 0)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(lag + 200*time.Millisecond)
	if _, err := s.Infer(t.Context(), images(1, 0)); err != nil {
		t.Fatal(err)
	}
	if s.proc.child.pid() != pid {
		t.Error("the cancellation cost the process")
	}
}

func TestClosedHostAnswersNothingMore(t *testing.T) {
	h := newHost(t, nil)
	s := open(t, h, map[string]string{"fault": "slow"})
	failed := make(chan error, 1)
	go func() {
		_, err := s.Infer(t.Context(), images(1, 0))
		failed <- err
	}()
	time.Sleep(50 * time.Millisecond)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		oneLine(t, err)
	case <-time.After(5 * time.Second):
		t.Fatal("the call hangs")
	}
	_, err := h.Open(t.Context(), tinySpec(nil))
	if !errors.Is(err, ErrClosed) {
		t.Errorf("error %v", err)
	}
	for range 2 { // the first must not hold up the next
		if _, err := s.Infer(within5s(t), images(1, 0)); !errors.Is(err, ErrClosed) {
			t.Errorf("error %v", err)
		}
	}
}

func TestRecordedDigestBindsTheBinary(t *testing.T) {
	dirs := withPlugins(t, "tiny")
	opened := func(digest string) error {
		h := newHost(t, func(o *Options) {
			dirs(o)
			o.Digest = func(Plugin) string { return digest }
		})
		_, err := h.Open(t.Context(), tinySpec(nil))
		return err
	}
	err := opened(strings.Repeat("ab", 32))
	if !errors.Is(err, ErrDigest) {
		t.Errorf("error %v", err)
	}
	oneLine(t, err, "tiny", "SHA-256", "zoo plugin remove tiny")
	oneLine(t, opened("sha"), "tiny", "not hexadecimal")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	for _, digest := range []string{fmt.Sprintf("%x", sha256.Sum256(program)), ""} {
		if err := opened(digest); err != nil {
			t.Errorf("digest %q: %v", digest, err)
		}
	}
}

func TestForbiddenPluginIsNotStarted(t *testing.T) {
	h := newHost(t, func(o *Options) {
		o.Allow = func(p Plugin) error { return errors.New("not in the registry") }
	})
	_, err := h.Open(t.Context(), tinySpec(nil))
	if !errors.Is(err, ErrRefused) {
		t.Errorf("error %v", err)
	}
	oneLine(t, err, "tiny 1.0.0", "not in the registry")
}

func TestProfileCoversTheNetwork(t *testing.T) {
	h := newHost(t, nil)
	s := open(t, h, nil)
	rows, err := s.Profile(t.Context(), 2, graph.Shape{C: 3, H: 8, W: 8})
	if err != nil || len(rows) == 0 {
		t.Fatalf("%v, %v", rows, err)
	}
	var macs int64
	var took time.Duration
	for _, r := range rows {
		if r.Name == "" || r.Op == "" || r.Kernel == "" {
			t.Errorf("row %+v", r)
		}
		macs, took = macs+r.MACs, took+r.Duration
	}
	if macs == 0 || took <= 0 || took > time.Minute {
		t.Errorf("%d MACs in %v", macs, took)
	}
}

func TestSessionUsedAfterClose(t *testing.T) {
	h := newHost(t, nil)
	s := open(t, h, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first must not hold up the next
		if _, err := s.Infer(within5s(t), images(1, 0)); !errors.Is(err, ErrClosed) {
			t.Errorf("error %v", err)
		}
	}
}

// TestWeightsThatWereChangedAreOpened wants the digest that the caller has, and its leave for a new classifier, to reach the plugin.
func TestWeightsThatWereChangedAreOpened(t *testing.T) {
	path := weightsFile(t, 3)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, nil)
	spec := tinySpec(nil)
	spec.Weights = Weights{Path: path, SHA256: strings.Repeat("ab", 32), NewClassifier: true}
	_, err = h.Open(t.Context(), spec)
	oneLine(t, err, filepath.Base(path), "SHA-256", "pull it again")
	spec.Weights.SHA256 = fmt.Sprintf("%x", sha256.Sum256(data))
	s, err := h.Open(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if w := s.Info().Warnings; len(w) != 1 || !strings.Contains(w[0], "fc.weight") {
		t.Errorf("warnings %q", w)
	}
	spec.Weights.NewClassifier = false
	if _, err := h.Open(t.Context(), spec); !errors.Is(err, weights.ErrMismatch) {
		t.Errorf("error %v", err)
	}
}

func TestBinaryThatIsNamedServesItsFamilyAlone(t *testing.T) {
	var o Options
	withPlugins(t, "tiny")(&o)
	h := newHost(t, func(given *Options) {
		given.Binaries = []string{filepath.Join(o.Dirs[0], binaryName("none")), filepath.Join(o.Dirs[0], binaryName("tiny"))}
	})
	if p, err := h.Describe(t.Context(), "tiny"); err != nil || p.Version != "2.0.0" {
		t.Errorf("%v serves, %v", p, err)
	}
	for _, other := range []string{"none", "resnet"} {
		if _, err := h.Describe(t.Context(), other); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: error %v", other, err)
		}
	}
}

func TestModelOfAPluginThatCannotBeUsedSaysWhy(t *testing.T) {
	notExecutable, noProgram := t.TempDir(), t.TempDir()
	for path, mode := range map[string]os.FileMode{filepath.Join(notExecutable, binaryName("other")): 0o644, filepath.Join(noProgram, binaryName("other")): 0o755} {
		if err := os.WriteFile(path, []byte("nothing that runs"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for want, change := range map[string]func(*Options){
		"may not be executed": func(o *Options) { o.Dirs = []string{notExecutable} },
		"is no program for":   func(o *Options) { o.Dirs = []string{noProgram} },
		"tiny 7.0.0, which":   func(o *Options) { o.Versions = map[string]string{"tiny": "7.0.0"} },
		"and 1 more": func(o *Options) {
			o.Dirs, o.Versions = []string{noProgram}, map[string]string{"tiny": "7.0.0"}
		},
	} {
		if want == "may not be executed" && runtime.GOOS == "windows" {
			continue // no file says there that it may
		}
		_, _, err := newHost(t, change).Model(t.Context(), "net")
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("error %v", err)
		}
		oneLine(t, err, `no plugin has a model "net"`, "cannot be used", want)
		if want == "may not be executed" {
			_, err := newHost(t, change).Describe(t.Context(), "other") // not that it is to be installed
			oneLine(t, err, want)
		}
	}
	if runtime.GOOS == "windows" {
		return
	}
	// A family that another plugin serves hides nothing.
	if err := os.Rename(filepath.Join(notExecutable, binaryName("other")), filepath.Join(notExecutable, binaryName("tiny"))); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, func(o *Options) { o.Dirs = []string{notExecutable} })
	if _, _, err := h.Model(t.Context(), "net"); err == nil || strings.Contains(err.Error(), "cannot be used") {
		t.Errorf("error %v", err)
	}
	if p, _, err := h.Model(t.Context(), "tiny"); err != nil || !p.Embedded {
		t.Errorf("%v serves, %v", p, err)
	}
}

func TestClosingWaitsForALongInference(t *testing.T) {
	h := newHost(t, nil)
	s := open(t, h, map[string]string{"fault": "slow"})
	pr := s.proc
	h.opt.StartTimeout = 50 * time.Millisecond // less than the inference takes
	inferred := make(chan error, 1)
	go func() {
		_, err := s.Infer(t.Context(), images(1, 0))
		inferred <- err
	}()
	for pr.memory != nil && h.calls.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond) // it is on its way
	if err := s.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
	if err := <-inferred; err != nil {
		t.Errorf("the inference: %v", err)
	}
	if !pr.alive() {
		t.Error("closing a session cost the others their process")
	}
}
