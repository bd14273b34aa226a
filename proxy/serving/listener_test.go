package serving

import (
	"log/slog"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/session"
	"tlswrap/proxy/session/sessiontest"
)

func TestAUserHasNoMoreListenersThanTheMost(t *testing.T) {
	s := sessiontest.New(t, nil, nil)
	front := NewFront(slog.New(slog.DiscardHandler), nil)
	for i := range session.MostListeners {
		front.listeners[uint64(i)] = &listener{session: s}
	}
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
	if _, _, _, err := front.enter(&listener{front: front, session: s, fd: fd, local: local}); err == nil || !strings.Contains(err.Error(), "1024 places") {
		t.Errorf("got %v", err)
	}
}
