package download_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/go-modelzoo/zoo/hub/download"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/source/sourcetest"
	"github.com/go-modelzoo/zoo/hub/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testChunk = 64 << 10

// noise returns incompressible bytes that depend on the size alone.
func noise(size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b) // never fails
	return b
}

// bench is a store, a server and what is downloaded.
type bench struct {
	store   *store.Store
	server  *sourcetest.Server
	content []byte
	client  *source.Client
	blob    download.Blob
	opts    download.Options
}

func newBench(t testing.TB, size int, table bool) *bench {
	t.Helper()
	content := noise(size)
	b := &bench{content: content, server: &sourcetest.Server{Content: content, ETag: `"v1"`}}
	var err error
	if b.store, err = store.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.store.Close() })
	web := httptest.NewUnstartedServer(b.server)
	web.Config.ErrorLog = log.New(discard{}, "", 0)
	web.Start()
	t.Cleanup(web.Close)
	if b.client, err = source.NewClient(source.ClientOptions{StallTimeout: 300 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.client.Close)
	b.blob = download.Blob{
		Repository: source.File(b.client),
		Descriptor: ocispec.Descriptor{Digest: digest.FromBytes(content), Size: int64(size), URLs: []string{web.URL + "/file"}},
		MaxSize:    int64(size) + 1<<20,
	}
	b.opts = download.Options{Parallel: 3, ChunkSize: testChunk}
	if table {
		if b.blob.Table, err = download.NewTable(bytes.NewReader(content), testChunk); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

const key = "download"

func (b *bench) fetch(t testing.TB) (digest.Digest, error) {
	t.Helper()
	p, err := b.store.Partial(key)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	d, _, err := download.Fetch(ctx, p, b.blob, b.opts)
	return d, err
}

// check fetches and requires the right file, or an error that holds want and a store without any blob.
func (b *bench) check(t *testing.T, want string) {
	t.Helper()
	d, err := b.fetch(t)
	if want == "" {
		if err != nil {
			t.Fatal(err)
		}
		data, err := b.store.Read(d, 1<<30)
		if err != nil || !bytes.Equal(data, b.content) {
			t.Fatalf("%d bytes, %v", len(data), err)
		}
		if left, err := b.store.Downloads(); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one with %q", err, want)
	}
	nothingNamed(t, b.store)
}

// nothingNamed requires that no blob has a name.
func nothingNamed(t *testing.T, s *store.Store) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.Dir(), "blobs", "sha256"))
	if err != nil || len(entries) > 0 {
		t.Errorf("unverified bytes have a name: %v, %v", entries, err)
	}
}

const testSize = 5*testChunk + 1234

func first(f sourcetest.Fault) func(sourcetest.Request) sourcetest.Fault {
	return func(q sourcetest.Request) sourcetest.Fault {
		if q.N == 0 {
			return f
		}
		return sourcetest.Fault{}
	}
}

func always(f sourcetest.Fault) func(sourcetest.Request) sourcetest.Fault {
	return func(sourcetest.Request) sourcetest.Fault { return f }
}

