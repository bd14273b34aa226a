// Package supervisor answers the calls on sockets that the kernel hands over (package seccomp): those of
// programs that have no shim, be they static, of another C library, or started without it, and those that
// pass the shim by. It is a second kind of caller beside the shim and does for a program what that would
// have done: it shows the worker's fronts the same requests, puts the channel in the socket's place, and
// answers on the channel as TCP would. It is called a supervisor, and the program's thread its target, as
// in seccomp_unotify(2). It is larger than others because it is all that the shim is to other programs: each
// call has an answer of its own.
//
// What decides is read once and is not looked at again: a connect of TCP's, a listen, and what goes to an
// address of its own are made here, on a copy of the program's socket, and never by the kernel in the
// target's name, which would read memory again that another thread can change.
package supervisor

import (
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/dns"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/seccomp"
	"tlswrap/proxy/session"
	"tlswrap/proxy/target"
	"tlswrap/proxy/tracer"
	"tlswrap/proxy/wire"
)

// Front supervises programs of all sessions. Its fields do not change.
type Front struct {
	Log *slog.Logger
	// Ask has a request answered, as one that came by the control socket; it closes the call, and takes
	// over fds. A call that is not answered at all is refused.
	Ask func(call *wire.Call, req wire.Request, fds wire.Descriptors)
	// Serve answers what a program asks by a connection, and takes that over.
	Serve func(fd int, by wire.Caller)
	// Names is what look-ups of a session's programs go by.
	Names func(s *session.Session) Names

	accepting accepts
}

// supervision is of one session's programs, all of which are under one filter.
type supervision struct {
	*Front
	session   *session.Session
	listener  kernel
	questions *questions
	poller    *poller
	pending   *seccomp.Pending
	calls     sync.WaitGroup // that are being answered

	mu      sync.Mutex
	waiting map[uint32]*wait  // by thread
	begun   map[uint64]*begun // by the socket's inode
	told    map[int]bool      // processes of which a person knows that they are out of reach
}

// Supervise takes over the listener of a filter, and answers its notifications in a goroutine of its own
// for as long as a process is under that filter. The session lasts as long. What it returns is for whoever
// keeps the listener as well, the caller's to close: life has POLLHUP to tell when nobody answers any more,
// and pending is seccomp.Pending's file.
func (f *Front) Supervise(s *session.Session, listener int) (life, pending int, err error) {
	n, err := newNotifier(listener)
	if err != nil {
		return -1, -1, err
	}
	return f.answer(s, n)
}

// Trace is Supervise without a listener: for a thread of a process, which is about to put a filter under
// itself whose calls stop for a tracer. The error says what would allow it.
func (f *Front) Trace(s *session.Session, pid, tid int) error {
	t, err := tracer.Trace(f.Log, pid, tid, seccomp.Cookie(s.Token.Cookie()))
	if err != nil {
		return err
	}
	life, pending, err := f.answer(s, t)
	fdio.Close(life) // what is traced ends with the worker
	fdio.Close(pending)
	return err
}

// answer takes over from.
func (f *Front) answer(s *session.Session, from kernel) (life, pendingFile int, err error) {
	fail := func(err error) (int, int, error) {
		from.Close()
		return -1, -1, err
	}
	poller, err := newPoller()
	if err != nil {
		return fail(err)
	}
	pending, pendingFile, err := seccomp.NewPending()
	if err != nil {
		poller.set.Close()
		return fail(err)
	}
	// Of sockets, as those end also where the worker is to and cannot (fdio.Sever).
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		poller.set.Close()
		pending.Close()
		unix.Close(pendingFile)
		return fail(os.NewSyscallError("socketpair", err))
	}
	names := f.Names(s)
	v := &supervision{Front: f, session: s, listener: from, questions: &questions{Names: names, resolver: dns.New(names, f.Log)},
		poller: poller, pending: pending, waiting: make(map[uint32]*wait), begun: make(map[uint64]*begun), told: make(map[int]bool)}
	s.Hold()
	go guard.Run(f.Log, "poller", nil, poller.run)
	go func() {
		defer s.Release()
		defer unix.Close(ends[1])
		defer s.EndSupervision()
		defer pending.Close()
		defer from.Close()
		defer poller.set.Close()
		defer v.questions.resolver.Close()
		guard.Run(f.Log, "notifications", nil, v.receive)
		v.calls.Wait() // the session is needed as long
	}()
	return ends[0], pendingFile, nil
}

