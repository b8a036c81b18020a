//go:build unix

package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"github.com/go-modelzoo/zoo/graph"
)

func inferFault(t *testing.T, h *Host, name, path string) error {
	t.Helper()
	s := open(t, h, map[string]string{"fault": name, "path": path})
	_, err := s.Infer(within5s(t), images(2, 0))
	return err
}

func TestPanicInACallIsAnErrorAndThePluginLives(t *testing.T) {
	h := newHost(t, nil)
	s := open(t, h, map[string]string{"fault": "panic"})
	pid := s.proc.child.pid()
	_, err := s.Infer(t.Context(), images(2, 0))
	if !errors.Is(err, ErrFailed) {
		t.Errorf("error %v", err)
	}
	oneLine(t, err, "tiny 1.0.0", "classifying with tiny", "index out of range")
	if s.proc == nil || !s.proc.alive() || s.proc.child.pid() != pid {
		t.Error("the panic cost the process")
	}
	_, err = h.Build(t.Context(), Network{Family: "tiny", Model: "tiny", Options: map[string]string{"fault": "build panic"}})
	oneLine(t, err, "tiny 1.0.0", "upside down")
}

func TestCrashIsOneLineWithTheFamilyAndTheLog(t *testing.T) {
	h := newHost(t, nil)
	for name, want := range map[string]string{"exit": "giving up", "goroutine panic": "out of cheese"} {
		t.Run(name, func(t *testing.T) {
			err := inferFault(t, h, name, "")
			if !errors.Is(err, ErrCrashed) {
				t.Errorf("error %v", err)
			}
			oneLine(t, err, "tiny 1.0.0", "crashed while classifying with tiny", want)
		})
	}
}

func TestKilledTwiceIsGivenUp(t *testing.T) {
	parts := []string{"tiny 1.0.0", "signal: killed"}
	h := newHost(t, func(o *Options) {
		if !raceEnabled { // which runs out of memory in its own way
			o.Memory = 4e9
			parts = append(parts, "it may use 4 GB", "--plugin-memory")
		}
	})
	s := open(t, h, map[string]string{"fault": "slow"})
	stop := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		killed := map[int]bool{}
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			s.pool.mu.Lock()
			for _, pr := range s.pool.list {
				select {
				case <-pr.ready:
				default:
					continue
				}
				if pr.child == nil || killed[pr.child.pid()] {
					continue
				}
				killed[pr.child.pid()] = true
				if err := syscall.Kill(pr.child.pid(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
					t.Error(err)
				}
			}
			s.pool.mu.Unlock()
		}
	})
	_, err := s.Infer(within5s(t), images(1, 0))
	close(stop)
	killer.Wait()
	if !errors.Is(err, ErrCrashed) && !errors.Is(err, ErrStart) {
		t.Errorf("error %v", err)
	}
	oneLine(t, err, parts...)
}

func TestKilledDuringInferenceIsComputedAgain(t *testing.T) {
	h := newHost(t, nil)
	want := func() []float32 {
		out, err := open(t, h, map[string]string{"fault": "slow"}).Infer(t.Context(), images(2, 0.5))
		if err != nil {
			t.Fatal(err)
		}
		return out[0].Data
	}()
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGTERM} {
		s := open(t, h, map[string]string{"fault": "slow"})
		pid := s.proc.child.pid()
		time.AfterFunc(100*time.Millisecond, func() {
			if err := syscall.Kill(pid, sig); err != nil {
				t.Error(err)
			}
		})
		out, err := s.Infer(within5s(t), images(2, 0.5))
		if err != nil {
			t.Fatalf("%v: %v", sig, err)
		}
		if !slices.Equal(out[0].Data, want) {
			t.Errorf("%v: logits %v, want %v", sig, out[0].Data, want)
		}
		if s.proc.child.pid() == pid {
			t.Errorf("%v: the process was not killed", sig)
		}
	}
}

