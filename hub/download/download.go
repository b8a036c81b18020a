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
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

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

var errNoRanges = errors.New("the server does not answer ranges")

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

// ranged fetches with parallel range requests. The first request tells whether the source can do that.
func (j *job) ranged(ctx context.Context) error {
	probe, first, err := j.probe(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, j.wake)
	defer stop()
	worker := func() error {
		for {
			i, ok := j.take(ctx)
			if !ok {
				return context.Cause(ctx)
			}
			if err := j.fetch(ctx, i, nil); err != nil {
				return err
			}
		}
	}
	group.Go(func() error { return j.join(ctx) })
	group.Go(func() error {
		if first != nil {
			if err := j.fetch(ctx, probe, first); err != nil {
				return err
			}
		}
		return worker()
	})
	for range j.opts.Parallel - 1 {
		group.Go(worker)
	}
	return group.Wait()
}

// probe asks for the rest of the first chunk that is not whole, and takes that chunk. It returns no part if every chunk is.
func (j *job) probe(ctx context.Context) (chunk int64, first *source.Part, err error) {
	files, err := j.partial.Files()
	if err != nil {
		return 0, nil, err
	}
	for chunk = j.next; ; chunk++ {
		start, end := j.bounds(chunk)
		if j.size >= 0 && start >= j.size {
			return chunk, nil, nil
		}
		have := files[pieceName(start)]
		if have == end-start {
			continue
		}
		if have < end-start {
			start += have
		}
		first, err = j.open(ctx, start, end)
		if errors.Is(err, source.ErrRange) {
			return 0, nil, errNoRanges
		}
		if err != nil {
			return 0, nil, err
		}
		if first.Start != start || !first.Ranged || j.size < 0 {
			first.Body.Close() // read again, as a stream
			return 0, nil, errNoRanges
		}
		j.probed = chunk
		return chunk, first, nil
	}
}

// open asks for a range, retrying while that may help, and learns the size and validator from the first answer.
func (j *job) open(ctx context.Context, start, end int64) (part *source.Part, err error) {
	err = source.Retry(ctx, j.opts.Attempts, func() error {
		part, err = j.openOnce(ctx, start, end)
		return err
	})
	return part, err
}

func (j *job) openOnce(ctx context.Context, start, end int64) (*source.Part, error) {
	j.mu.Lock()
	r := source.Range{Start: start, End: end, Validator: j.validator}
	j.mu.Unlock()
	part, err := j.blob.Repository.Open(ctx, j.blob.Descriptor, r)
	if err != nil {
		return nil, err
	}
	if err := j.learn(part); err != nil {
		part.Body.Close() // the answer is not used
		return nil, err
	}
	return part, nil
}

func (j *job) learn(part *source.Part) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.validator == "" {
		j.validator = part.Validator
	}
	if part.Size < 0 || part.Size == j.size {
		return nil
	}
	if j.size >= 0 {
		return fmt.Errorf("%w: %d bytes instead of %d", ErrSize, part.Size, j.size)
	}
	if part.Size == 0 {
		return fmt.Errorf("%w: it is empty", ErrSize)
	}
	if part.Size > j.blob.MaxSize {
		return fmt.Errorf("%w: %d bytes are more than the %d expected", ErrSize, part.Size, j.blob.MaxSize)
	}
	j.size = part.Size
	return nil
}

// take waits until a chunk may be fetched and returns it; false when none is left or the context ended.
func (j *job) take(ctx context.Context) (int64, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for ctx.Err() == nil {
		if j.next == j.probed {
			j.next++
		}
		if j.next*j.opts.ChunkSize >= j.size {
			return 0, false
		}
		if j.next < j.front/j.opts.ChunkSize+window(j.opts.Parallel) {
			j.next++
			return j.next - 1, true
		}
		j.changed.Wait()
	}
	return 0, false
}

// window is how many chunks may be begun and not joined: it bounds the disk space needed beyond the blob's size.
func window(parallel int) int64 { return int64(3 * parallel) }

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