func TestFaults(t *testing.T) {
	other := httptest.NewServer(&sourcetest.Server{Content: noise(testSize)})
	t.Cleanup(other.Close)
	cases := []struct {
		name   string
		script func(sourcetest.Request) sourcetest.Fault
		want   string // empty: the right file
	}{
		{"Healthy", nil, ""},
		{"DroppedBeforeHeader", first(sourcetest.Fault{Drop: -1}), ""},
		{"DroppedAfterHeader", first(sourcetest.Fault{DropAtStart: true}), ""},
		{"DroppedAfterOneByte", first(sourcetest.Fault{Drop: 1}), ""},
		{"DroppedInTheMiddle", first(sourcetest.Fault{Drop: testChunk / 2}), ""},
		{"DroppedBeforeLastByte", first(sourcetest.Fault{Drop: testChunk - 1}), ""},
		{"EveryOtherRequestDropped", func(q sourcetest.Request) sourcetest.Fault {
			return sourcetest.Fault{Drop: int64(q.N%2) * 30_000}
		}, ""},
		{"AlwaysDroppedBeforeHeader", always(sourcetest.Fault{Drop: -1}), "EOF"},
		{"AlwaysDroppedAfterOneByte", always(sourcetest.Fault{Drop: 1}), "bytes"},
		{"ContentRangeOfOtherBytes", first(sourcetest.Fault{ContentRange: "bytes 5-65540/328914"}), ""},
		{"ContentRangeAlwaysWrong", always(sourcetest.Fault{ContentRange: "bytes 5-65540/328914"}), ""},
		{"ContentRangeGarbage", always(sourcetest.Fault{ContentRange: "bytes what"}), ""},
		{"ContentRangeOfAnotherSize", always(sourcetest.Fault{ContentRange: fmt.Sprintf("bytes 0-%d/999999999", testChunk-1)}), "wrong size"},
		{"RangeIgnoredByServer", always(sourcetest.Fault{IgnoreRange: true}), ""},
		{"RangeIgnoredOnce", func(q sourcetest.Request) sourcetest.Fault {
			return sourcetest.Fault{IgnoreRange: q.N == 2}
		}, ""},
		{"RangeIgnoredAndDropped", func(q sourcetest.Request) sourcetest.Fault {
			return sourcetest.Fault{IgnoreRange: true, Drop: int64((q.N + 1) * 70_000)}
		}, ""},
		{"RangeIgnoredAndChunked", always(sourcetest.Fault{IgnoreRange: true, Chunked: true}), ""},
		{"ShortAnswer", first(sourcetest.Fault{Short: 1000}), ""},
		{"ShortAnswerAlways", always(sourcetest.Fault{IgnoreRange: true, Short: 1000}), "wrong size"},
		{"ShortChunkedAnswerAlways", always(sourcetest.Fault{IgnoreRange: true, Chunked: true, Short: 1000}), "ended at byte"},
		{"EmptyAnswer", always(sourcetest.Fault{IgnoreRange: true, Short: testSize}), "wrong size"},
		{"EmptyRangeAnswer", always(sourcetest.Fault{Short: testSize}), "wrong size"},
		{"StaleETag", func(q sourcetest.Request) sourcetest.Fault {
			if q.N == 3 {
				return sourcetest.Fault{ETag: `"v2"`}
			}
			return sourcetest.Fault{}
		}, ""},
		{"ETagChangesAlways", func(q sourcetest.Request) sourcetest.Fault {
			return sourcetest.Fault{ETag: fmt.Sprintf(`"v%d"`, q.N)}
		}, "changed on the server"},
		{"BurstOf503", func(q sourcetest.Request) sourcetest.Fault {
			if q.N%4 == 1 {
				return sourcetest.Fault{Status: 503}
			}
			return sourcetest.Fault{}
		}, ""},
		{"TooManyRequestsWithRetryAfter", first(sourcetest.Fault{Status: 429, RetryAfter: 1}), ""},
		{"AskedAgainOnlyAfterHours", first(sourcetest.Fault{Status: 429, RetryAfter: 7200}), "429 Too Many Requests, to be asked again after 2h0m0s"},
		{"Always500", always(sourcetest.Fault{Status: 500}), "500 Internal Server Error"},
		{"NotFound", always(sourcetest.Fault{Status: 404}), "404 Not Found"},
		{"NoContent", always(sourcetest.Fault{Status: 204}), "status 204"},
		{"Hanging", first(sourcetest.Fault{Hang: true}), ""},
		{"HangingAlways", always(sourcetest.Fault{Hang: true}), "stalled"},
		{"SlowLoris", always(sourcetest.Fault{Drip: 20 * time.Millisecond}), "stalled"},
		{"GzipBody", always(sourcetest.Fault{Gzip: true}), "Content-Encoding gzip"},
		{"RedirectToAnotherHost", always(sourcetest.Fault{Redirect: other.URL}), ""},
		{"RedirectToPlainHTTPElsewhere", always(sourcetest.Fault{Redirect: "http://192.0.2.1/x"}), "plain HTTP is refused"},
		{"RedirectLoop", always(sourcetest.Fault{Redirect: "/file"}), "redirects more than 10 times"},
	}
	for _, table := range []bool{false, true} {
		for _, c := range cases {
			t.Run(fmt.Sprintf("%s/table=%v", c.name, table), func(t *testing.T) {
				t.Parallel()
				b := newBench(t, testSize, table)
				b.server.Script(c.script)
				b.opts.Attempts = 3
				b.check(t, c.want)
			})
		}
	}
}

