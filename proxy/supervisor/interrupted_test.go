package supervisor

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/seccomp"
	"tlswrap/proxy/session"
	"tlswrap/proxy/session/sessiontest"
	"tlswrap/proxy/target"
	"tlswrap/proxy/wire"
)

// signalled is a kernel whose thread a signal takes out of its call when a channel is to be put in place, or
// when it is to hear the answer. Without either it does in this process what it is told.
type signalled struct {
	kernel
	atPlace, atAnswer bool
	spare             int // descriptors that the worker has left for the answer, where it is not 0; -1 is none
	left              bool
	said              []int64 // what was heard: values, and errors below 0
}

func (*signalled) Hold(uint64) error { return nil }

func (s *signalled) Waits(uint64) bool { return !s.left }

func (s *signalled) Replace(_ uint64, fd, number int, _ bool) error {
	if s.left = s.left || s.atPlace; s.left {
		return unix.ENOENT
	}
	return unix.Dup3(fd, number, unix.O_CLOEXEC)
}

func (s *signalled) Return(_ uint64, value int64) error {
	if s.left = s.left || s.atAnswer; s.left {
		return unix.ENOENT
	}
	s.said = append(s.said, value)
	return nil
}

// givenBack is heard where the kernel is to make the call.
const givenBack = 1 << 40

func (s *signalled) Continue(id uint64) error { return s.Return(id, givenBack) }

func (s *signalled) Fail(id uint64, errno unix.Errno) error { return s.Return(id, -int64(errno)) }

// connection is an entry whose setup has ended when that is closed, well unless failed is set.
type connection struct {
	session.Entry
	setup  chan struct{}
	failed bool
	told   bool
}

func (c *connection) Settled() <-chan struct{} { return c.setup }

func (c *connection) Verdict(flags uint16) wire.Reply {
	select {
	case <-c.setup:
	default:
		return wire.Reply{Answer: wire.AnswerPending}
	}
	told := c.told
	c.told = flags&wire.FlagConsume != 0
	switch {
	case c.failed && told:
		return wire.Reply{Answer: wire.AnswerGone}
	case c.failed:
		return wire.Reply{Answer: wire.AnswerError, Errno: unix.ECONNREFUSED}
	case told:
		return wire.Reply{Answer: wire.AnswerIsConn}
	}
	return wire.Reply{Answer: wire.AnswerGood}
}

// program is this process in the place of a target, with a TCP socket of its own.
type program struct {
	*supervision
	fd      int
	thread  uint32
	address []byte
	entry   *connection
	begun   int // connections
}

func newProgram(t *testing.T, flags int) *program {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	poller, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{fd: fd, thread: uint32(os.Getpid()), entry: &connection{setup: make(chan struct{})}}
	p.address = formatAddress(wire.Addr{IP: netip.MustParseAddr("198.18.0.1"), Port: 1}) // a synthetic one
	s := sessiontest.New(t, nil, func() {})
	front := &Front{Log: slog.New(slog.DiscardHandler), Ask: func(call *wire.Call, req wire.Request, fds wire.Descriptors) {
		defer fds.Close()
		defer call.Close()
		id := session.NewID()
		pair, end, err := channel.New(channel.Name(id, req.Addrs[0]), false)
		if errors.Is(err, unix.EMFILE) {
			call.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.ENETDOWN})
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(pair.Close)
		s.Enter(id, p.entry)
		if call.Hand(wire.Reply{Answer: wire.AnswerChannel}, end) == nil {
			p.begun++
			return
		}
		s.Forget(id)
	}}
	p.supervision = &supervision{Front: front, session: s, questions: &questions{Names: noNames{}}, poller: poller,
		waiting: make(map[uint32]*wait), begun: make(map[uint64]*begun), told: make(map[int]bool)}
	t.Cleanup(func() {
		fdio.Close(p.fd)
		p.calls.Wait()
		poller.set.Close()
	})
	return p
}

// call answers one call as the kernel would hand it over, and returns what was heard of it.
func (p *program) call(t *testing.T, k *signalled, kind seccomp.Call, args ...uint64) []int64 {
	thread, err := target.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer thread.Close()
	p.listener = k
	w := p.supervision.begin(p.thread)
	defer p.finish(p.thread, w)
	w.alone()
	c := &call{supervision: p.supervision, Asked: seccomp.Asked{Call: kind, Wide: true}, tid: p.thread, thread: thread, wait: w}
	copy(c.Args[:], args)
	if k.spare != 0 {
		defer leave(t, max(k.spare, 0))()
	}
	c.answer()
	return k.said
}

// leave leaves this process few descriptors, until what it returns is called.
func leave(t *testing.T, spare int) (end func()) {
	t.Helper()
	most := -1
	for range spare {
		free, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(free)
		most = free
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := unix.Rlimit{Cur: uint64(most + 1), Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	return func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) }
}

