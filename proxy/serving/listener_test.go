package serving

import (
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/inotify"
	"tlswrap/proxy/session"
	"tlswrap/proxy/session/sessiontest"
	"tlswrap/proxy/wire"
)

func TestAUserHasNoMoreListenersThanTheMost(t *testing.T) {
	s := sessiontest.New(t, nil, nil)
	front := NewFront(slog.New(slog.DiscardHandler), nil, inotify.New(slog.New(slog.DiscardHandler)))
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

// stoppedListener is one at an address whose program has stopped to listen, of which nobody has told.
func stoppedListener(t *testing.T, f *Front, s *session.Session, at string, netns uint64) *listener {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{id: session.NewID(), front: f, session: s, fd: fd, local: netip.MustParseAddrPort(at), netns: netns}
	q, end, err := newQueue(l.id, 1)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(end)
	l.queues = []*queue{q}
	f.listeners[l.id] = l
	return l
}

// Before a connection it is looked at who listens where that goes to, and at nobody else: they may be many, or
// take long.
func TestAConnectionLooksOnlyAtWhoListensThere(t *testing.T) {
	const here, elsewhere = 7, 8 // network namespaces
	s := sessiontest.New(t, nil, nil)
	front := NewFront(slog.New(slog.DiscardHandler), nil, inotify.New(slog.New(slog.DiscardHandler)))
	front.LetGo = func() {}
	var others []*listener
	for at, netns := range map[string]uint64{"127.0.0.1:80": elsewhere, "127.0.0.2:80": here, "[::]:80": elsewhere, "127.0.0.1:81": here} {
		l := stoppedListener(t, front, s, at, netns)
		l.queues[0].using.Lock() // whoever asks about it waits
		others = append(others, l)
	}
	for _, at := range []string{"127.0.0.1:80", "0.0.0.0:80", "[::]:80", "[::ffff:127.0.0.1]:80"} {
		l := stoppedListener(t, front, s, at, here)
		done := make(chan struct{})
		go func() {
			front.Stopped(s, wire.Addr{IP: netip.MustParseAddr("127.0.0.1"), Port: 80}, here)
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("it looks at others")
		}
		if !l.closed || front.listeners[l.id] != nil {
			t.Errorf("what was listened on at %s is still there", at)
		}
	}
	for _, l := range others {
		l.queues[0].using.Unlock()
	}
	front.Stopped(s, wire.Addr{IP: netip.MustParseAddr("127.0.0.1"), Port: 80}, 0) // which is not known
	if len(front.listeners) != 2 {
		t.Errorf("%d are there, of four of which two are at another port or address", len(front.listeners))
	}
	front.Sweep(s)
	if len(front.listeners) != 0 {
		t.Errorf("%d are left", len(front.listeners))
	}
}

// A program that has got a queue of a listener that was closed meanwhile must not wait there for clients.
func TestAQueueOfAClosedListenerIsNotServed(t *testing.T) {
	s := sessiontest.New(t, nil, nil)
	front := NewFront(slog.New(slog.DiscardHandler), nil, inotify.New(slog.New(slog.DiscardHandler)))
	l := stoppedListener(t, front, s, "127.0.0.1:80", 0)
	front.close(l)
	q, end, err := newQueue(l.id, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(end)
	if served, err := l.add(q, true); served || err != nil || !q.closed {
		t.Errorf("served: %v, %v; closed: %v", served, err, q.closed)
	}
}
