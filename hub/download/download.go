// Package download brings one blob from a source into the store: in parallel ranges, resuming what an earlier run left,
// verified chunk by chunk where the chunks' hashes are known and as a whole in any case.
//
// How it works. The blob is cut into chunks of one size. Workers fetch chunks into files of their own ("pieces", named by
// offset) by appending; a single joiner appends finished pieces in order to the file "head" while hashing it, and then
// removes them. So the bytes on disk are the whole state: the length of a piece says what is there, a killed process loses
// nothing that it had written, and no journal can disagree with the data. When head is whole and has the right digest it is flushed
// and renamed to its digest by the store.
//
// Invariants: bytes get a name in the store only after the digest of exactly those bytes, as written, was compared; at
// most Parallel chunks are in flight and at most window(Parallel) ahead of the joiner; memory is a buffer a worker. A chunk
// that fails its hash is fetched again alone. A source that ignores ranges is read as one stream.
//
// The caller holds the store's lock of the partial download. Fetch may be called concurrently for different blobs.
package download

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/store"
)

var (
	// ErrCorrupt says that a chunk did not have its hash, however often it was fetched.
	ErrCorrupt = errors.New("corrupt bytes")
	// ErrSize says that a server has a file of another size. What was downloaded before is kept.
	ErrSize = errors.New("the server's file has the wrong size")
)

// Options tune a download. The zero value is a good default.
type Options struct {
	// Parallel is the number of requests at a time. Zero: 6.
	Parallel int
	// ChunkSize is the size of chunks, in bytes, where there is no table of hashes. Zero: DefaultChunkSize.
	ChunkSize int64
	// Attempts is how often in a row a request may fail without bringing anything. Zero: source.DefaultAttempts.
	Attempts int
	// Limiter bounds the rate of all downloads that share it. Nil: no bound.
	Limiter *Limiter
	// Progress is told, in order and not concurrently, how many bytes are on disk and how many there are (-1: not known).
	Progress func(done, total int64)
}

const (
	defaultParallel = 6
	chunkTries      = 3
	joinBuffer      = 1 << 20
	copyBuffer      = 256 << 10
	// realProgress is how many bytes make up for the failures before them; less, and a server that drops every connection
	// after a byte would be asked forever.
	realProgress = 64 << 10

	headName = "head"
)

// Blob is what to fetch.
type Blob struct {
	Repository source.Repository
	// Descriptor has the digest, or none, and the size in bytes, or 0 where it is not known.
	Descriptor ocispec.Descriptor
	// Prefix is the start of the SHA-256 in hex, checked where the descriptor has no digest.
	Prefix string
	// MaxSize bounds a blob of unknown size, in bytes.
	MaxSize int64
	// Table has the hashes of the chunks. Nil: only the whole is verified.
	Table *Table
}

