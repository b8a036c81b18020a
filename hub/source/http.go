package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/internal/files"
)

// ClientOptions say how a client may reach servers. The zero value is a safe default.
type ClientOptions struct {
	// Offline makes every request fail with ErrOffline before anything is dialled or looked up.
	Offline bool
	// AllowPlainHTTP allows http:// to hosts other than this machine. A redirect from https to http stays refused.
	AllowPlainHTTP bool
	// CAFile adds PEM certificates to the system's roots.
	CAFile string
	// StallTimeout is how long a server may send less than 1 KiB a second. Zero: 30 s.
	StallTimeout time.Duration
	// DialContext replaces the dialler. Nil: net.Dialer.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

const (
	maxRedirects    = 10
	defaultStall    = 30 * time.Second
	minRate         = 1 << 10 // bytes a second below which a server counts as stalled
	commitStalls    = 10      // a registry may take so many times longer to answer an upload: it hashes and moves what it got
	userAgent       = "zoo"
	idleConnections = 16
)

// Client is an HTTP client that keeps the rules of ClientOptions. Close it when done.
type Client struct {
	*http.Client
	transports []*http.Transport
	plain      bool
}

// NewClient returns a client. The error names the CA file if that cannot be used.
func NewClient(o ClientOptions) (*Client, error) {
	c := &Client{plain: o.AllowPlainHTTP}
	stall := o.StallTimeout
	if stall == 0 {
		stall = defaultStall
	}
	c.Client = &http.Client{Transport: offline{}, CheckRedirect: checkRedirect}
	if o.Offline {
		return c, nil
	}
	dial := o.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dial,
		DisableCompression:    true, // offsets and digests are those of the file, not of an encoding of it
		MaxIdleConnsPerHost:   idleConnections,
		IdleConnTimeout:       time.Minute,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: stall,
		ExpectContinueTimeout: time.Second,
		ReadBufferSize:        64 << 10,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if o.CAFile != "" {
		const maxCA = 16 << 20 // bytes
		pem, err := files.ReadAll(o.CAFile, maxCA)
		if err != nil {
			return nil, fmt.Errorf("certificates: %w", err)
		}
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificates: %s holds none in PEM", o.CAFile)
		}
		transport.TLSClientConfig.RootCAs = roots
	}
	uploads := transport.Clone()
	uploads.ResponseHeaderTimeout = commitStalls * stall
	c.transports = []*http.Transport{transport, uploads}
	c.Client.Transport = guard{next: transport, uploads: uploads, plain: o.AllowPlainHTTP, stall: stall}
	return c, nil
}

// Close closes idle connections.
func (c *Client) Close() {
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
}

// offline is the transport that cannot dial.
type offline struct{}

func (offline) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body.Close() // the contract of RoundTripper; nothing was read
	}
	return nil, fmt.Errorf("%w: %s is not asked; run without --offline, or pull from a directory", ErrOffline, r.URL.Host)
}

// guard refuses plain HTTP to other machines, on redirects too, and gives up on servers that stall: in every answer, manifests and tokens
// too, and in every upload.
type guard struct {
	next, uploads http.RoundTripper
	plain         bool
	stall         time.Duration
}

func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" && !g.plain && !registry.IsLoopback(r.URL.Hostname()) {
		if r.Body != nil {
			r.Body.Close() // the contract of RoundTripper; nothing was read
		}
		return nil, fmt.Errorf("%w for %s: use https, or allow it with --plain-http", ErrPlainHTTP, r.URL.Host)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	r, next := r.WithContext(ctx), g.next
	if r.Body != nil && r.Body != http.NoBody {
		up := &upload{ReadCloser: r.Body, limit: g.stall}
		up.timer = time.AfterFunc(g.stall, func() { cancel(fmt.Errorf("%w: it took nothing of an upload for %v", ErrStalled, g.stall)) })
		up.timer.Stop() // until the first Read: dialling has limits of its own
		defer up.end()
		if r.Body = up; r.Method == http.MethodPut || r.Method == http.MethodPatch {
			next = g.uploads
		}
	}
	resp, err := next.RoundTrip(r)
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, ErrStalled) {
			err = cause
		}
		if unknown := (x509.UnknownAuthorityError{}); errors.As(err, &unknown) {
			err = fmt.Errorf("%w: if it is a private one, name its certificate in ZOO_CA_FILE or ca_file", err)
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = &watched{body: resp.Body, ctx: ctx, cancel: cancel, limit: g.stall}
	return resp, nil
}

func checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("%s redirects more than %d times", via[0].URL.Host, maxRedirects)
	}
	if r.URL.Scheme != "https" && via[len(via)-1].URL.Scheme == "https" {
		return fmt.Errorf("%w: %s redirects from https to %s://%s", ErrPlainHTTP, via[len(via)-1].URL.Host, r.URL.Scheme, r.URL.Host)
	}
	return nil
}

// doer sends requests; it is *http.Client or oras-go's client that adds credentials.
type doer interface {
	Do(*http.Request) (*http.Response, error)
}

