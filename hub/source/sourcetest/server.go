// Package sourcetest has servers that misbehave on request, for tests of everything that downloads.
package sourcetest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Request is what a script decides about: the number of the request (from 0) and the range asked for.
type Request struct {
	N          int
	Start, End int64 // End is exclusive
	Ranged     bool
}

// Fault is how to answer one request. The zero Fault is the right answer.
type Fault struct {
	// Drop cuts the connection after so many bytes of the body. Negative: before the header. Zero: not.
	Drop int64
	// DropAtStart cuts the connection after the header.
	DropAtStart bool
	// ContentRange replaces the header, on a 206.
	ContentRange string
	// IgnoreRange answers 200 with everything.
	IgnoreRange bool
	// Short sends so many bytes less than there are, and says so in Content-Length.
	Short int64
	// ETag replaces the file's.
	ETag string
	// Status answers with an error and RetryAfter seconds.
	Status     int
	RetryAfter int
	// Drip sends one byte each time.
	Drip time.Duration
	// Hang sends nothing after the header until the client goes away.
	Hang bool
	// Gzip compresses the body, as a meddling proxy does.
	Gzip bool
	// Redirect sends the client elsewhere.
	Redirect string
	// Flip inverts the bit 0 of the byte at this offset of the file, plus 1. Zero: none.
	Flip int64
	// Chunked leaves out Content-Length.
	Chunked bool
}

// Server serves one file, with faults. It implements http.Handler and is safe for concurrent use.
type Server struct {
	Content []byte
	ETag    string

	mu       sync.Mutex
	script   func(Request) Fault
	requests []Request
	sent     int64
}

// Script sets what chooses the fault of each request. Nil: none.
func (s *Server) Script(f func(Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = f
}

// Requests returns the requests so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Sent returns how many bytes of bodies were written so far.
func (s *Server) Sent() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

// Reset forgets the requests so far.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.sent = nil, 0
}

func (s *Server) begin(r *http.Request) (Request, Fault) {
	q := Request{End: int64(len(s.Content))}
	if h, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		first, last, _ := strings.Cut(h, "-")
		q.Start, _ = strconv.ParseInt(first, 10, 64) // the client under test writes numbers
		if n, err := strconv.ParseInt(last, 10, 64); err == nil {
			q.End = min(n+1, q.End)
		}
		q.Ranged = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q.N = len(s.requests)
	s.requests = append(s.requests, q)
	if s.script == nil {
		return q, Fault{}
	}
	return q, s.script(q)
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q, f := s.begin(r)
	switch {
	case f.Drop < 0:
		panic(http.ErrAbortHandler)
	case f.Redirect != "":
		http.Redirect(w, r, f.Redirect, http.StatusFound)
		return
	case f.Status != 0:
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
		http.Error(w, "scripted", f.Status)
		return
	}
	etag := s.ETag
	if f.ETag != "" {
		etag = f.ETag
	}
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	if ifRange := r.Header.Get("If-Range"); ifRange != "" && ifRange != etag || f.IgnoreRange {
		q.Start, q.End, q.Ranged = 0, int64(len(s.Content)), false
	}
	body := s.Content[q.Start:q.End]
	if at := f.Flip - 1; at >= q.Start && at < q.End {
		body = bytes.Clone(body)
		body[at-q.Start] ^= 1
	}
	body = body[:max(0, int64(len(body))-f.Short)]
	if f.Gzip {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(body) // a buffer takes everything
		z.Close()
		body = b.Bytes()
		w.Header().Set("Content-Encoding", "gzip")
	}
	if !f.Chunked {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	status := http.StatusOK
	if q.Ranged {
		status = http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", q.Start, q.Start+int64(len(body))-1, len(s.Content)))
		if f.ContentRange != "" {
			w.Header().Set("Content-Range", f.ContentRange)
		}
	}
	w.WriteHeader(status)
	s.send(w, r, body, f)
}

func (s *Server) send(w http.ResponseWriter, r *http.Request, body []byte, f Fault) {
	flush := func() { http.NewResponseController(w).Flush() } // the client may be gone
	switch {
	case f.DropAtStart:
		flush()
		panic(http.ErrAbortHandler)
	case f.Hang:
		flush()
		<-r.Context().Done()
		return
	case f.Drip > 0:
		for i := range body {
			if _, err := w.Write(body[i : i+1]); err != nil {
				return
			}
			flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(f.Drip):
			}
		}
		return
	}
	cut := f.Drop > 0 && f.Drop < int64(len(body))
	if cut {
		body = body[:f.Drop]
	}
	for len(body) > 0 {
		n, err := w.Write(body[:min(len(body), 64<<10)])
		s.mu.Lock()
		s.sent += int64(n)
		s.mu.Unlock()
		if err != nil {
			return
		}
		body = body[n:]
	}
	if cut {
		flush()
		panic(http.ErrAbortHandler)
	}
}