// fetch completes the piece of chunk i. part, if not nil, is an open answer that starts where the piece ends.
func (j *job) fetch(ctx context.Context, i int64, part *source.Part) (err error) {
	start, end := j.bounds(i)
	p, err := j.openPiece(start, end)
	if err != nil {
		if part != nil {
			part.Body.Close() // not used
		}
		return err
	}
	defer func() { err = errors.Join(err, p.file.Close()) }()
	for bad := 0; ; {
		if err := j.fill(ctx, p, part); err != nil {
			return err
		}
		part = nil
		if j.good(i, p.sum) {
			j.complete(i)
			return nil
		}
		got := hex.EncodeToString(p.sum.Sum(nil))
		j.add(-p.have)
		if err := p.reset(); err != nil {
			return err
		}
		if bad++; bad == chunkTries {
			return fmt.Errorf("%w: bytes %d-%d hash to %s and should to %x, %d times over: the source is damaged or lies", ErrCorrupt, start, end-1, got, j.blob.Table.Sums[i], chunkTries)
		}
	}
}

// fill appends to a piece until it has all its bytes.
func (j *job) fill(ctx context.Context, p *piece, part *source.Part) error {
	for failures, gained := 0, int64(0); p.have < p.end-p.start; {
		err := error(nil)
		if part == nil {
			part, err = j.openOnce(ctx, p.start+p.have, p.end)
		}
		if err == nil && part.Start != p.start+p.have {
			part.Body.Close() // not the bytes wanted
			return errNoRanges
		}
		if errors.Is(err, source.ErrRange) {
			return errNoRanges
		}
		if err == nil {
			var n int64
			n, err = j.copy(ctx, p, part.Body)
			err = errors.Join(err, part.Body.Close())
			if gained += n; gained >= realProgress {
				failures, gained = 0, 0
			}
			if err == nil && p.have < p.end-p.start {
				err = fmt.Errorf("the answer ended %d bytes early: %w", p.end-p.start-p.have, io.ErrUnexpectedEOF)
			}
			part = nil
		}
		if err == nil {
			continue
		}
		if failures++; failures >= j.opts.Attempts || !source.Temporary(err) {
			return fmt.Errorf("bytes %d-%d: %w", p.start+p.have, p.end-1, err)
		}
		if err := source.Sleep(ctx, source.Backoff(failures, err)); err != nil {
			return err
		}
	}
	return nil
}

