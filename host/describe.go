package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/go-modelzoo/zoo/internal/files"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// described completes a plugin with what it tells of itself, from the cache or by starting it.
func (h *Host) described(ctx context.Context, p Plugin) (Plugin, error) {
	if p.Embedded || p.Err != nil {
		return p, p.Err
	}
	key, err := cacheKey(p.Path)
	if err != nil {
		return p, fmt.Errorf("plugin %s: %w", p, err)
	}
	version := p.Version
	if r, protocol, ok := h.cached(key); ok && p.describe(r) == nil {
		p.Protocol = protocol
		return p, nil
	}
	p.Version = version
	pool, err := h.pool(p)
	if err != nil {
		return p, err
	}
	pr, err := pool.acquire(ctx, nil)
	if err != nil {
		return p, err
	}
	defer pr.release()
	used := p.Used
	p = pr.plugin
	p.Used = used
	h.remember(key, pr.described, p.Protocol)
	return p, nil
}

// cacheKey changes with a binary's path, size, and time of change: cheaper than reading it, and what it guards is no more than a
// listing, since a started process tells its version itself.
func cacheKey(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%d\x00%d", path, info.Size(), info.ModTime().UnixNano(), pluginrpc.ProtocolEngine))
	return hex.EncodeToString(sum[:16]), nil
}

// maxDescription bounds what a plugin says of itself, in bytes.
const maxDescription = 4 << 20

// cached reads a remembered description: a byte for the protocol, then the message.
func (h *Host) cached(key string) (*zoov1.DescribeResponse, int, bool) {
	if h.opt.CacheDir == "" {
		return nil, 0, false
	}
	b, err := files.ReadAll(filepath.Join(h.opt.CacheDir, key), maxDescription)
	if err != nil || len(b) < 1 {
		return nil, 0, false
	}
	r := &zoov1.DescribeResponse{}
	if err := proto.Unmarshal(b[1:], r); err != nil {
		return nil, 0, false
	}
	return r, int(b[0]), true
}

// remember caches a description. Not to be able to is no reason to fail.
func (h *Host) remember(key string, r *zoov1.DescribeResponse, protocol int) {
	if h.opt.CacheDir == "" || r == nil {
		return
	}
	err := func() error {
		b, err := proto.Marshal(r)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(h.opt.CacheDir, 0o755); err != nil {
			return err
		}
		return files.Replace(filepath.Join(h.opt.CacheDir, key), append([]byte{byte(protocol)}, b...), 0o600)
	}()
	if err != nil {
		h.log.Warn("the plugin's description was not cached", "dir", h.opt.CacheDir, "error", err)
	}
}
