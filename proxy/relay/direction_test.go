package relay

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/record"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/verdict"
	"tlswrap/tests/testkit"
)

// carried is a connection that is carried: program is the end of who has made it, server the other side's.
type carried struct {
	conn    *Conn
	program *os.File
	server  *tls.Conn
	tcp     *net.TCPConn // under server
	broken  chan *verdict.Failure
	ended   chan string
}

func newCarried(t *testing.T) *carried {
	t.Helper()
	ca, err := testkit.NewAuthority("relay test")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(testkit.Leaf{Names: []string{"localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	pr, p, err := channel.New("", false)
	if err != nil {
		t.Fatal(err)
	}
	up, err := upstream.New(descriptor(t, client))
	if err != nil {
		t.Fatal(err)
	}
	c := &carried{program: os.NewFile(uintptr(p), "program"), tcp: server.(*net.TCPConn), broken: make(chan *verdict.Failure, 2), ended: make(chan string, 2)}
	c.server = tls.Server(server, &tls.Config{Certificates: []tls.Certificate{cert.TLS()}})
	go c.server.Handshake()
	ours := record.Client(up, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"})
	if err := ours.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := pr.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.program.Close()
		server.Close()
		up.Close()
		pr.Close()
	})
	c.conn = &Conn{
		Ends: Ends{Channel: pr, Upstream: up, Log: slog.New(slog.DiscardHandler), Broken: func(f *verdict.Failure) { c.broken <- f }},
		TLS:  ours, Peer: "server", Truncated: func() {},
		Attempt: func() verdict.Attempt { return verdict.Attempt{} },
	}
	c.conn.Carry(func(why string) { c.ended <- why })
	return c
}

// descriptor is another one of a connection's socket.
func descriptor(t *testing.T, conn net.Conn) (fd int) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err == nil {
		raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// talk sends words both ways.
func (c *carried) talk(t *testing.T, words string) {
	t.Helper()
	limit := time.Now().Add(10 * time.Second)
	c.server.SetDeadline(limit)
	got := make([]byte, len(words))
	for _, way := range []struct {
		from io.Writer
		to   io.Reader
	}{{c.program, c.server}, {c.server, c.program}} {
		if _, err := way.from.Write([]byte(words)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(way.to, got); err != nil || string(got) != words {
			t.Fatalf("%q came as %q: %v", words, got, err)
		}
	}
}

// awaitRest waits until both directions rest, of as many connections.
func awaitRest(t *testing.T, connections int) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		all := string(stacks[:runtime.Stack(stacks, true)])
		if strings.Count(all, "relay.(*Conn).rest(") == 2*connections {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("the connection does not rest:\n%s", all)
		}
	}
}

// A connection that rests goes on where it was, any number of times.
func TestWhatRestsCarriesOn(t *testing.T) {
	c := newCarried(t)
	for _, words := range []string{"first", "second"} {
		c.talk(t, words)
		awaitRest(t, 1)
	}
	c.talk(t, "last")
	c.program.Close()
	if n, err := c.server.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the server reads %d bytes, %v, and no close_notify", n, err)
	}
	c.server.Close()
	if why := <-c.ended; why != "the program has closed it" {
		t.Errorf("it ends because %q", why)
	}
}

// Whatever ends a connection ends one that rests as well, and is told as if it had not.
func TestWhatRestsEnds(t *testing.T) {
	reset := func(c *carried) { c.tcp.SetLinger(0); c.tcp.Close() }
	ends := []struct {
		name   string
		by     func(c *carried)
		reads  error  // the program's, if it still has its end
		broken string // part of what a person is told, if anything
	}{
		{"the program closes", func(c *carried) { c.program.Close(); c.server.Read(make([]byte, 1)); c.server.Close() }, nil, ""},
		{"the server ends", func(c *carried) { c.server.Close() }, io.EOF, ""},
		{"the server ends without close_notify", func(c *carried) { c.tcp.Close() }, unix.ECONNRESET, "without close_notify"},
		{"the server resets", reset, unix.ECONNRESET, "reset"},
		{"the worker closes", func(c *carried) { c.conn.Channel.Close(); c.conn.Upstream.SetDeadline(time.Unix(1, 0)) }, unix.ECONNRESET, ""},
	}
	all := make([]*carried, len(ends))
	for i := range ends {
		all[i] = newCarried(t)
		all[i].talk(t, "words")
	}
	awaitRest(t, len(ends))
	for i, end := range ends {
		t.Run(end.name, func(t *testing.T) {
			c := all[i]
			end.by(c)
			if end.reads != nil {
				if _, err := c.program.Read(make([]byte, 1)); err != end.reads && !strings.Contains(err.Error(), end.reads.Error()) {
					t.Errorf("the program reads %v", err)
				}
				c.program.Close()
			}
			select {
			case <-c.ended:
			case <-time.After(10 * time.Second):
				t.Fatal("it does not end")
			}
			told := ""
			if len(c.broken) > 0 {
				told = (<-c.broken).Reason
			}
			if (end.broken == "") != (told == "") || !strings.Contains(told, end.broken) {
				t.Errorf("a person is told %q", told)
			}
		})
	}
}
