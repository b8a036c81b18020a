package host

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// pool is the processes of one plugin: usually none or one, more while their grants differ. It is safe for concurrent use.
type pool struct {
	host   *Host
	plugin Plugin

	mu   sync.Mutex
	list []*process // starting or running
}

// acquire returns a running process that has the grants, starting one if there is none. The caller releases it.
func (p *pool) acquire(ctx context.Context, g *grants) (*process, error) {
	if g == nil {
		g = &grants{}
	}
	pr, err := p.join(*g)
	if err != nil {
		return nil, err
	}
	select {
	case <-pr.ready:
	case <-ctx.Done():
		pr.release()
		return nil, cause(ctx)
	}
	if pr.err != nil {
		pr.release()
		return nil, pr.err
	}
	return pr, nil
}

// join becomes a user of a process that runs, starts, or is started now.
func (p *pool) join(g grants) (*process, error) {
	h := p.host
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pr := range p.list {
		if pr.usable() && (h.opt.Isolation == IsolateOff || pr.grants.cover(g)) {
			pr.hold()
			return pr, nil
		}
	}
	shared, err := resolveAll(append(slices.Clone(h.opt.ReadOnly), p.plugin.folder))
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", p.plugin, err)
	}
	g.read = append(slices.Clone(g.read), shared...)
	g.note()
	pr := &process{host: h, pool: p, plugin: p.plugin, grants: g, ready: make(chan struct{})}
	pr.log = h.log.Named(p.plugin.Family)
	if v := p.plugin.Version; v != "" {
		pr.log = pr.log.With("version", v)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, fmt.Errorf("plugin %s: %w", p.plugin, ErrClosed)
	}
	pr.hold()
	p.list = append(p.list, pr)
	h.work.Go(pr.start)
	return pr, nil
}

// usable reports whether the process is starting or running and takes new users. It needs pool.mu.
func (p *process) usable() bool {
	if p.spent {
		return false
	}
	select {
	case <-p.ready:
		return p.err == nil && p.alive()
	default:
		return true
	}
}

// hold counts a user. It needs pool.mu.
func (p *process) hold() {
	p.refs++
	if p.idle != nil {
		p.idle.Stop()
		p.idle = nil
	}
}

// again becomes a user of a process that was acquired before, if it still runs.
func (p *process) again() bool {
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	if !slices.Contains(p.pool.list, p) || !p.usable() {
		return false
	}
	p.hold()
	return true
}

// spend has the process take no new users; the last one that it has ends it.
func (p *process) spend() {
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	p.spent = true
}

// retain adds a use to one that the caller has.
func (p *process) retain() {
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	p.refs++
}

// release ends a use. The last one starts the clock that ends the process.
func (p *process) release() {
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	p.refs--
	if p.refs > 0 || !slices.Contains(p.pool.list, p) {
		return
	}
	if !p.usable() { // crashed or spent: nobody will use it again
		p.pool.remove(p)
		p.pool.host.retire(p)
		return
	}
	p.idle = time.AfterFunc(p.host.opt.IdleAfter, func() {
		p.pool.mu.Lock()
		defer p.pool.mu.Unlock()
		if p.refs == 0 && slices.Contains(p.pool.list, p) {
			p.log.Debug("ending the plugin: nobody uses it")
			p.pool.remove(p)
			p.host.retire(p)
		}
	})
}

// retire stops a process that leaves its pool. It needs the pool's mu, which Close takes to empty the pool before it waits for work: so
// either Close stops the process, or it waits for this.
func (h *Host) retire(p *process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.work.Go(func() { p.stop(!p.alive()) })
}

// drop takes a process that failed to start out of the pool.
func (p *pool) drop(pr *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(pr)
}

// remove needs mu.
func (p *pool) remove(pr *process) {
	if i := slices.Index(p.list, pr); i >= 0 {
		p.list = slices.Delete(p.list, i, i+1)
	}
	if pr.idle != nil {
		pr.idle.Stop()
	}
}

// take empties the pool and returns what was in it.
func (p *pool) take() []*process {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.list
	p.list = nil
	for _, pr := range list {
		if pr.idle != nil {
			pr.idle.Stop()
		}
	}
	return list
}
