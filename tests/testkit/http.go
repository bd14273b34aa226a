package testkit

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
)

// ServeHTTP serves HTTP/1.1: over TLS with a config, in plaintext with nil. Close does
// not wait for the handlers.
func ServeHTTP(addr string, config *tls.Config, handler http.Handler) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	h := &http.Server{
		Handler:      handler,
		ErrorLog:     log.New(io.Discard, "", 0), // tests provoke failed handshakes
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	plain := l
	if config != nil {
		l = tls.NewListener(l, config)
	}
	go h.Serve(l)
	return &Server{addr: plain.Addr(), close: func() { h.Close() }}, nil
}

// Site is a web site about one marker: everything that it sends contains it, over and
// over, so that a sniffer can tell whether any of it was readable.
//
//	GET /fixed          the marker and a line feed
//	GET /big?bytes=N    the first N bytes of Body(marker)
//	PUT or POST /upload "SHA256 LENGTH" of what was sent
func Site(marker string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /fixed", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, marker)
	})
	mux.HandleFunc("GET /big", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.FormValue("bytes"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		io.Copy(w, io.LimitReader(Body(marker), n))
	})
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%x %d\n", h.Sum(nil), n)
	})
	return mux
}

// Body is an endless text of numbered lines that all contain marker. It is the same
// every time.
func Body(marker string) io.Reader { return &body{marker: marker} }

type body struct {
	marker string
	line   int
	rest   []byte
}

func (b *body) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(b.rest) == 0 {
			b.line++
			b.rest = fmt.Appendf(b.rest[:0:0], "%d %s\n", b.line, b.marker)
		}
		m := copy(p[n:], b.rest)
		b.rest = b.rest[m:]
		n += m
	}
	return n, nil
}

// BodySum is the SHA-256 of the first n bytes of Body(marker), in hex.
func BodySum(marker string, n int64) string {
	h := sha256.New()
	io.Copy(h, io.LimitReader(Body(marker), n))
	return hex.EncodeToString(h.Sum(nil))
}
