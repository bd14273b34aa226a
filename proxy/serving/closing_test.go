package serving

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/inotify"
	"tlswrap/proxy/record"
	"tlswrap/proxy/session/sessiontest"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
	"tlswrap/tests/testkit"
)

// program is one that listens.
type program struct {
	front  *Front
	at     string
	client *tls.Config
	l      *listener
	end    atomic.Int32 // what it listens on; -1 once that is closed
}

// stop closes what the program listens on. It may be called again.
func (p *program) stop() { fdio.Close(int(p.end.Swap(-1))) }

// course is what is special about a program that listens. Its functions may be nil.
type course struct {
	blind    bool             // nothing tells the worker that the program has stopped
	put      func(p *program) // is called when the queue has come to the program, before the worker knows that
	verified func(p *program) // is called in the middle of a client's handshake, before its last words are read
}

func listening(t *testing.T, c course) *program {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	l.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := testkit.NewAuthority("listening")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.Issue(testkit.Leaf{Names: []string{"server.test"}})
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := cert.WriteFiles(t.TempDir(), "server")
	if err != nil {
		t.Fatal(err)
	}
	local := l.Addr().(*net.TCPAddr).AddrPort()
	r, err := rules.Parse("rules.toml", fmt.Appendf(nil, "[[listen]]\nport = %d\ncert_file = %q\nkey_file = %q\n", local.Port(), certFile, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := trust.New(r, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var p *program
	policy.Service(local).Config = record.ServerConfig(&tls.Config{
		Certificates: []tls.Certificate{cert.TLS()},
		VerifyConnection: func(tls.ConnectionState) error {
			if c.verified != nil {
				c.verified(p)
			}
			return nil
		},
	})
	p = &program{front: NewFront(slog.New(slog.DiscardHandler), func() *trust.Policy { return policy }, inotify.New(slog.New(slog.DiscardHandler))), at: local.String(),
		client: &tls.Config{RootCAs: authority.Pool(), ServerName: "server.test"}}
	if c.blind {
		p.front.watch = func(string, inotify.Watch) (func(), error) { return func() {}, errors.New("there is no inotify") }
	}
	s := sessiontest.New(t, nil, nil)
	call := wire.NewLocal(&wire.Local{Pidfd: func() int { return -1 }, Put: func(end int) error {
		for _, l := range p.front.listeners {
			p.l = l
		}
		p.end.Store(int32(end))
		if c.put != nil {
			c.put(p)
		}
		return nil
	}})
	p.front.Listen(call, s, wire.Request{Op: wire.OpListen}, fd)
	if p.l == nil {
		t.Fatal("nothing was put in the place of what listens")
	}
	t.Cleanup(func() {
		p.stop()
		p.front.SessionEnded(s)
	})
	return p
}

// until waits for what comes soon.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for late := time.Now().Add(20 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("not so: %s", what)
		}
	}
}

// A client that no program has accepted is reset, as the kernel does with those of a backlog, however far it
// had come and in whatever order the worker hears of it and of the end.
func TestWhomNobodyAcceptsIsReset(t *testing.T) {
	greeted := func(p *program) bool { return p.l.handshakes.Len() == 1 }
	queued := func(p *program) bool { return fdio.Readable(int(p.end.Load())) }
	for _, state := range []struct {
		name   string
		client func(conn net.Conn, config *tls.Config) error // what it does before, and nil or how that has failed
		here   func(p *program) bool                         // it has come so far; nil: the program stops in the middle of the handshake
	}{
		{"silent", func(net.Conn, *tls.Config) error { return nil }, greeted},
		{"in its first words", func(conn net.Conn, _ *tls.Config) error { _, err := conn.Write([]byte{22, 3, 1}); return err }, greeted},
		{"shaking hands", func(conn net.Conn, config *tls.Config) error { return tls.Client(conn, config).Handshake() }, nil},
		{"waiting", func(conn net.Conn, config *tls.Config) error { return tls.Client(conn, config).Handshake() }, queued},
		{"waiting, with words said", func(conn net.Conn, config *tls.Config) error {
			_, err := tls.Client(conn, config).Write([]byte("words"))
			return err
		}, queued},
		{"waiting, with all said", func(conn net.Conn, config *tls.Config) error {
			client := tls.Client(conn, config)
			_, err := client.Write([]byte("words"))
			return errors.Join(err, client.CloseWrite())
		}, queued},
	} {
		for _, blind := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/blind=%v", state.name, blind), func(t *testing.T) {
				c := course{blind: blind}
				var verified atomic.Bool
				if state.here == nil {
					c.verified = func(p *program) {
						p.stop()
						for !blind && !p.l.ended() { // until it was told
							time.Sleep(time.Millisecond)
						}
						verified.Store(true)
					}
				}
				p := listening(t, c)
				conn, err := net.Dial("tcp", p.at)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				err = state.client(conn, p.client)
				if state.here != nil {
					if err != nil {
						t.Fatal(err)
					}
					until(t, "the client is there", func() bool { return state.here(p) })
					p.stop()
					if blind {
						p.front.Sweep(nil)
					}
				}
				for b := make([]byte, 1<<10); err == nil; { // tickets may come first
					_, err = conn.Read(b)
				}
				if !errors.Is(err, unix.ECONNRESET) {
					t.Errorf("the client says %v, want a reset", err)
				}
				if state.here == nil && !verified.Load() {
					t.Error("the program did not stop in the middle of the handshake")
				}
			})
		}
	}
}

// A program may have what it listens on, and have closed it again, before the worker knows that it has it.
// What it does next finds that it does not listen.
func TestWhatIsBeingHandedOverIsWaitedFor(t *testing.T) {
	for _, blind := range []bool{false, true} {
		looked := make(chan struct{})
		p := listening(t, course{blind: blind, put: func(p *program) {
			p.stop()
			go func() {
				defer close(looked)
				p.front.Stopped(p.l.session, wire.Addr{IP: p.l.local.Addr(), Port: p.l.local.Port()}, 0)
			}()
			select {
			case <-looked:
				t.Error("it was not waited for")
			case <-time.After(50 * time.Millisecond):
			}
		}})
		<-looked
		if conn, err := net.Dial("tcp", p.at); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("got %v, want a refusal", err)
			if err == nil {
				conn.Close()
			}
		}
	}
}

// A program asks before it connects to a port until nobody would let it in there any more.
func TestAPortIsAskedAboutUntilItIsFree(t *testing.T) {
	p := listening(t, course{})
	held, free := make(chan struct{}), make(chan struct{})
	go p.l.tcp.Control(func(int) { // which its close has to wait for
		close(held)
		<-free
	})
	<-held
	p.stop()
	<-p.l.stop
	port := p.l.local.Port()
	if !p.l.session.Map.IsSet(port) {
		t.Error("nobody asks any more, and the kernel still lets clients in")
	}
	close(free)
	until(t, "nobody asks any more", func() bool { return !p.l.session.Map.IsSet(port) })
	if conn, err := net.Dial("tcp", p.at); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("got %v, want a refusal", err)
		if err == nil {
			conn.Close()
		}
	}
}
