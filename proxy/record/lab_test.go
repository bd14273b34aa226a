package record

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/buffers"
	"tlswrap/tests/testkit"
)

const name = "record.test"

var root = sync.OnceValue(func() *testkit.Authority {
	root, err := testkit.NewAuthority("record test")
	if err != nil {
		panic(err)
	}
	return root
})

// authority has one certificate for all tests.
var authority = sync.OnceValues(func() (*testkit.Certificate, *x509.CertPool) {
	cert, err := root().Issue(testkit.Leaf{Names: []string{name}})
	if err != nil {
		panic(err)
	}
	return cert, root().Pool()
})

// testCase is a version and a suite.
type testCase struct {
	version, suite uint16
}

func (c testCase) String() string {
	return strings.ReplaceAll(tls.VersionName(c.version)+" "+tls.CipherSuiteName(c.suite), " ", "_")
}

// cases are the versions and suites that a certificate with an ECDSA key can have. The
// suites of TLS 1.3 cannot be chosen in crypto/tls: other tests have them from OpenSSL.
var cases = []testCase{
	{tls.VersionTLS13, tls.TLS_AES_128_GCM_SHA256},
	{tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	{tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
}

func (c testCase) clientConfig() *tls.Config {
	_, roots := authority()
	return &tls.Config{ServerName: name, RootCAs: roots, MinVersion: c.version, MaxVersion: c.version,
		CipherSuites: []uint16{c.suite}, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
}

func (c testCase) serverConfig() *tls.Config {
	cert, _ := authority()
	return &tls.Config{Certificates: []tls.Certificate{cert.TLS()}, MinVersion: c.version, MaxVersion: c.version,
		CipherSuites: []uint16{c.suite}}
}

// socketPair is a TCP connection with itself.
func socketPair(t testing.TB) (net.Conn, net.Conn) { return socketPairWith(t, 0) }

// socketPairWith is one whose buffers have as many bytes, if that is not 0.
func socketPairWith(t testing.TB, room int) (net.Conn, net.Conn) {
	t.Helper()
	limit := func(_, _ string, c syscall.RawConn) (err error) {
		if room == 0 {
			return nil
		}
		e := c.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, room),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, room))
		})
		return errors.Join(e, err)
	}
	listener, dialer := net.ListenConfig{Control: limit}, net.Dialer{Control: limit}
	l, err := listener.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := dialer.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{a, b} {
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(time.Minute))
	}
	return a, b
}

// readAhead is a Transport over any connection. It reads most bytes at once, if that is
// not 0.
type readAhead struct {
	net.Conn
	buf        []byte
	start, end int
	most       int
}

func newReadAhead(conn net.Conn) *readAhead {
	return &readAhead{Conn: conn, buf: make([]byte, buffers.Size)}
}

func (r *readAhead) Acknowledge() {}

func (r *readAhead) Fill() error {
	r.start, r.end = 0, copy(r.buf, r.Ahead())
	room := r.buf[r.end:]
	if len(room) == 0 {
		return io.ErrShortBuffer
	}
	if r.most > 0 {
		room = room[:min(len(room), r.most)]
	}
	n, err := r.Conn.Read(room)
	r.end += n
	return err
}

func (r *readAhead) FillUnlessIdle() error { return r.Fill() }

func (r *readAhead) Ahead() []byte { return r.buf[r.start:r.end] }

// Consume spoils what is no longer valid, as somebody else would who has the buffer next.
func (r *readAhead) Consume(n int) {
	if r.start += n; r.start == r.end {
		for i := range r.buf {
			r.buf[i] = 0xee
		}
		r.start, r.end = 0, 0
	}
}

func (r *readAhead) Read(b []byte) (int, error) {
	if r.start == r.end {
		if err := r.Fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, r.Ahead())
	r.Consume(n)
	return n, nil
}

// halfCloser is what our connections and those of crypto/tls have in common.
type halfCloser interface {
	net.Conn
	Handshake() error
	CloseWrite() error
}

// pairOf is a connection with our client, or our server, and crypto/tls on the other
// side. A role is "client" or "server".
func pairOf(t testing.TB, c testCase, role string) (*Conn, *tls.Conn) {
	t.Helper()
	a, b := socketPair(t)
	var ours *Conn
	var theirs *tls.Conn
	if role == "client" {
		ours, theirs = Client(newReadAhead(a), c.clientConfig()), tls.Server(b, c.serverConfig())
	} else {
		ours, theirs = Server(newReadAhead(a), ServerConfig(c.serverConfig())), tls.Client(b, c.clientConfig())
	}
	shakeHands(t, ours, theirs)
	return ours, theirs
}

func shakeHands(t testing.TB, a, b halfCloser) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- b.Handshake() }()
	if err := errors.Join(a.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
}

// randomBytes are the same in every run.
func randomBytes(n int, seed uint64) []byte {
	b := make([]byte, n)
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	source.Read(b)
	return b
}

// send writes b in pieces of random sizes and ends with close_notify.
func send(to halfCloser, b []byte, most int) error {
	r := rand.New(rand.NewPCG(uint64(len(b)), uint64(most)))
	for len(b) > 0 {
		n := min(len(b), 1+r.IntN(most))
		if r.IntN(4) == 0 {
			n = min(n, 1+r.IntN(100))
		}
		if _, err := to.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return to.CloseWrite()
}

// receive reads until close_notify with a buffer of a size.
func receive(from io.Reader, size int) ([]byte, error) {
	var all bytes.Buffer
	b := make([]byte, size)
	for {
		n, err := from.Read(b)
		all.Write(b[:n])
		if err == io.EOF {
			return all.Bytes(), nil
		}
		if err != nil {
			return all.Bytes(), err
		}
	}
}

// exchange sends bytes both ways at once and compares.
func exchange(t testing.TB, a, b halfCloser, n, most int) {
	t.Helper()
	up, down := randomBytes(n, 1), randomBytes(n, 2)
	var gotUp, gotDown []byte
	var g sync.WaitGroup
	do := func(what string, f func() error) {
		g.Go(func() {
			if err := f(); err != nil {
				t.Errorf("%s: %v", what, err)
				a.SetDeadline(time.Unix(1, 0)) // so that the others end
				b.SetDeadline(time.Unix(1, 0))
			}
		})
	}
	do("sending up", func() error { return send(a, up, most) })
	do("sending down", func() error { return send(b, down, most) })
	do("receiving up", func() (err error) { gotUp, err = receive(b, 64<<10); return })
	do("receiving down", func() (err error) { gotDown, err = receive(a, 64<<10); return })
	g.Wait()
	if t.Failed() {
		t.FailNow()
	}
	if !bytes.Equal(gotUp, up) || !bytes.Equal(gotDown, down) {
		t.Fatal("the bytes that arrived are not those that were sent")
	}
}

// warmUp sends n bytes that do not count.
func warmUp(from, to net.Conn, n int64) error {
	sent := make(chan error, 1)
	go func() {
		_, err := from.Write(make([]byte, n))
		sent <- err
	}()
	_, err := io.CopyN(io.Discard, to, n)
	return errors.Join(err, <-sent)
}
