package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/begin"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
	"tlswrap/tests/testkit"
)

// lockedBuffer is a log that goroutines write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// short is a connection that stops to send after left bytes.
type short struct {
	net.Conn
	left int
}

func (s *short) Write(b []byte) (int, error) {
	n := min(len(b), s.left)
	s.left -= n
	if _, err := s.Conn.Write(b[:n]); err != nil {
		return 0, err
	}
	return len(b), nil
}

// testFiles are an authority's, and those of a certificate of localhost's.
type testFiles struct {
	root          *testkit.Authority
	leaf          *testkit.Certificate
	ca, cert, key string
}

func newTestFiles(t *testing.T) (f testFiles) {
	t.Helper()
	var err error
	if f.root, err = testkit.NewAuthority("worker test"); err != nil {
		t.Fatal(err)
	}
	if f.leaf, err = f.root.Issue(testkit.Leaf{Names: []string{"localhost"}}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if f.cert, f.key, err = f.leaf.WriteFiles(dir, "server"); err != nil {
		t.Fatal(err)
	}
	f.ca = filepath.Join(dir, "root.pem")
	if err := f.root.WriteFile(f.ca); err != nil {
		t.Fatal(err)
	}
	return f
}

// handshakeLab is a worker, a server that stops in the middle of its handshake, and what
// programs do.
type handshakeLab struct {
	worker  *Worker
	address string
	log     lockedBuffer
	config  *tls.Config
}

const (
	handshakeRounds  = 1000
	handshakeWorkers = 8
	handshakeMost    = 1200 // bytes, more than a whole flight
)

func TestProgramsThatEndInTheMiddleOfAHandshakeEndNothingElse(t *testing.T) {
	files := newTestFiles(t)
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	port := server.Addr().(*net.TCPAddr).Port
	lab := &handshakeLab{config: &tls.Config{RootCAs: files.root.Pool(), ServerName: "localhost"}}
	text := fmt.Sprintf("[[rule]]\nhost = \"127.0.0.1\"\nserver_name = \"localhost\"\nport = %d\nca_file = %q\ntimeout = \"2s\"\n", port, files.ca)
	for i := range handshakeWorkers {
		text += fmt.Sprintf("[[listen]]\naddress = \"127.0.1.%d\"\nport = 4433\ncert_file = %q\nkey_file = %q\ntimeout = \"2s\"\n", i+1, files.cert, files.key)
	}
	lab.worker, err = New(Config{
		Load: func() (*rules.Policy, error) { return rules.Parse("/rules.toml", []byte(text)) },
		Log:  slog.New(slog.NewTextHandler(&lab.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	lab.address = filepath.Join(t.TempDir(), "control")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: lab.address, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- lab.worker.Serve(ctx, l) }()
	go serveShort(server, &tls.Config{Certificates: []tls.Certificate{files.leaf.TLS()}})

	var all sync.WaitGroup
	for i := range handshakeWorkers {
		all.Go(func() {
			for n := i; n < handshakeRounds; n += handshakeWorkers {
				k := n * handshakeMost / handshakeRounds
				var err error
				if n/handshakeWorkers%2 == 0 {
					err = lab.serveAndEnd(fmt.Sprintf("127.0.1.%d:4433", i+1), k)
				} else {
					err = lab.connectAndEnd(port)
				}
				if err != nil {
					t.Errorf("round %d: %v", n, err)
					return
				}
			}
		})
	}
	all.Wait()
	if token, _ := greet(t, lab.address); lab.worker.run(token) == nil {
		t.Error("the worker serves nobody any more")
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve: %v", err)
	}
	if said := lab.log.String(); strings.Contains(said, "panic") {
		t.Errorf("a panic: %.4000s", said[strings.Index(said, "panic"):])
	}
}

// serveShort serves TLS, each time up to some more bytes.
func serveShort(l net.Listener, config *tls.Config) {
	for n := 0; ; n++ {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(time.Second))
			s := tls.Server(&short{c, n * 7 % handshakeMost}, config)
			if s.Handshake() == nil {
				io.Copy(io.Discard, s)
			}
		}()
	}
}

// begin begins a session of a program, and returns what ends that program.
func (lab *handshakeLab) begin() (wire.Token, func(), error) {
	var token wire.Token
	rand.Read(token[:])
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return token, nil, err
	}
	defer null.Close()
	if _, err := begin.Greet(lab.address, anybody, begin.Hello{Token: token, Stderr: null}); err != nil {
		return token, nil, err
	}
	s := lab.worker.run(token)
	return token, func() { s.Left(int32(os.Getpid())) }, nil
}

// serveAndEnd lets a client come as far as k bytes of its handshake, and the program end.
func (lab *handshakeLab) serveAndEnd(addr string, k int) error {
	token, leave, err := lab.begin()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	for n := 0; err != nil && n < 500; n++ { // the last round's queue may just have been added
		time.Sleep(10 * time.Millisecond)
		lab.worker.serving.Sweep(nil)
		l, err = net.Listen("tcp", addr)
	}
	if err != nil {
		return err
	}
	f, err := l.(*net.TCPListener).File() // becomes the queue
	l.Close()
	if err != nil {
		return err
	}
	defer f.Close()
	if covered, err := begin.Serve(begin.Reached{Address: lab.address, UID: uint32(os.Geteuid()), Token: token}, int(f.Fd()), false); err != nil || !covered {
		return fmt.Errorf("listen: %v, %v", covered, err)
	}
	tcp, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer tcp.Close()
	client := tls.Client(&short{tcp, k}, lab.config)
	client.SetDeadline(time.Now().Add(5 * time.Millisecond))
	if k%3 == 0 {
		go client.Handshake() // while the program ends
	} else {
		client.Handshake()
	}
	if k%2 == 0 {
		leave()
		f.Close()
	} else {
		f.Close()
		leave()
	}
	lab.worker.serving.Sweep(nil)
	return nil
}

// connectAndEnd begins a connection, and has the program end.
func (lab *handshakeLab) connectAndEnd(port int) error {
	token, leave, err := lab.begin()
	if err != nil {
		return err
	}
	c, err := wire.Dial(lab.address, wire.RequestTime, anybody)
	if err != nil {
		return err
	}
	defer c.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	r, got, err := c.Ask(wire.Request{Op: wire.OpConnect, Token: token, Addrs: []wire.Addr{{IP: netip.MustParseAddr("127.0.0.1"), Port: uint16(port)}}}, fd)
	unix.Close(fd)
	if err != nil || r.Answer != wire.AnswerChannel {
		return fmt.Errorf("connect: answer %d, %v", r.Answer, err)
	}
	defer got.Close()
	defer leave()
	return c.Tell(wire.Request{Op: wire.OpTaken, Token: token})
}