// copy appends body to the piece, at most up to its end.
func (j *job) copy(ctx context.Context, p *piece, body io.Reader) (int64, error) {
	var total int64
	for p.have < p.end-p.start {
		n, err := body.Read(p.buf[:min(int64(len(p.buf)), p.end-p.start-p.have)])
		if n > 0 {
			if _, err := p.file.Write(p.buf[:n]); err != nil {
				return total, store.DiskFull(err)
			}
			p.sum.Write(p.buf[:n])
			p.have += int64(n)
			total += int64(n)
			j.add(int64(n))
			if err := j.opts.Limiter.Wait(ctx, n); err != nil {
				return total, err
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// streamed reads the blob from its beginning, skipping what is on disk. Each failure starts at the beginning again, for want of ranges.
func (j *job) streamed(ctx context.Context) error {
	if err := j.restore(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, j.wake)
	defer stop()
	group.Go(func() error { return j.join(ctx) })
	group.Go(func() error {
		for failures, best := 1, int64(0); ; failures++ {
			part, err := j.openOnce(ctx, 0, 0)
			if err == nil {
				err = j.stream(ctx, part.Body)
				err = errors.Join(err, part.Body.Close())
			}
			if err == nil {
				return nil
			}
			j.mu.Lock()
			if j.received >= best+realProgress {
				failures, best = 1, j.received
			}
			j.mu.Unlock()
			if failures >= j.opts.Attempts || !source.Temporary(err) && !errors.Is(err, ErrCorrupt) {
				return err
			}
			if err := source.Sleep(ctx, source.Backoff(failures, err)); err != nil {
				return err
			}
		}
	})
	return group.Wait()
}

// stream reads body, which starts at offset 0, chunk by chunk. Without a known size its end is the blob's.
func (j *job) stream(ctx context.Context, body io.Reader) error {
	for i := int64(0); ; i++ {
		j.mu.Lock()
		front, size := j.front, j.size
		complete := j.done[i] || (i+1)*j.opts.ChunkSize <= front || size >= 0 && front == size
		j.mu.Unlock()
		start, end := j.bounds(i)
		if size >= 0 && start >= size {
			return nil
		}
		if size < 0 && start > j.blob.MaxSize {
			return fmt.Errorf("%w: it sends more than the %d bytes expected", ErrSize, j.blob.MaxSize)
		}
		if complete {
			if _, err := io.CopyN(io.Discard, body, end-start); err != nil {
				return unexpected(err)
			}
			continue
		}
		ended, err := j.streamChunk(ctx, i, start, end, body)
		if err != nil || ended {
			return err
		}
	}
}

// streamChunk completes chunk i from body, which is at its start. It returns true at the end of a body of unknown size.
func (j *job) streamChunk(ctx context.Context, i, start, end int64, body io.Reader) (ended bool, err error) {
	p, err := j.openPiece(start, end)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, p.file.Close()) }()
	if _, err := io.CopyN(io.Discard, body, p.have); err != nil {
		return false, unexpected(err)
	}
	if _, err := j.copy(ctx, p, body); err != nil {
		return false, err
	}
	if p.have < end-start {
		j.mu.Lock()
		known := j.size >= 0
		if !known {
			j.size = start + p.have
		}
		j.mu.Unlock()
		if known {
			return false, fmt.Errorf("the answer ended at byte %d: %w", start+p.have, io.ErrUnexpectedEOF)
		}
		ended = true
	}
	if !j.good(i, p.sum) {
		j.add(-p.have)
		return false, errors.Join(fmt.Errorf("%w: bytes %d-%d hash to %x and should to %x", ErrCorrupt, start, end-1, p.sum.Sum(nil), j.blob.Table.Sums[i]), p.reset())
	}
	if p.have > 0 {
		j.complete(i)
	} else {
		j.wake()
	}
	return ended, nil
}

// unexpected makes an end where bytes should be the error that it is.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// join appends whole pieces to head in order, hashing what it writes, until all are in.
func (j *job) join(ctx context.Context) error {
	buf := make([]byte, joinBuffer)
	for {
		i, ok := j.nextToJoin(ctx)
		if !ok {
			return context.Cause(ctx)
		}
		start, end := j.bounds(i)
		f, err := j.partial.OpenFile(pieceName(start))
		if err != nil {
			return err
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(j.hash, j.head)}, struct{ io.Reader }{f}, buf)
		if err = errors.Join(store.DiskFull(err), f.Close()); err != nil {
			// The piece still has these bytes; twice they would only fill the disk.
			return fmt.Errorf("joining bytes %d-%d: %w", start, end-1, errors.Join(err, j.head.Truncate(start)))
		}
		if n != end-start {
			return fmt.Errorf("joining bytes %d-%d: %d bytes are on disk: another program changed the store", start, end-1, n)
		}
		if err := j.partial.Remove(pieceName(start)); err != nil {
			return err
		}
		j.mu.Lock()
		j.front = end
		delete(j.done, i)
		j.changed.Broadcast()
		j.mu.Unlock()
	}
}

// nextToJoin waits for the chunk at the front; false when all are joined or the context ended.
func (j *job) nextToJoin(ctx context.Context) (int64, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for ctx.Err() == nil && j.front != j.size {
		if i := j.front / j.opts.ChunkSize; j.done[i] {
			return i, true
		}
		j.changed.Wait()
	}
	return 0, false
}

// piece is a chunk's file while it is written.
type piece struct {
	file       *os.File
	start, end int64
	have       int64
	sum        hash.Hash
	buf        []byte
}

// openPiece opens a chunk's file behind the bytes it has, and hashes those.
func (j *job) openPiece(start, end int64) (*piece, error) {
	f, err := j.partial.OpenFile(pieceName(start))
	if err != nil {
		return nil, err
	}
	p := &piece{file: f, start: start, end: end, sum: sha256.New(), buf: make([]byte, copyBuffer)}
	p.have, err = io.CopyBuffer(struct{ io.Writer }{p.sum}, struct{ io.Reader }{f}, p.buf)
	if err == nil && p.have > end-start {
		j.add(-min(p.have, j.opts.ChunkSize))
		err = p.reset()
	}
	if err != nil {
		f.Close() // not used
		return nil, err
	}
	return p, nil
}

// reset empties the piece.
func (p *piece) reset() error {
	p.have = 0
	p.sum.Reset()
	_, err := p.file.Seek(0, io.SeekStart)
	return errors.Join(err, p.file.Truncate(0))
}

func pieceName(start int64) string { return fmt.Sprintf("%016x", start) }

func parsePiece(name string) (start int64, ok bool) {
	if len(name) != 16 {
		return 0, false
	}
	start, err := strconv.ParseInt(name, 16, 64)
	return start, err == nil && start >= 0
}
