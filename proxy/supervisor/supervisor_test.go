package supervisor

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/guard"
	"tlswrap/proxy/seccomp"
	"tlswrap/proxy/session"
	"tlswrap/proxy/session/sessiontest"
	"tlswrap/proxy/thread"
	"tlswrap/proxy/wire"
	"tlswrap/tests/testkit"
)

// noNames are those of a session without rules about names.
type noNames struct{}

func (noNames) Shown(_ string, addrs []netip.Addr) ([]netip.Addr, error) { return addrs, nil }
func (noNames) Covers(string) bool                                       { return false }
func (noNames) Say(string)                                               {}
func (noNames) Needs() (known, must bool)                                { return false, false }

// underFilter calls f on a thread that is under a filter, and that another goroutine answers for. The
// session, to which no rule applies, is over when this returns.
func underFilter(t *testing.T, f func()) {
	ended := make(chan struct{})
	s := sessiontest.New(t, nil, func() { close(ended) })
	front := &Front{
		Log:   slog.New(slog.DiscardHandler),
		Ask:   func(call *wire.Call, _ wire.Request, fds wire.Descriptors) { fds.Close(); call.Close() },
		Names: func(*session.Session) Names { return noNames{} },
	}
	var err error
	thread.Run(func() {
		var l seccomp.Listener
		if l, err = seccomp.Install(seccomp.Policy{Cookie: 1}); err != nil {
			return
		}
		var life, pending int
		if life, pending, err = front.Supervise(s, int(l)); err == nil {
			defer unix.Close(life)
			defer unix.Close(pending)
			f()
		}
	})
	if errors.Is(err, unix.EBUSY) {
		testkit.KernelLacks(t, "this process is under another's filter")
	}
	if err != nil {
		t.Fatal(err)
	}
	<-ended // once no thread is under the filter
}

func listenTCP(t *testing.T) *unix.SockaddrInet4 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &unix.SockaddrInet4{Port: l.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}
}

func dial(to unix.Sockaddr, flags int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, to)
}

// A panic ends one call, with an errno, and the next one is answered.
func TestAPanicEndsOneCall(t *testing.T) {
	to := listenTCP(t)
	var left atomic.Int32
	left.Store(1)
	guard.Fault(t, func(what string) {
		if what == "notification" && left.Add(-1) == 0 {
			panic("a fault")
		}
	})
	var first, second error
	underFilter(t, func() { first, second = dial(to, 0), dial(to, 0) })
	if first != unix.ENETDOWN || second != nil {
		t.Errorf("the call with the panic: %v, the next: %v", first, second)
	}
}

// What no rule is about is connected as the kernel would have.
func TestPassedConnects(t *testing.T) {
	to := listenTCP(t)
	closed := &unix.SockaddrInet4{Port: 1, Addr: to.Addr}
	var blocking, nonblocking, refused, datagram error
	underFilter(t, func() {
		blocking, nonblocking, refused = dial(to, 0), dial(to, unix.SOCK_NONBLOCK), dial(closed, 0)
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Connect(fd, to)
			unix.Close(fd)
		}
		datagram = err
	})
	if blocking != nil || (nonblocking != nil && nonblocking != unix.EINPROGRESS) || refused != unix.ECONNREFUSED || datagram != nil {
		t.Errorf("blocking: %v, non-blocking: %v, refused: %v, a datagram socket: %v", blocking, nonblocking, refused, datagram)
	}
}

// What is accepted has the timeouts of what it was accepted from, and not those that another call sets there
// for a moment.
func TestAMomentsTimeoutIsNotInherited(t *testing.T) {
	var ends [2]int
	for i := range ends {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		ends[i] = fd
	}
	listener, accepted := ends[0], ends[1]
	given := make(chan struct{})
	if _, err := briefly(listener, unix.SO_RCVTIMEO, func() error {
		go func() {
			defer close(given)
			likeListener(accepted, listener)
		}()
		select {
		case <-given:
		case <-time.After(50 * time.Millisecond): // it waits
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	<-given
	if tv, err := unix.GetsockoptTimeval(accepted, unix.SOL_SOCKET, unix.SO_RCVTIMEO); err != nil || *tv != (unix.Timeval{}) {
		t.Errorf("it has %v, %v", tv, err)
	}
}
