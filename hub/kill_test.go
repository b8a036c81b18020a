package hub_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/download"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/source/sourcetest"
	"github.com/go-modelzoo/zoo/hub/store"
)

// The test binary is its own child: a process that pulls ref with the configuration in the environment.
const (
	childEnv      = "ZOO_HUB_TEST_CHILD" // the home
	childIndexEnv = "ZOO_HUB_TEST_INDEX"
	childFromEnv  = "ZOO_HUB_TEST_SOURCE"
	soakEnv       = "ZOO_SOAK"
)

func child() int {
	err := func() error {
		index, err := os.ReadFile(os.Getenv(childIndexEnv))
		if err != nil {
			return err
		}
		h, err := hub.Open(hub.Config{Home: os.Getenv(childEnv), Index: index, Sources: []string{os.Getenv(childFromEnv)}})
		if err != nil {
			return err
		}
		defer h.Close()
		m, err := h.Pull(context.Background(), ref)
		if err == nil {
			fmt.Println(m.Digest)
		}
		return err
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// pulling is a server and what its children need.
type pulling struct {
	server *sourcetest.Server // of the large file
	web    *httptest.Server   // around it
	source string
	index  string
	want   digest.Digest // of the safetensors file
}

func (p *pulling) command(ctx context.Context, home string) *exec.Cmd {
	c := exec.CommandContext(ctx, os.Args[0], "-test.run=^$")
	c.Env = append(os.Environ(), childEnv+"="+home, childIndexEnv+"="+p.index, childFromEnv+"="+p.source)
	return c
}

// upstreamPulling serves the file as its authors would.
func upstreamPulling(t *testing.T, n int) *pulling {
	t.Helper()
	file := checkpoint(t, n, registry.FormatSafetensors)
	p := &pulling{server: &sourcetest.Server{Content: file, ETag: `"1"`}, source: hub.SourceUpstream, want: digest.FromBytes(file)}
	web := httptest.NewServer(p.server)
	p.web = web
	t.Cleanup(web.Close)
	x := newIndex(web.URL+"/tiny.safetensors", sha256Hex(file), int64(len(file)), int64(n))
	x.Models[0].Weights[0].Origin.Format = registry.FormatSafetensors
	p.index = filepath.Join(t.TempDir(), "index.json")
	if err := os.WriteFile(p.index, encodeIndex(t, x), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// mirrorPulling serves the packed file from a static mirror.
func mirrorPulling(t *testing.T, n int) *pulling {
	t.Helper()
	p := upstreamPulling(t, n)
	index, err := os.ReadFile(p.index)
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.Open(hub.Config{Home: t.TempDir(), Index: index})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	dir := t.TempDir()
	if _, err := h.Mirror(t.Context(), []string{ref}, dir, hub.MirrorOptions{}); err != nil {
		t.Fatal(err)
	}
	files := http.FileServer(http.Dir(dir))
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var name string
	for _, b := range blobs {
		if data, err := os.ReadFile(b); err == nil && (name == "" || len(data) > len(p.server.Content)) {
			name, p.server = filepath.Base(b), &sourcetest.Server{Content: data, ETag: `"1"`}
		}
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, name) {
			p.server.ServeHTTP(w, r)
			return
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	p.web, p.source = web, web.URL
	return p
}

func (p *pulling) asked() int64 {
	var n int64
	for _, q := range p.server.Requests() {
		n += q.End - q.Start
	}
	return n
}

// run lets a child pull to the end and requires the right file.
func (p *pulling) run(t *testing.T, home string) {
	t.Helper()
	out, err := p.command(t.Context(), home).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != p.want.String() {
		t.Fatalf("%s, %v", out, err)
	}
	p.file(t, home)
}

func (p *pulling) file(t *testing.T, home string) {
	t.Helper()
	f, err := os.Open(filepath.Join(home, "store", "blobs", "sha256", p.want.Encoded()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // only read
	if got, err := store.HashFile(t.Context(), f); err != nil || got != p.want {
		t.Errorf("%s instead of %s, %v", got, p.want, err)
	}
}

// namedIsVerified requires that every blob with a name has its digest.
func namedIsVerified(t *testing.T, home string) {
	t.Helper()
	blobs, err := filepath.Glob(filepath.Join(home, "store", "blobs", "sha256", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs {
		f, err := os.Open(b)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := store.HashFile(t.Context(), f); err != nil || d.Encoded() != filepath.Base(b) {
			t.Errorf("%s holds %s, %v", b, d, err)
		}
		f.Close() // only read
	}
}

// TestKilledAnywhereResumes kills a pulling process at random moments. Each time what it left must be sound, and the next pull
// must give the right file without asking for what is on disk, but for one chunk at most.
func TestKilledAnywhereResumes(t *testing.T) {
	rounds, size := 12, 12<<20
	if os.Getenv(soakEnv) != "" {
		rounds, size = 110, 100<<20 // for each of the two ways
	} else if testing.Short() {
		rounds = 3
	}
	for name, start := range map[string]func(*testing.T, int) *pulling{"upstream": upstreamPulling, "mirror": mirrorPulling} {
		t.Run(name, func(t *testing.T) {
			p := start(t, size/4)
			// Some latency, so that most of the time goes into downloading and most kills hit that.
			p.server.Script(func(sourcetest.Request) sourcetest.Fault {
				time.Sleep(50 * time.Millisecond)
				return sourcetest.Fault{}
			})
			begin := time.Now()
			p.run(t, t.TempDir())
			whole := time.Since(begin)
			whileDownloading, worst := 0, int64(0)
			for range rounds {
				home := t.TempDir()
				p.killedOnce(t, home, time.Duration(rand.Int64N(int64(whole))))
				namedIsVerified(t, home)
				s, err := store.Open(filepath.Join(home, "store"))
				if err != nil {
					t.Fatal(err)
				}
				have, files := partialBytes(t, s), partialFiles(t, home)
				s.Close() // only listed
				p.server.Reset()
				p.run(t, home)
				size := int64(len(p.server.Content))
				if have > 0 {
					whileDownloading++
				}
				if asked := p.asked(); asked > 0 {
					worst = max(worst, asked+have-size)
					if asked+have-size > download.DefaultChunkSize {
						t.Errorf("%d bytes were asked for twice: on disk were %v, requests were %v", asked+have-size, files, p.server.Requests())
					}
				}
				if err := os.RemoveAll(home); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d kills within %v, %d of them with part of %d bytes on disk; at most %d bytes asked for twice", rounds, whole.Round(time.Millisecond), whileDownloading, len(p.server.Content), worst)
		})
	}
}

// killedOnce starts a child and kills it after d.
func (p *pulling) killedOnce(t *testing.T, home string, d time.Duration) {
	t.Helper()
	c := p.command(t.Context(), home)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(d)
	if err := c.Process.Kill(); err != nil {
		t.Log(err) // it was done already
	}
	c.Wait() // it was killed: its status says nothing
	// Requests of the dead may still wait to be accepted, and must not be taken for the next process's: a connection behind them,
	// then all closed.
	conn, err := net.Dial("tcp", p.web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /none HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p.web.CloseClientConnections()
}

func partialBytes(t *testing.T, s *store.Store) int64 {
	t.Helper()
	list, err := s.Downloads()
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	for _, d := range list {
		n += d.Bytes
	}
	return n
}

// partialFiles lists what is on disk of a download.
func partialFiles(t *testing.T, home string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(home, "store", "partial", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		paths[i] = fmt.Sprintf("%s:%d", filepath.Base(p), info.Size())
	}
	return paths
}

func TestTwoProcessesOneDownload(t *testing.T) {
	p := upstreamPulling(t, 3<<20)
	p.server.Script(func(sourcetest.Request) sourcetest.Fault {
		time.Sleep(100 * time.Millisecond)
		return sourcetest.Fault{}
	})
	home := t.TempDir()
	var children []*exec.Cmd
	var outputs []*bytes.Buffer
	for range 2 {
		c := p.command(t.Context(), home)
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, io.Discard
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		children, outputs = append(children, c), append(outputs, &out)
	}
	for i, c := range children {
		if err := c.Wait(); err != nil || strings.TrimSpace(outputs[i].String()) != p.want.String() {
			t.Errorf("%s, %v", outputs[i], err)
		}
	}
	p.file(t, home)
	if asked := p.asked(); asked != int64(len(p.server.Content)) {
		t.Errorf("%d bytes were asked for of a file of %d", asked, len(p.server.Content))
	}
}