// Fetch downloads b through the partial download p, and publishes it. It returns its digest and size.
func Fetch(ctx context.Context, p *store.Partial, b Blob, o Options) (digest.Digest, int64, error) {
	if o.Parallel <= 0 {
		o.Parallel = defaultParallel
	}
	if o.Attempts <= 0 {
		o.Attempts = source.DefaultAttempts
	}
	if o.ChunkSize <= 0 {
		o.ChunkSize = DefaultChunkSize
	}
	if b.Table != nil {
		o.ChunkSize = b.Table.ChunkSize
		if b.Descriptor.Size != b.Table.Size {
			return "", 0, fmt.Errorf("the chunk table is for %d bytes and the file has %d: %w", b.Table.Size, b.Descriptor.Size, ErrCorrupt)
		}
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	// Bytes that an earlier run left, or that changed on the server meanwhile, may spoil the first try; a second starts clean.
	for again := true; ; again = false {
		j := &job{blob: b, opts: o, partial: p, size: b.Descriptor.Size}
		j.changed = sync.NewCond(&j.mu)
		if j.size == 0 {
			j.size = -1
		}
		d, err := j.run(ctx)
		if err == nil || !errors.Is(err, store.ErrMismatch) && !errors.Is(err, source.ErrChanged) {
			return d, j.size, err
		}
		if discardErr := p.Discard(); discardErr != nil || !again || ctx.Err() != nil {
			return "", 0, errors.Join(err, discardErr)
		}
		if err := p.Recreate(); err != nil {
			return "", 0, err
		}
	}
}

// job is one try at a download.
type job struct {
	blob    Blob
	opts    Options
	partial *store.Partial

	// The joiner's alone.
	head *os.File
	hash hash.Hash

	mu        sync.Mutex
	changed   *sync.Cond // of everything below
	size      int64      // -1: not known yet
	validator string
	front     int64          // bytes joined
	done      map[int64]bool // chunks that are whole and not joined
	next      int64          // first chunk that no worker has taken
	probed    int64          // chunk that was taken out of turn; -1: none
	received  int64          // bytes on disk, for progress
}

func (j *job) run(ctx context.Context) (digest.Digest, error) {
	var err error
	if j.head, err = j.partial.OpenFile(headName); err != nil {
		return "", err
	}
	defer j.head.Close() // closed with a check by Publish; here only after errors
	if err := j.restore(ctx); err != nil {
		return "", fmt.Errorf("resuming: %w", err)
	}
	if j.size < 0 || j.front < j.size {
		err := j.ranged(ctx)
		if errors.Is(err, errNoRanges) {
			err = j.streamed(ctx)
		}
		if err != nil {
			return "", err
		}
	}
	if j.size == 0 {
		return "", fmt.Errorf("%w: it is empty", ErrSize)
	}
	got := digest.NewDigest(digest.SHA256, j.hash)
	if want := j.blob.Descriptor.Digest; want != "" && got != want {
		return "", fmt.Errorf("%w: sha256 of the %d bytes is %s and should be %s", store.ErrMismatch, j.size, got.Encoded(), want.Encoded())
	}
	if !strings.HasPrefix(got.Encoded(), j.blob.Prefix) {
		return "", fmt.Errorf("%w: sha256 of the %d bytes is %s and should start with %s", store.ErrMismatch, j.size, got.Encoded(), j.blob.Prefix)
	}
	return got, j.partial.Publish(j.head, headName, got)
}

// restore takes stock of what is on disk: it hashes head up to the last whole chunk and drops pieces that do not fit.
func (j *job) restore(ctx context.Context) error {
	files, err := j.partial.Files()
	if err != nil {
		return err
	}
	chunk := j.opts.ChunkSize
	j.hash, j.done, j.front, j.next, j.probed, j.received = sha256.New(), make(map[int64]bool), 0, 0, -1, 0
	if err := j.restoreHead(ctx, files[headName]); err != nil {
		return err
	}
	j.next = (j.front + chunk - 1) / chunk
	j.received = j.front
	for name, size := range files {
		start, ok := parsePiece(name)
		fits := ok && start%chunk == 0 && start >= j.front && (j.size < 0 || start < j.size)
		if !fits && name != headName {
			if err := j.partial.Remove(name); err != nil {
				return err
			}
		} else if fits {
			j.received += min(size, chunk)
		}
	}
	j.report()
	return nil
}

func (j *job) restoreHead(ctx context.Context, size int64) error {
	if j.size >= 0 && size > j.size {
		size = 0
	}
	buf := make([]byte, joinBuffer)
	for j.front < size {
		_, end := j.bounds(j.front / j.opts.ChunkSize)
		if end > size || ctx.Err() != nil { // the joiner was killed in this chunk; its piece is still there
			break
		}
		sum := sha256.New()
		if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, io.NewSectionReader(j.head, j.front, end-j.front), buf); err != nil {
			return err
		}
		if !j.good(j.front/j.opts.ChunkSize, sum) {
			break
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{j.hash}, io.NewSectionReader(j.head, j.front, end-j.front), buf); err != nil {
			return err
		}
		j.front = end
	}
	if err := j.head.Truncate(j.front); err != nil {
		return store.DiskFull(err)
	}
	_, err := j.head.Seek(j.front, io.SeekStart)
	return errors.Join(err, context.Cause(ctx))
}

// bounds are the offsets of a chunk; the end is not cut while the size is unknown.
func (j *job) bounds(i int64) (start, end int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	start, end = i*j.opts.ChunkSize, (i+1)*j.opts.ChunkSize
	if j.size >= 0 {
		end = min(end, j.size)
	}
	return start, end
}

// good says whether a chunk with this hash is the right one, as far as is known before the whole is there.
func (j *job) good(i int64, sum hash.Hash) bool {
	return j.blob.Table == nil || j.blob.Table.Sums[i] == [sha256.Size]byte(sum.Sum(nil))
}

func (j *job) report() { j.opts.Progress(j.received, j.size) }

// add counts bytes that came, or with a negative n went.
func (j *job) add(n int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.received += n
	j.report()
}

func (j *job) complete(i int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.done[i] = true
	j.changed.Broadcast()
}

func (j *job) wake() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.changed.Broadcast()
}