// halt stops a process, all threads of it: on a busy machine that takes a moment.
func halt(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Error(err)
	}
	running := func(path string) bool {
		stat, err := os.ReadFile(path)
		return err == nil && !bytes.Contains(stat, []byte(") T ")) // else it has just ended
	}
	for {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			t.Error(err)
		}
		if len(threads) == 0 { // no such file system
			time.Sleep(100 * time.Millisecond)
		}
		if !slices.ContainsFunc(threads, running) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestStoppedPluginIsEndedAtItsDeadline(t *testing.T) {
	h := newHost(t, func(o *Options) { o.CallTimeout = 500 * time.Millisecond })
	s := open(t, h, nil)
	child := s.proc.child
	halt(t, child.pid())
	begin := time.Now()
	_, err := s.Infer(within5s(t), images(1, 0))
	if d := time.Since(begin); d > 1500*time.Millisecond {
		t.Errorf("ended after %v", d)
	}
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("error %v", err)
	}
	oneLine(t, err, "tiny 1.0.0", "did not answer within 500ms", "classifying with tiny")
	select {
	case <-child.exited:
	case <-time.After(time.Second):
		t.Error("the stopped process is still there")
	}
	if _, err := s.Infer(within5s(t), images(1, 0)); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

// TestStoppedPluginHoldsUpCallersWhoGiveUp has callers give up on a plugin that cannot even be told so.
func TestStoppedPluginHoldsUpCallersWhoGiveUp(t *testing.T) {
	h := newHost(t, func(o *Options) { o.StartTimeout = 3 * time.Second })
	s := open(t, h, nil)
	child := s.proc.child
	halt(t, child.pid())
	for range 3 { // the later ones through a line, or beside it
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		begin := time.Now()
		_, err := s.Infer(ctx, images(1, 0))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if d := time.Since(begin); d > 500*time.Millisecond {
			t.Errorf("returned after %v", d)
		}
	}
	select { // or the memory of every call that is given up is held until that call's own deadline
	case <-child.exited:
	case <-time.After(6 * time.Second):
		t.Fatal("a plugin that does not answer runs on when nobody waits")
	}
	if _, err := s.Infer(within5s(t), images(1, 0)); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func TestHangingCallIsEndedAtItsDeadline(t *testing.T) {
	h := newHost(t, func(o *Options) { o.CallTimeout = 500 * time.Millisecond })
	s := open(t, h, map[string]string{"fault": "hang"})
	begin := time.Now()
	_, err := s.Infer(within5s(t), images(1, 0))
	if d := time.Since(begin); d > 1500*time.Millisecond {
		t.Errorf("ended after %v", d)
	}
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("error %v", err)
	}
	oneLine(t, err, "tiny 1.0.0", "did not answer")
}

