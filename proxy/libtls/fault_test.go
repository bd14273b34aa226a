package libtls

import (
	"crypto/tls"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/libtls/engine"
	"tlswrap/proxy/session/sessiontest"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/wire"
)

// faultIn has the first guarded function panic that serves what begins so.
func faultIn(t *testing.T, prefix string) (hit func() bool) {
	t.Helper()
	done := make(chan struct{}, 1)
	guard.Fault(t, func(what string) {
		if strings.HasPrefix(what, prefix) {
			select {
			case done <- struct{}{}:
				panic("injected")
			default:
			}
		}
	})
	return func() bool { return len(done) == 1 }
}

// client makes a configuration as a program does that sets nothing.
func client(t *testing.T, l *State) *engine.Config {
	t.Helper()
	number, err := l.store.Build(make([]byte, 120)) // sizeof(struct tw_tls_settings)
	if err != nil {
		t.Fatal(err)
	}
	config, err := l.store.Config(number)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func newFaultState(t *testing.T) *State {
	s := sessiontest.New(t, nil, nil)
	return NewFront(s.Log).NewState(s)
}

func TestAPanicEndsOneStream(t *testing.T) {
	l := newFaultState(t)
	hit := faultIn(t, "libtls client")
	pr, end, err := channel.New("", true)
	if err != nil {
		t.Fatal(err)
	}
	program := os.NewFile(uintptr(end), "program")
	defer program.Close()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ends[1])
	up, err := upstream.New(ends[0])
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{id: 1, state: l, config: client(t, l), pair: pr, up: up}
	l.Enter(s.id, s)
	l.Opened()
	s.run()
	if !hit() {
		t.Fatal("nothing came there")
	}
	if _, whole := l.Find(1).(*stream); whole {
		t.Error("the connection is still there")
	}
	if n, err := unix.Read(end, make([]byte, 1)); err != unix.ECONNRESET {
		t.Errorf("the program reads %d, %v", n, err)
	}
}

func TestAPanicEndsOnePump(t *testing.T) {
	for _, what := range []string{"pump", "step of a pump"} {
		t.Run(what, func(t *testing.T) {
			l := newFaultState(t)
			hit := faultIn(t, what)
			ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			link, err := fdio.New(ends[1], "pump")
			if err != nil {
				t.Fatal(err)
			}
			program, err := fdio.New(ends[0], "program")
			if err != nil {
				t.Fatal(err)
			}
			defer program.Close()
			config := client(t, l)
			p := &pump{state: l, link: link, config: config, records: make(chan []byte), gone: make(chan struct{})}
			p.tls = config.Client(p, engine.Peer{Name: "localhost", Renegotiation: tls.RenegotiateNever})
			l.Opened()
			done := make(chan struct{})
			go func() {
				defer close(done)
				p.run()
			}()
			program.SetDeadline(time.Now().Add(20 * time.Second))
			program.Write([]byte{wire.PumpHandshake, 0, 0, 0, 0, 0, 0, 0})
			answer := make([]byte, 64)
			n, err := program.File.Read(answer)
			if what == "pump" && n > 0 || what != "pump" && !strings.Contains(string(answer[:n]), "internal error") {
				t.Errorf("the program reads %q, %v", answer[:n], err)
			}
			program.Close()
			select {
			case <-done:
			case <-time.After(20 * time.Second):
				t.Fatal("it does not end")
			}
			if !hit() {
				t.Error("nothing came there")
			}
		})
	}
}
