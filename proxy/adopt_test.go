package proxy

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// adopted asks for a session that the worker does not know, and returns it.
func adopted(t *testing.T, w *Worker, address string) *session {
	t.Helper()
	token := wire.Token{1}
	ask(t, address, wire.Request{Op: wire.OpSweep, Token: token}.Marshal(), -1)
	s := w.session(token)
	if s == nil {
		t.Fatal("the worker did not adopt the session")
	}
	return s
}

// What the worker before may have known is not taken for nothing.
func TestAdoptedSessionRefusesWhatItCannotTell(t *testing.T) {
	w, address := startWorker(t, `
[[rule]]
host = "*.wild.test"
port = 25
addresses = "real"
[[rule]]
host = "ftp.test"
port = 21
starttls = "ftp"
`)
	w.resolver.lookup = resolves(map[string]string{"ftp.test": "192.0.2.2"})
	s := adopted(t, w, address)
	refused := func(addr string, port uint16, why string) {
		t.Helper()
		_, failure := identifyWith(t, w, s, addr, port)
		if failure == nil || failure.Errno != unix.EHOSTUNREACH || !strings.Contains(failure.Reason, why) {
			t.Errorf("%s:%d: %v", addr, port, failure)
		}
	}
	passes := func(addr string, port uint16) {
		t.Helper()
		if got, failure := identifyWith(t, w, s, addr, port); failure != nil || got.decision.Action != rules.Pass {
			t.Errorf("%s:%d: %+v, %v", addr, port, got, failure)
		}
	}
	refused("198.18.0.1", 25, "did not give out")
	refused("192.0.2.1", 25, "the worker before this one showed 192.0.2.1")
	passes("192.0.2.1", 26)
	refused("192.0.2.2", 1024, "data connection")
	s.names.adopted = s.names.adopted.Add(-keepData)
	passes("192.0.2.2", 1024)

	show := func(name, addr string) {
		t.Helper()
		r := w.resolveNames(s, wire.Request{Name: name, Addrs: []wire.Addr{{IP: netip.MustParseAddr(addr)}}}, -1)
		if r.Answer != wire.AnswerAddrs {
			t.Fatalf("%s: %v", name, r.Errno)
		}
	}
	show("nobody.test", "192.0.2.1") // now the program means that
	passes("192.0.2.1", 25)
	show("a.wild.test", "192.0.2.1")
	if got, failure := identifyWith(t, w, s, "192.0.2.1", 25); failure != nil || got.name != "a.wild.test" {
		t.Errorf("a name that was shown: %+v, %v", got, failure)
	}
}

func TestProcessesOfAnAdoptedSessionShareIt(t *testing.T) {
	w, address := startWorker(t, "default = \"pass\"\n")
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() { ask(t, address, wire.Request{Op: wire.OpSweep, Token: wire.Token{1}}.Marshal(), -1) })
	}
	all.Wait()
	w.maps.mu.Lock()
	defer w.maps.mu.Unlock()
	if n := len(w.maps.all); n != 1 {
		t.Errorf("there are the maps of %d sessions", n)
	}
}

// The worker of a single run has one session, and no other user's program begins any.
func TestSessionsThatAreNotAdopted(t *testing.T) {
	for name, config := range map[string]Config{"single run": {EndWithSessions: true}, "another user": {}} {
		t.Run(name, func(t *testing.T) {
			config.Load = func() (*rules.Policy, error) { return rules.Parse("/rules.toml", []byte("default = \"pass\"\n")) }
			w, err := New(config)
			if err != nil {
				t.Fatal(err)
			}
			dir, err := os.MkdirTemp("", "tlswrap-adopt-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			os.Chmod(dir, 0o755)
			at := filepath.Join(dir, "control")
			l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: at, Net: "unixpacket"})
			if err != nil {
				t.Fatal(err)
			}
			os.Chmod(at, 0o666)
			go w.Serve(t.Context(), l)
			answered := make(chan []byte)
			go func() {
				runtime.LockOSThread() // for good: the thread ends with its user
				if !config.EndWithSessions {
					if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
						t.Errorf("this test needs root: %v", errno)
					}
				}
				answered <- ask(t, at, wire.Request{Op: wire.OpSweep, Token: wire.Token{1}}.Marshal(), -1)
			}()
			if got := <-answered; len(got) > 0 {
				t.Errorf("it was answered: %q", got)
			}
			if w.session(wire.Token{1}) != nil {
				t.Error("a session has begun")
			}
		})
	}
}

// Programs that still have the map of a session or a worker that has ended ask.
func TestMapsThatEndHaveAllPortsSet(t *testing.T) {
	m := newSharedMaps()
	ended, left := newTestMap(t, m, false), newTestMap(t, m, false)
	program, err := unix.Mmap(ended.fd, 0, wire.MapSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(program)
	ended.close()
	if left.isSet(42) || program[42/8] != 0xff || program[wire.MapPorts+42/8] != 0xff {
		t.Error("the map of a session that ended has clear ports, or another has not")
	}
	m.shut()
	m.change(new(rules.PortMap), new(rules.PortMap), func() {})
	if !left.isSet(42) || left.memory[wire.MapPorts+42/8] != 0xff {
		t.Error("the map of a worker that ends has clear ports")
	}
}