// The process lived on after a panic, and what a later call failed of was told with the panic's line.
func TestLogOfAnEarlierCallIsNotThisCalls(t *testing.T) {
	h := newHost(t, func(o *Options) { o.CallTimeout = 500 * time.Millisecond })
	for name, want := range map[string][]string{"hang": nil, "mutter": {"waiting for the disk"}} {
		later := open(t, h, map[string]string{"fault": name})
		if err := inferFault(t, h, "panic", ""); !errors.Is(err, ErrFailed) {
			t.Fatal(err)
		}
		for pr := later.proc; !slices.ContainsFunc(pr.ring.last(), func(l string) bool { return strings.Contains(l, "index out of range") }); {
			time.Sleep(time.Millisecond) // the log comes another way than the answer
		}
		_, err := later.Infer(within5s(t), images(1, 0))
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, ErrTimeout) || !slices.Equal(e.LastLog, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStoppedPluginDoesNotHoldUpClose(t *testing.T) {
	h := newHost(t, nil)
	s := open(t, h, nil)
	halt(t, s.proc.child.pid())
	begin := time.Now()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d > gentle+2*time.Second {
		t.Errorf("closing took %v", d)
	}
}

func TestMemoryCeilingIsNamedWithASmallerBatch(t *testing.T) {
	if runtime.GOOS != "linux" || raceEnabled {
		t.Skip("the ceiling binds on Linux, and the race detector runs out of memory in its own way")
	}
	h := newHost(t, func(o *Options) { o.Memory = 512e6 })
	s := open(t, h, map[string]string{"fault": "memory"})
	_, err := s.Infer(t.Context(), images(64, 0))
	if !errors.Is(err, ErrMemory) {
		t.Errorf("error %v", err)
	}
	oneLine(t, err)
	if want := "tiny 1.0.0 needed more than 512 MB for batch 64; try --batch 16"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

func TestEndUnderAMemoryLimitNamesTheLimit(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector runs out of memory in its own way")
	}
	starting := withPlugins(t, "quitter")
	h := newHost(t, func(o *Options) { starting(o); o.Memory = 4e9 })
	_, err := h.Open(t.Context(), Spec{Network: Network{Family: "quitter", Model: "m"}})
	oneLine(t, err, "exit status 127", "it may use 4 GB", "--plugin-memory")
	if err := inferFault(t, h, "exit", ""); err == nil || strings.Contains(err.Error(), "4 GB") {
		t.Errorf("of a plugin that ended by itself: %v", err)
	}
}

func TestNaNLogitsAreReported(t *testing.T) {
	err := inferFault(t, newHost(t, nil), "nan", "")
	if !errors.Is(err, ErrNotFinite) {
		t.Errorf("error %v", err)
	}
	oneLine(t, err, "NaN", "image 1 of 2", "weights")
}

func TestFloodOfLogsIsBounded(t *testing.T) {
	var out bytes.Buffer
	var mu sync.Mutex
	h := newHost(t, func(o *Options) {
		o.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: &out, Mutex: &mu})
		o.CallTimeout = time.Minute
	})
	s := open(t, h, map[string]string{"fault": "flood"})
	if _, err := s.Infer(t.Context(), images(1, 0)); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, l := range s.proc.ring.last() {
		total += len(l)
	}
	if total > (ringLines+2)*ringBytes {
		t.Errorf("%d bytes of log are kept", total)
	}
	mu.Lock()
	defer mu.Unlock()
	if out.Len() > 1<<20 {
		t.Errorf("%d bytes went through to the log at level warn", out.Len())
	}
}