func TestFlippedBitInAnyChunkCostsThatChunk(t *testing.T) {
	for at := int64(100); at < testSize; at += testChunk {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, testSize, true)
			flipped := false
			b.server.Script(func(q sourcetest.Request) sourcetest.Fault {
				if !flipped && q.Start <= at && at < q.End {
					flipped = true
					return sourcetest.Fault{Flip: at + 1}
				}
				return sourcetest.Fault{}
			})
			b.check(t, "")
			if sent := b.server.Sent(); sent > testSize+testChunk {
				t.Errorf("%d bytes were sent for %d", sent, testSize)
			}
		})
	}
}

func TestFlippedBitAlwaysRefusedAndRangeNamed(t *testing.T) {
	b := newBench(t, testSize, true)
	b.server.Script(always(sourcetest.Fault{Flip: 2*testChunk + 100}))
	b.check(t, fmt.Sprintf("bytes %d-%d hash to", 2*testChunk, 3*testChunk-1))
}

func TestFlippedBitWithoutTableRefused(t *testing.T) {
	b := newBench(t, testSize, false)
	b.server.Script(always(sourcetest.Fault{Flip: 100}))
	b.check(t, "should be "+b.blob.Descriptor.Digest.Encoded())
}

func TestWrongPrefixRefused(t *testing.T) {
	b := newBench(t, testSize, false)
	b.blob.Prefix = b.blob.Descriptor.Digest.Encoded()[:8]
	b.blob.Descriptor.Digest, b.blob.Descriptor.Size = "", 0
	b.check(t, "")
	c := newBench(t, testSize, false)
	c.blob.Descriptor.Digest, c.blob.Descriptor.Size, c.blob.Prefix = "", 0, "0123456789"
	c.check(t, "should start with 0123456789")
}

func TestEndlessBodyOfUnknownSizeRefused(t *testing.T) {
	b := newBench(t, 3<<20, false)
	b.server.Script(always(sourcetest.Fault{IgnoreRange: true, Chunked: true}))
	b.blob.Descriptor.Digest, b.blob.Descriptor.Size, b.blob.MaxSize = "", 0, 1<<20
	b.check(t, "more than the 1048576 bytes expected")
}

func TestUnknownSizeStreamed(t *testing.T) {
	for _, size := range []int{1, testChunk - 1, testChunk, 3 * testChunk, testSize} {
		b := newBench(t, size, false)
		b.server.Script(always(sourcetest.Fault{IgnoreRange: true, Chunked: true}))
		b.blob.Descriptor.Size = 0
		b.check(t, "")
	}
}

func TestRedirectFromTLSToPlainHTTPRefused(t *testing.T) {
	b := newBench(t, testSize, false)
	secure := httptest.NewTLSServer(http.RedirectHandler(b.blob.Descriptor.URLs[0], http.StatusFound))
	defer secure.Close()
	b.blob.Descriptor.URLs = []string{secure.URL}
	b.client.Client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}}
	defer b.client.Client.CloseIdleConnections()
	b.check(t, "redirects from https to http")
}

