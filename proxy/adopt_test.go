package proxy

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

func TestProcessesOfAnAdoptedSessionShareIt(t *testing.T) {
	w, address := startWorker(t, "default = \"pass\"\n")
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() { ask(t, address, wire.Request{Op: wire.OpSweep, Token: wire.Token{1}}.Marshal(), -1) })
	}
	all.Wait()
	if n := w.maps.Len(); n != 1 {
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
			if w.run(wire.Token{1}) != nil {
				t.Error("a session has begun")
			}
		})
	}
}