func TestLogsNameThePluginAndItsVersion(t *testing.T) {
	var out bytes.Buffer
	var mu sync.Mutex
	h := newHost(t, func(o *Options) {
		o.Logger = hclog.New(&hclog.LoggerOptions{Name: "zoo", Level: hclog.Info, Output: &out, Mutex: &mu, JSONFormat: true})
	})
	if err := inferFault(t, h, "panic", ""); err == nil {
		t.Error("no error")
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) { // logs come when they come
		mu.Lock()
		text := out.String()
		mu.Unlock()
		for l := range strings.Lines(text) {
			if strings.Contains(l, `"@module":"tiny"`) && strings.Contains(l, `"version":"1.0.0"`) && strings.Contains(l, "index out of range") {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no line names plugin, version and panic: %s", text)
		}
	}
}

func TestPrintingToStandardOutputAfterTheHandshakeIsHarmless(t *testing.T) {
	for _, what := range []string{"stdout", "progress"} {
		if err := inferFault(t, newHost(t, nil), what, ""); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestPluginsThatCannotBeStarted(t *testing.T) {
	for name, c := range map[string]struct {
		kind  error
		parts []string
	}{
		"silent":      {ErrTimeout, []string{"did not start within 1s"}},
		"early":       {ErrProtocol, []string{`"loading tables..."`, "standard output", "handshake"}},
		"endless":     {ErrProtocol, []string{"xxxx", "standard output", "handshake"}},
		"quitter":     {nil, []string{"exit status 127", "libmagic.so: not found"}},
		"unreachable": {nil, []string{"unreachable"}},
		"netrpc":      {ErrStart, []string{"netrpc"}},
		"future":      {ErrProtocol, []string{"protocol 3", "this zoo 1 to 2", "update zoo"}},
		"ancient":     {ErrProtocol, []string{"protocol 0", "zoo plugin install ancient"}},
		"impostor":    {ErrProtocol, []string{"zoo-impostor", `"resnet"`}},
		"wordy":       {ErrProtocol, []string{"message of more than 4 MiB while introducing itself"}},
		"deaf":        {ErrTimeout, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dirs := withPlugins(t, name)
			patience := 5 * time.Second
			if slices.Contains([]string{"silent", "unreachable", "deaf"}, name) { // which use it up
				patience = time.Second
			}
			h := newHost(t, func(o *Options) { dirs(o); o.StartTimeout = patience })
			begin := time.Now()
			_, err := h.Open(within5s(t), Spec{Network: Network{Family: name, Model: "m"}})
			if d := time.Since(begin); d > patience+3*time.Second {
				t.Errorf("refused after %v", d)
			}
			if c.kind != nil && !errors.Is(err, c.kind) {
				t.Errorf("error %v is not %v", err, c.kind)
			}
			oneLine(t, err, append(c.parts, name)...)
			list, err := h.Plugins(t.Context())
			i := slices.IndexFunc(list, func(p Plugin) bool { return p.Family == name })
			if err != nil || i < 0 || list[i].Err == nil {
				t.Errorf("listed as %+v, %v", list, err)
			}
		})
	}
}

// A plugin has no network, nor the user's sockets, and does not get the host's: for its handshake the host would look names up, and connect to any
// machine and send it images.
func TestPluginThatHasTheHostConnectElsewhere(t *testing.T) {
	reached := make(chan net.Addr, 2)
	listen := func(network, address string) net.Addr {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() { // ends with the listener
			if c, err := l.Accept(); err == nil {
				_ = c.Close()
				reached <- l.Addr()
			}
		}()
		return l.Addr()
	}
	tcp := listen("tcp", "127.0.0.1:0")
	dir, err := os.MkdirTemp("", "zoo") // t.TempDir's are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	name, socket := fmt.Sprintf("localhost:%d", tcp.(*net.TCPAddr).Port), listen("unix", filepath.Join(dir, "s"))
	for _, address := range []string{"tcp|" + name, "tcp|" + tcp.String(), "unix|" + socket.String()} {
		t.Setenv("LC_CTYPE", address) // which plugins get
		h := newHost(t, withPlugins(t, "elsewhere"))
		_, err := h.Open(within5s(t), Spec{Network: Network{Family: "elsewhere", Model: "m"}})
		if !errors.Is(err, ErrProtocol) {
			t.Errorf("error %v", err)
		}
		_, at, _ := strings.Cut(address, "|")
		oneLine(t, err, "elsewhere", at, "Unix socket in")
	}
	select {
	case at := <-reached:
		t.Errorf("the host connected to %v", at)
	default:
	}
}

func TestFileThatIsNoProgram(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/zoo-text", []byte("not a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, func(o *Options) { o.Dirs = []string{dir} })
	_, err := h.Describe(t.Context(), "text")
	oneLine(t, err, "text", "zoo-text is no program for", runtime.GOARCH)
}

func TestPluginsThatLie(t *testing.T) {
	for name, parts := range map[string][]string{
		"huge":        {"message of more than 16 MiB"},
		"lyingshape":  {"1073741824x1x1"},
		"lyingoutput": {"1x1000x1"},
		"shortstream": {"ended its answer early"},
		"longstream":  {"fits no output"},
		"nosession":   {"session 0"},
		"lyingengine": {"1x1000x1"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, withPlugins(t, name))
			s, err := h.Open(within5s(t), Spec{Network: Network{Family: name, Model: "m", Classes: 1}})
			if err == nil {
				_, err = s.Infer(within5s(t), &Tensor{N: 1, Shape: graph.Shape{C: 1, H: 2, W: 2}, Data: make([]float32, 4)})
			}
			if !errors.Is(err, ErrProtocol) {
				t.Errorf("error %v", err)
			}
			oneLine(t, err, append(parts, name+" 0.9.0")...)
		})
	}
	t.Run("graph", func(t *testing.T) {
		h := newHost(t, withPlugins(t, "lyinggraph"))
		_, err := h.Build(within5s(t), Network{Family: "lyinggraph", Model: "m"})
		if !errors.Is(err, ErrProtocol) {
			t.Errorf("error %v", err)
		}
		oneLine(t, err, "does not add up")
	})
}