func (p *program) connect(t *testing.T, k *signalled) []int64 {
	return p.call(t, k, seccomp.Connect, uint64(p.fd), at(p.address), uint64(len(p.address)))
}

func says(t *testing.T, what string, got []int64, want int64) {
	t.Helper()
	if len(got) != 1 || got[0] != want {
		t.Errorf("%s: %d, want %d", what, got, want)
	}
}

// A connect that a signal interrupts before the channel is in place goes on: the same socket is connected once,
// by the call that comes next.
func TestAnInterruptedConnectGoesOn(t *testing.T) {
	p := newProgram(t, 0)
	if heard := p.connect(t, &signalled{atPlace: true}); len(heard) > 0 {
		t.Errorf("an interrupted connect has heard %d", heard)
	}
	set := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN | unix.POLLOUT}}
	if n, _ := unix.Poll(set, 0); n != 0 {
		t.Errorf("poll tells %#x of a socket that connects", set[0].Revents)
	}
	if _, err := unix.SendmsgN(p.fd, []byte("x"), nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err != unix.EAGAIN {
		t.Errorf("send on a socket that connects: %v", err)
	}
	close(p.entry.setup)
	if n, err := unix.Poll(set, 10_000); n != 1 || set[0].Revents&unix.POLLOUT == 0 {
		t.Errorf("poll after setup: %d, %v, %#x", n, err, set[0].Revents)
	}
	says(t, "connect once more", p.connect(t, &signalled{}), 0)
	if k, err := kindOf(p.fd); err != nil || !k.ours {
		t.Errorf("the socket is no channel: %v", err)
	}
	if p.begun != 1 {
		t.Errorf("%d connections, want 1", p.begun)
	}
	says(t, "a third connect", p.connect(t, &signalled{}), -int64(unix.EISCONN))
}

// One that does not wait is in progress, however often it is interrupted.
func TestAnInterruptedNonblockingConnectIsInProgress(t *testing.T) {
	p := newProgram(t, unix.SOCK_NONBLOCK)
	p.connect(t, &signalled{atPlace: true})
	p.connect(t, &signalled{atPlace: true})
	p.connect(t, &signalled{atAnswer: true})
	says(t, "connect", p.connect(t, &signalled{}), -int64(unix.EINPROGRESS))
	says(t, "a second connect", p.connect(t, &signalled{}), -int64(unix.EALREADY))
	if p.begun != 1 {
		t.Errorf("%d connections, want 1", p.begun)
	}
}

// An answer that nobody has heard is given again, once.
func TestAnUnheardAnswerIsGivenAgain(t *testing.T) {
	p := newProgram(t, 0)
	close(p.entry.setup)
	p.connect(t, &signalled{atAnswer: true})
	p.connect(t, &signalled{atAnswer: true})
	says(t, "connect", p.connect(t, &signalled{}), 0)
	says(t, "a second connect", p.connect(t, &signalled{}), -int64(unix.EISCONN))
}

// It may be asked for from elsewhere in the program, and by another thread.
func TestAnUnheardAnswerIsTheSockets(t *testing.T) {
	for _, failed := range []bool{false, true} {
		p := newProgram(t, 0)
		p.entry.failed = failed
		want := int64(0)
		if failed {
			want = -int64(unix.ECONNREFUSED)
		}
		close(p.entry.setup)
		p.connect(t, &signalled{atAnswer: true})
		p.address = append([]byte(nil), p.address...)
		p.thread++
		says(t, "connect", p.connect(t, &signalled{}), want)
	}
}

// SO_ERROR is asked for when poll has told that setup is over, and has its end.
func TestTheErrorOfAnInterruptedConnectIsItsEnd(t *testing.T) {
	p := newProgram(t, 0)
	p.connect(t, &signalled{atPlace: true})
	value, size := make([]byte, 4), []byte{4, 0, 0, 0}
	native.PutUint32(size, 4)
	heard := make(chan []int64)
	go func() {
		heard <- p.call(t, &signalled{}, seccomp.Getsockopt, uint64(p.fd), unix.SOL_SOCKET, unix.SO_ERROR, at(value), at(size))
	}()
	select {
	case <-heard:
		t.Error("SO_ERROR was told before the end of setup")
	case <-time.After(50 * time.Millisecond):
		close(p.entry.setup)
		says(t, "getsockopt", <-heard, 0)
	}
}

// A connection whose program has closed its socket meanwhile is not kept.
func TestAnInterruptedConnectEndsWithItsSocket(t *testing.T) {
	p := newProgram(t, 0)
	p.connect(t, &signalled{atPlace: true})
	unix.Close(p.fd)
	p.fd = -1
	p.calls.Wait()
	if len(p.supervision.begun) != 0 {
		t.Error("it is kept")
	}
}
