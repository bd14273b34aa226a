package proxy

import (
	"context"
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
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/begin"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// faultLab is a worker, a server that answers, and what programs do.
type faultLab struct {
	worker  *Worker
	address string
	log     lockedBuffer
	config  *tls.Config
	port    int
}

const faultListen = "127.0.2.1:4433"

func newFaultLab(t *testing.T) *faultLab {
	t.Helper()
	files := newTestFiles(t)
	server, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{files.leaf.TLS()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go answerAll(server)
	lab := &faultLab{config: &tls.Config{RootCAs: files.root.Pool(), ServerName: "localhost"}, port: server.Addr().(*net.TCPAddr).Port}
	text := fmt.Sprintf("[[rule]]\nhost = \"127.0.0.1\"\nserver_name = \"localhost\"\nport = %d\nca_file = %q\ntimeout = \"5s\"\n", lab.port, files.ca)
	text += fmt.Sprintf("[[listen]]\naddress = \"127.0.2.1\"\nport = 4433\ncert_file = %q\nkey_file = %q\ntimeout = \"5s\"\n", files.cert, files.key)
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
	t.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	})
	return lab
}

// answerAll sends back the first byte of each connection, and ends it after that.
func answerAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			io.CopyN(c, c, 1)
		}()
	}
}

// connect has a program connect, say a byte and hear one.
func (lab *faultLab) connect(token wire.Token) error {
	c, err := wire.Dial(lab.address, 5*time.Second, anybody)
	if err != nil {
		return err
	}
	defer c.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	fresh, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		unix.Close(fd)
		return err
	}
	r, got, err := c.Ask(wire.Request{Op: wire.OpConnect, Token: token, Addrs: []wire.Addr{{IP: netip.MustParseAddr("127.0.0.1"), Port: uint16(lab.port)}}}, fd, fresh)
	unix.Close(fd)
	unix.Close(fresh)
	if err != nil || r.Answer != wire.AnswerChannel {
		return fmt.Errorf("connect: answer %d, %v", r.Answer, err)
	}
	program := os.NewFile(uintptr(got.Take()), "program")
	defer program.Close()
	return sayAndHear(program)
}

// sayAndHear says a byte, and waits for one. It is not kept waiting for ever.
func sayAndHear(program *os.File) error {
	fd := int(program.Fd())
	unix.SetNonblock(fd, false)
	limit := unix.NsecToTimeval(int64(5 * time.Second))
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit)
	if _, err := unix.Write(fd, []byte{'x'}); err != nil {
		return err
	}
	b := make([]byte, 1)
	n, err := unix.Read(fd, b)
	if err == nil && (n != 1 || b[0] != 'x') {
		err = fmt.Errorf("heard %q", b[:n])
	}
	return err
}

// serve has a program listen, and a client say a byte and hear one.
func (lab *faultLab) serve(token wire.Token) error {
	var l net.Listener
	var err error
	for range 500 { // the last one's may not be swept yet
		if l, err = net.Listen("tcp", faultListen); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
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
	go acceptOne(int(f.Fd()), token)
	tcp, err := net.Dial("tcp", faultListen)
	if err != nil {
		return err
	}
	defer tcp.Close()
	client := tls.Client(tcp, lab.config)
	client.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := client.Write([]byte{'x'}); err != nil {
		return err
	}
	_, err = io.ReadFull(client, make([]byte, 1))
	return err
}

// acceptOne accepts a client as the shim does, and sends back its first byte.
func acceptOne(queue int, token wire.Token) {
	p := []unix.PollFd{{Fd: int32(queue), Events: unix.POLLIN}}
	if n, _ := unix.Poll(p, 5000); n != 1 {
		return
	}
	fd, _, err := unix.Accept4(queue, unix.SOCK_CLOEXEC)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	unix.Write(fd, token[:])
	b := make([]byte, 1)
	if n, _ := unix.Read(fd, b); n == 1 {
		unix.Write(fd, b)
	}
}

// A panic wherever the worker serves something ends that, leaves a stack in the log, and nothing else
// notices. Listeners are swept once it was lost which were closed.
func TestAPanicAnywhereEndsOneConnection(t *testing.T) {
	lab := newFaultLab(t)
	for _, what := range []string{"request", "connect", "setup", "step", "connection", "download", "upload", "end", "client", "client's bytes", "listener", "process", "voice", "watched file", "sweep"} {
		t.Run(what, func(t *testing.T) {
			var hit atomic.Bool
			begun := make(chan struct{})
			guard.Fault(t, func(place string) {
				if place == what && hit.CompareAndSwap(false, true) {
					close(begun)
					panic("injected in " + what)
				}
			})
			broken := lab.aRun()
			if !hit.Load() && (what == "voice" || what == "watched file" || what == "sweep" || what == "process") {
				select {
				case <-begun:
				case <-time.After(20 * time.Second):
				}
			}
			if !hit.Load() {
				t.Fatalf("nothing comes there; the run ended with %v", broken)
			}
			if err := lab.aRun(); err != nil {
				t.Errorf("what comes after it: %v", err)
			}
			lab.mustEnd(t)
			if said := lab.log.String(); !strings.Contains(said, "injected in "+what) || !strings.Contains(said, "guard.go") {
				t.Error("the log has no stack of it")
			}
		})
	}
}

// mustEnd waits until no run is left, which one is that has a connection.
func (lab *faultLab) mustEnd(t *testing.T) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		lab.worker.mu.Lock()
		left := len(lab.worker.runs)
		lab.worker.mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(limit) {
			t.Fatal("a connection of the run does not end")
		}
	}
}

// aRun is a run whose program connects and serves, and ends.
func (lab *faultLab) aRun() error {
	token, leave, err := (&handshakeLab{worker: lab.worker, address: lab.address}).begin()
	if err != nil {
		return err
	}
	defer leave()
	err = lab.connect(token)
	return errors.Join(err, lab.serve(token))
}

// A program that sends a file where a socket is to be is refused, and nothing else notices.
func TestAConnectWithoutASocketToConnectIsRefused(t *testing.T) {
	lab := newFaultLab(t)
	token, leave, err := (&handshakeLab{worker: lab.worker, address: lab.address}).begin()
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	c, err := wire.Dial(lab.address, 5*time.Second, anybody)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	file, other, err := os.Pipe() // which can be polled, as a file of a file system in a process can
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	defer other.Close()
	to := wire.Addr{IP: netip.MustParseAddr("127.0.0.1"), Port: uint16(lab.port)}
	r, got, err := c.Ask(wire.Request{Op: wire.OpConnect, Token: token, Addrs: []wire.Addr{to}}, fd, int(file.Fd()))
	got.Close()
	if err != nil || r.Answer != wire.AnswerError || r.Errno != unix.ENETDOWN {
		t.Errorf("the answer is %d, %v; %v", r.Answer, r.Errno, err)
	}
	if err := lab.connect(token); err != nil {
		t.Errorf("what comes after it: %v", err)
	}
}