// A plugin that ignored what it was asked for passed the conformance kit, and logits of as many classes as it liked were taken for those of the model.
func TestPluginThatAnswersWithAnotherNetwork(t *testing.T) {
	h := newHost(t, withPlugins(t, "old")) // its network has one class and reads images of 1x2x2
	for want, n := range map[string]Network{
		"1 class where one of 2":              {Classes: 2},
		"1 class where one of 1000":           {},
		"images of 1x2x2 where one for 1x3x2": {Classes: 1, Input: graph.Shape{C: 1, H: 3, W: 2}},
		"":                                    {Classes: 1, Input: graph.Shape{C: 1, H: 2, W: 2}},
	} {
		n.Family, n.Model = "old", "m"
		_, built := h.Build(t.Context(), n)
		s, opened := h.Open(t.Context(), Spec{Network: n})
		for _, err := range []error{built, opened} {
			if want == "" {
				if err != nil {
					t.Error(err)
				}
				continue
			}
			if !errors.Is(err, ErrProtocol) {
				t.Errorf("%q: error %v", want, err)
			}
			oneLine(t, err, "old 0.9.0", want)
		}
		if opened == nil {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// Old and new hosts and plugins use the newest protocol that both speak; what the old one lacks is refused with what to do.
func TestProtocolsOfOldAndNewHostsAndPlugins(t *testing.T) {
	newest := protocols()
	oldest := protocols()
	delete(oldest, 2)
	small := graph.Shape{C: 1, H: 2, W: 2}
	for _, c := range []struct {
		name     string
		host     map[int]plugin.PluginSet
		family   string
		protocol int
	}{
		{"old host, old plugin", oldest, "old", 1},
		{"new host, old plugin", newest, "old", 1},
		{"old host, new plugin", oldest, "tiny", 1},
		{"new host, new plugin", newest, "tiny", 2},
		{"old host, plugin of tomorrow", oldest, "next", 1},
		{"new host, plugin of tomorrow", newest, "next", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, withPlugins(t, "old", "tiny", "next"))
			h.protocols = c.host
			spec, in, want := Spec{Network: Network{Family: c.family, Model: "m", Classes: 1}}, &Tensor{N: 2, Shape: small, Data: []float32{1, 2, 3, 4, 5, 6, 7, 8}}, []float32{2.5, 6.5}
			if c.family == "tiny" {
				spec, in, want = tinySpec(nil), images(3, 0), nil
			}
			s, err := h.Open(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if got := s.Info().Plugin.Protocol; got != c.protocol {
				t.Errorf("protocol %d, want %d", got, c.protocol)
			}
			out, err := s.Infer(t.Context(), in)
			if err != nil || want != nil && !slices.Equal(out[0].Data, want) {
				t.Errorf("%v, %v", out, err)
			}
			_, err = s.Profile(t.Context(), 1, in.Shape)
			if c.protocol >= 2 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrUnsupported) {
				t.Errorf("error %v", err)
			}
			oneLine(t, err, c.family, "protocol 1", "zoo plugin install "+c.family)
		})
	}
}

// TestProcessIsLeftAloneWhereOnlyReapingTellsOfItsEnd runs a process and its child as systems do that cannot wait without reaping.
func TestProcessIsLeftAloneWhereOnlyReapingTellsOfItsEnd(t *testing.T) {
	c, err := newChild("/bin/sh", "sh", nil, confinement{isolation: IsolateOff, log: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	c.args = append(c.args, "-c", "sleep 1000 & echo begun; read line; exit 7")
	c.await = func(*os.Process) bool { return false }
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(c.stdout)
	if line, err := out.ReadString('\n'); err != nil {
		t.Fatalf("it printed %q: %v", line, err)
	}
	if err := c.parent.Close(); err != nil {
		t.Fatal(err)
	}
	<-c.exited
	if c.state.ExitCode() != 7 {
		t.Errorf("it ended with %v", c.state)
	}
	if rest, err := io.ReadAll(out); err != nil { // it does not end while the child has its other end
		t.Errorf("its child lives: %q, %v", rest, err)
	}
}
