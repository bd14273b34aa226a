package proxy

import (
	"crypto/rand"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/report"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/wire"
)

func TestAUserHasNoMoreSessionsThanTheMost(t *testing.T) {
	w, address := startWorker(t, "default = \"pass\"\n")
	u := w.user(uint32(os.Geteuid()))
	var some []wire.Token
	w.mu.Lock()
	for range mostSessions {
		var token wire.Token
		rand.Read(token[:])
		w.sessions[token] = &session{worker: w, user: u, Reporter: &report.Reporter{Log: w.log, Voice: report.NewVoice(nil, false, true)}}
		some = append(some, token)
	}
	w.mu.Unlock()
	var token wire.Token
	rand.Read(token[:])
	if _, err := Greet(address, anybody, token, os.Stderr, false, true); err == nil || !strings.Contains(err.Error(), "4096 sessions") {
		t.Errorf("got %v", err)
	}
	w.mu.Lock()
	delete(w.sessions, some[0])
	w.mu.Unlock()
	if _, err := Greet(address, anybody, token, os.Stderr, false, true); err != nil {
		t.Errorf("with room: %v", err)
	}
}

func TestAUserHasNoMoreListenersThanTheMost(t *testing.T) {
	w, address := startWorker(t, "default = \"pass\"\n")
	token, _ := greet(t, address)
	s := w.session(token)
	w.mu.Lock()
	for i := range mostListeners {
		w.listeners[uint64(i)] = &listener{session: s}
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		clear(w.listeners)
	}()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	local := l.Addr().(*net.TCPAddr).AddrPort()
	if _, _, _, err := w.newListener(s, fd, local, nil, 1); err == nil || !strings.Contains(err.Error(), "1024 places") {
		t.Errorf("got %v", err)
	}
}

func TestTheOldestHandshakeOfACrowdEnds(t *testing.T) {
	c := crowd{most: 2}
	var ups []*upstream.Conn
	var members []*member
	for range 3 {
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(ends[1])
		up, err := upstream.New(ends[0])
		if err != nil {
			t.Fatal(err)
		}
		defer up.Close()
		up.SetDeadline(time.Now().Add(time.Minute))
		ups = append(ups, up)
		members = append(members, c.enter(func() { up.SetDeadline(fdio.Past) }))
	}
	if _, err := ups[0].Read(make([]byte, 1)); !os.IsTimeout(err) {
		t.Errorf("the oldest reads on: %v", err)
	}
	if c.leave(members[0]) || !c.leave(members[1]) || !c.leave(members[2]) {
		t.Error("another than the oldest had to go")
	}
}