func TestOfflineDialsNothing(t *testing.T) {
	b := newBench(t, testSize, false)
	client, err := source.NewClient(source.ClientOptions{Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	b.blob.Repository = source.File(client)
	b.check(t, "offline")
	if n := len(b.server.Requests()); n > 0 {
		t.Errorf("%d requests arrived", n)
	}
}

func TestResumeAsksOnlyForWhatIsMissing(t *testing.T) {
	for _, table := range []bool{false, true} {
		b := newBench(t, testSize, table)
		b.opts.Parallel = 1 // no request of the first try is under way when the second begins
		b.server.Script(func(q sourcetest.Request) sourcetest.Fault {
			if q.N >= 3 {
				return sourcetest.Fault{Status: 404}
			}
			return sourcetest.Fault{Drop: int64(q.N) * 20_000} // the first answers whole
		})
		if _, err := b.fetch(t); err == nil {
			t.Fatal("a server that refuses served a file")
		}
		have := b.store.PartialSize(key)
		if have < testChunk {
			t.Fatalf("only %d bytes were kept", have)
		}
		b.server.Reset()
		b.server.Script(nil)
		b.check(t, "")
		if asked := b.asked(); asked != testSize-have {
			t.Errorf("asked for %d bytes with %d of %d on disk", asked, have, testSize)
		}
	}
}

// left writes a file of the download as an earlier run may have left it.
func (b *bench) left(t *testing.T, name string, data []byte) {
	t.Helper()
	p, err := b.store.Partial(key)
	if err != nil {
		t.Fatal(err)
	}
	f, err := p.OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// asked is how many bytes were asked for.
func (b *bench) asked() int64 {
	var n int64
	for _, q := range b.server.Requests() {
		n += q.End - q.Start
	}
	return n
}

func TestDamagedPartialRepaired(t *testing.T) {
	for _, table := range []bool{false, true} {
		for _, name := range []string{"head", "0000000000000000", "0000000000010000", "0000000000000005", "00000000000ff000", "00000000000f0000", "-000000000010000", "zz"} {
			for _, size := range []int{2*testChunk + 5, testSize + 1000} {
				b := newBench(t, testSize, table)
				b.left(t, name, bytes.Repeat([]byte("x"), size))
				last := int64(0)
				b.opts.Progress = func(done, total int64) {
					if last = done; done > total {
						t.Errorf("%s of %d bytes: %d bytes of %d are there", name, size, done, total)
					}
				}
				b.check(t, "")
				if last != testSize {
					t.Errorf("%s of %d bytes: progress ended at %d", name, size, last)
				}
			}
		}
	}
}

// TestRightBytesWithMoreBehindThemRepaired: what is published has exactly the bytes that were hashed.
func TestRightBytesWithMoreBehindThemRepaired(t *testing.T) {
	for _, table := range []bool{false, true} {
		for _, more := range []int{1, testChunk, 5 * testChunk} {
			b := newBench(t, testSize, table)
			b.left(t, "head", append(bytes.Clone(b.content), make([]byte, more)...))
			b.check(t, "")
		}
	}
}

// TestKilledJoinerCostsNoChunk: it dies in the middle of a chunk, whose piece is still there.
func TestKilledJoinerCostsNoChunk(t *testing.T) {
	for _, table := range []bool{false, true} {
		b := newBench(t, testSize, table)
		b.left(t, "head", b.content[:testChunk+testChunk/2])
		b.left(t, "0000000000010000", b.content[testChunk:2*testChunk])
		b.check(t, "")
		if n := b.asked(); n != testSize-2*testChunk {
			t.Errorf("asked for %d bytes with two chunks of %d there", n, testSize)
		}
	}
}

// TestDamagedHeadCostsWhatFollowsAlone where the chunks' hashes are known.
func TestDamagedHeadCostsWhatFollowsAlone(t *testing.T) {
	b := newBench(t, testSize, true)
	head := bytes.Clone(b.content[:3*testChunk])
	head[testChunk+7] ^= 1
	b.left(t, "head", head)
	b.check(t, "")
	if n := b.asked(); n != testSize-testChunk {
		t.Errorf("asked for %d bytes with one good chunk of %d there", n, testSize)
	}
}

// TestTableOfOtherChunks is of a publisher's choice, whatever the size of chunks of who downloads.
func TestTableOfOtherChunks(t *testing.T) {
	b := newBench(t, testSize, true)
	b.opts = download.Options{}
	b.server.Script(first(sourcetest.Fault{Flip: 100}))
	b.check(t, "")
	if sent := b.server.Sent(); sent > testSize+testChunk {
		t.Errorf("%d bytes were sent for %d", sent, testSize)
	}
}

func TestTableOfAnotherFileRefused(t *testing.T) {
	for _, size := range []int{1, testChunk, testSize - 1, testSize + 1, 9 * testChunk} {
		b := newBench(t, testSize, false)
		var err error
		if b.blob.Table, err = download.NewTable(bytes.NewReader(noise(size)), testChunk); err != nil {
			t.Fatal(err)
		}
		b.check(t, fmt.Sprintf("the chunk table is for %d bytes", size))
	}
}

func TestEmptyFileOfUnknownSizeRefused(t *testing.T) {
	b := newBench(t, testSize, false)
	b.server.Script(always(sourcetest.Fault{IgnoreRange: true, Chunked: true, Short: testSize}))
	b.blob.Descriptor.Digest, b.blob.Descriptor.Size = "", 0
	b.check(t, "it is empty")
}

func TestSymlinkInPartialRefused(t *testing.T) {
	b := newBench(t, testSize, false)
	p, err := b.store.Partial(key)
	if err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(b.store.Dir(), "partial", key, "head")); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	b.check(t, "not a regular file")
	if data, err := os.ReadFile(victim); err != nil || string(data) != "precious" {
		t.Errorf("the link's target is now %q, %v", data, err)
	}
	_ = p
}

func TestCancelledKeepsBytes(t *testing.T) {
	b := newBench(t, testSize, false)
	ctx, cancel := context.WithCancel(t.Context())
	b.opts.Progress = func(done, total int64) {
		if done > 2*testChunk {
			cancel()
		}
	}
	p, err := b.store.Partial(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := download.Fetch(ctx, p, b.blob, b.opts); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if have := b.store.PartialSize(key); have <= 2*testChunk {
		t.Errorf("%d bytes kept", have)
	}
	b.opts.Progress = nil
	b.check(t, "")
}

func TestRateLimit(t *testing.T) {
	b := newBench(t, 400_000, false)
	b.opts.Limiter = download.NewLimiter(1_000_000)
	begin := time.Now()
	b.check(t, "")
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("400 kB at 1 MB/s took %v", took)
	}
}

func TestDirectorySource(t *testing.T) {
	b := newBench(t, testSize, true)
	dir := t.TempDir()
	blob := filepath.Join(dir, filepath.FromSlash(source.BlobPath(b.blob.Descriptor.Digest)))
	if err := errors.Join(os.MkdirAll(filepath.Dir(blob), 0o755), os.WriteFile(blob, b.content, 0o644)); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func() (source.Source, error){
		"directory": func() (source.Source, error) { return source.Directory(dir), nil },
		"embedded":  func() (source.Source, error) { return source.Embedded("embedded", os.DirFS(dir)), nil },
	} {
		src, err := open()
		if err != nil {
			t.Fatal(err)
		}
		if b.blob.Repository, err = src.Repository("m"); err != nil {
			t.Fatal(err)
		}
		b.check(t, "")
		if err := b.store.Quarantine(b.blob.Descriptor.Digest); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSymlinkOutOfDirectorySourceRefused(t *testing.T) {
	b := newBench(t, testSize, false)
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	blob := filepath.Join(dir, filepath.FromSlash(source.BlobPath(b.blob.Descriptor.Digest)))
	if err := errors.Join(os.MkdirAll(filepath.Dir(blob), 0o755), os.WriteFile(secret, b.content, 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, blob); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	var err error
	if b.blob.Repository, err = source.Directory(dir).Repository("m"); err != nil {
		t.Fatal(err)
	}
	b.check(t, "escapes")
}

func FuzzParseTable(f *testing.F) {
	t, err := download.NewTable(bytes.NewReader(noise(200_000)), testChunk)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(t.Encode())
	f.Add((&download.Table{ChunkSize: testChunk}).Encode())
	f.Add([]byte("zoochnk1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := download.ParseTable(data)
		if err != nil {
			if !errors.Is(err, download.ErrTable) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(table.Encode(), data) {
			t.Fatal("encodes differently")
		}
	})
}