// get asks for a range of a file and checks that the answer is one to that question.
func get(ctx context.Context, d doer, address string, r Range) (*Part, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept-Encoding", "identity")
	if !r.whole() {
		last := ""
		if r.End > 0 {
			last = strconv.FormatInt(r.End-1, 10)
		}
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%s", r.Start, last))
		if r.Validator != "" {
			req.Header.Set("If-Range", r.Validator)
		}
	}
	resp, err := d.Do(req)
	if err != nil {
		return nil, redact(err)
	}
	part, err := readHeader(resp, r)
	if err != nil {
		resp.Body.Close() // the answer is not used
		return nil, err
	}
	part.Body = resp.Body
	return part, nil
}

// redact takes the query out of the address in an *url.Error: registries redirect to signed addresses.
func redact(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		if u, parseErr := url.Parse(e.URL); parseErr == nil {
			u.User, u.RawQuery, u.Fragment = nil, "", ""
			return fmt.Errorf("%s: %w", u, e.Err) // a redirect's address may be no more than a path
		}
	}
	return err
}

func readHeader(resp *http.Response, r Range) (*Part, error) {
	address := resp.Request.URL.Scheme + "://" + resp.Request.URL.Host + resp.Request.URL.Path
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, fmt.Errorf("%s answered with Content-Encoding %s although none was accepted: a proxy may be rewriting the file", address, e)
	}
	part := &Part{Size: resp.ContentLength}
	if tag := resp.Header.Get("ETag"); strings.HasPrefix(tag, `"`) {
		part.Validator = tag
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if r.Validator != "" && part.Validator != r.Validator {
			return nil, fmt.Errorf("%s: %w", address, ErrChanged)
		}
		return part, nil
	case http.StatusPartialContent:
		start, end, size, ok := parseContentRange(resp.Header.Get("Content-Range"))
		if r.whole() || !ok || start != r.Start || r.End > 0 && end > r.End || resp.ContentLength >= 0 && resp.ContentLength != end-start {
			return nil, fmt.Errorf("%s: %w: asked for bytes %d-%d, got Content-Range %q with %d bytes", address, ErrRange, r.Start, r.End-1, resp.Header.Get("Content-Range"), resp.ContentLength)
		}
		if r.Validator != "" && part.Validator != "" && part.Validator != r.Validator {
			return nil, fmt.Errorf("%s: %w", address, ErrChanged)
		}
		part.Start, part.Size, part.Ranged = start, size, true
		return part, nil
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil, fmt.Errorf("%s: %w: status %d", address, ErrRange, resp.StatusCode)
	}
	e := &StatusError{URL: address, StatusCode: resp.StatusCode}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = time.Duration(min(s, 24*3600)) * time.Second
	}
	return nil, e
}

// parseContentRange reads "bytes 0-9/100" as 0, 10, 100; size is -1 for "*".
func parseContentRange(s string) (start, end, size int64, ok bool) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	first, last, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, 0, false
	}
	var err [3]error
	start, err[0] = strconv.ParseInt(first, 10, 64)
	end, err[1] = strconv.ParseInt(last, 10, 64)
	size = -1
	if total != "*" {
		size, err[2] = strconv.ParseInt(total, 10, 64)
	}
	if errors.Join(err[:]...) != nil || start < 0 || end < start || end == 1<<63-1 || size != -1 && end >= size {
		return 0, 0, 0, false
	}
	return start, end + 1, size, true
}

// watched is a body that gives up when the server sends less than minRate for the time limit. Time that the reader spends elsewhere does
// not count.
type watched struct {
	body   io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	limit  time.Duration
	waited time.Duration // blocked in Read since the last time that enough had come
	got    int64
}

func (w *watched) Read(p []byte) (int, error) {
	begin := time.Now()
	timer := time.AfterFunc(max(w.limit-w.waited, time.Millisecond), func() {
		w.cancel(fmt.Errorf("%w: under %d bytes a second for %v", ErrStalled, minRate, w.limit))
	})
	n, err := w.body.Read(p)
	timer.Stop()
	w.waited += time.Since(begin)
	w.got += int64(n)
	if w.got >= max(1, int64(w.limit.Seconds()*minRate)) {
		w.got, w.waited = 0, 0
	}
	if err != nil && err != io.EOF {
		if cause := context.Cause(w.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (w *watched) Close() error {
	w.cancel(nil)
	return w.body.Close()
}

// upload is a request's body that gives up when the server takes none of it for the time limit. Time that reading from the disk takes does not
// count, nor what comes after the end: that is the wait for the answer.
type upload struct {
	io.ReadCloser
	limit time.Duration

	mu    sync.Mutex
	timer *time.Timer // nil: ended
}

func (u *upload) Read(p []byte) (int, error) {
	u.clock((*time.Timer).Stop)
	n, err := u.ReadCloser.Read(p)
	u.clock(func(t *time.Timer) bool { return t.Reset(u.limit) })
	return n, err
}

// clock does something to the timer unless it has ended.
func (u *upload) clock(do func(*time.Timer) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.timer != nil {
		do(u.timer)
	}
}

func (u *upload) Close() error {
	u.end()
	return u.ReadCloser.Close()
}

// end stops the clock: the transport closes the body when all is sent, and may go on reading it after the answer.
func (u *upload) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.timer != nil {
		u.timer.Stop()
		u.timer = nil
	}
}