// receive takes notifications until there is no process any more to send one.
func (v *supervision) receive() {
	for {
		n, err := v.listener.Receive()
		if err != nil {
			return
		}
		w := v.begin(n.TID)
		slot := v.pending.Add(n.ID)
		v.calls.Go(func() {
			defer v.finish(n.TID, w)
			defer v.pending.Done(slot)
			guard.Run(v.Log, "notification", func() { v.listener.Fail(n.ID, unix.ENETDOWN) }, func() { v.handle(n, w) })
		})
	}
}

// call is one call of a target.
type call struct {
	*supervision
	seccomp.Asked
	id     uint64
	tid    uint32             // of the thread
	thread *target.Thread     // nil where it cannot be reached
	known  bool               // that thread is the one that made the call
	inode  uint64             // of the socket in the first argument, once that is known
	look   chan chan struct{} // see acceptance; nil for other calls
	placed bool               // a channel has come into that socket's place, whose connect was interrupted
	*wait
	release func() // frees what the answer has, once that is given; nil for nothing
	// answered is called when the answer has been given, with whether the target has heard it, where the next
	// call on the socket finds out what it has not. It is nil where an answer is kept for the thread.
	answered func(heard bool)
}

// waits reports whether the thread still waits for its answer: what was found by its number before is then
// its own.
func (c *call) waits() bool {
	c.known = c.listener.Waits(c.id)
	return c.known
}

// answers are how each kind of call is answered.
var answers = map[seccomp.Call]func(*call) answer{
	seccomp.Connect:     (*call).connect,
	seccomp.Bind:        (*call).bind,
	seccomp.Listen:      (*call).listen,
	seccomp.Accept:      (*call).accept,
	seccomp.Accept4:     (*call).accept4,
	seccomp.Getsockname: (*call).getsockname,
	seccomp.Getpeername: (*call).getpeername,
	seccomp.Getsockopt:  (*call).getsockopt,
	seccomp.Setsockopt:  (*call).setsockopt,
	seccomp.Sendto:      (*call).sendto,
	seccomp.Sendmsg:     (*call).sendmsg,
	seccomp.Sendmmsg:    (*call).sendmmsg,
	seccomp.Reach:       (*call).reach,
}

// handle answers one notification.
func (v *supervision) handle(n seccomp.Notification, w *wait) {
	w.alone()
	asked, ok := n.Asked()
	if !ok {
		v.listener.Fail(n.ID, unix.ENOSYS)
		return
	}
	c := call{supervision: v, Asked: asked, id: n.ID, tid: n.TID, wait: w}
	thread, err := target.OpenWith(int(n.TID), c.getter())
	if err != nil {
		c.unreachable(err)(v.listener, n.ID)
		return
	}
	defer thread.Close()
	c.thread = thread
	if c.InMemory {
		if err := c.readArguments(); err != nil {
			c.unreachable(err)(v.listener, n.ID)
			return
		}
	}
	if w.interrupts(c.Asked) {
		v.listener.Fail(n.ID, unix.EINTR)
		return
	}
	c.answer()
}

// answer answers the call, unless that was done before and not heard.
func (c *call) answer() {
	a := c.heardBefore()
	if a == nil {
		a = answers[c.Call](c)
	}
	c.give(a)
}

// getter is how the target's descriptors are got where the kernel gives none, or nil.
func (c *call) getter() func(number int) (int, error) {
	g, ok := c.listener.(getter)
	if !ok {
		return nil
	}
	return func(number int) (int, error) { return g.Descriptor(c.id, number) }
}

// readArguments reads those of socketcall(2): six longs of a 32-bit program's, or fewer.
func (c *call) readArguments() error {
	var b [24]byte
	n, err := c.thread.Read(c.Args[1], b[:])
	if err != nil {
		return err
	}
	c.Args = [6]uint64{}
	for i := 0; i+4 <= n; i += 4 {
		c.Args[i/4] = uint64(native.Uint32(b[i:]))
	}
	return nil
}
