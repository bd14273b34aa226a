package proxy

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/told"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// listener is a TCP socket that a program listens on, and that the worker accepts from.
// Clients whose handshake has ended well are put into the program's queue, an AF_UNIX
// socket that the program listens on instead: so accept, poll and the like need no
// worker, and a client that does not finish its handshake costs the program nothing.
type listener struct {
	id      uint64
	worker  *Worker
	session *session
	fd      int          // the TCP socket
	tcp     *fdio.Socket // its owner, once the program has given it up
	cookie  uint64       // of the socket (SO_COOKIE)
	local   netip.AddrPort
	pid     int32
	slots   chan struct{} // one for each client that is not in a queue yet
	stop    chan struct{} // closed to end the service
	done    chan struct{} // closed when the worker does not accept any more

	handshakes crowd

	mu      sync.Mutex
	service *trust.Service // as last found in the rules
	queues  []*queue
	coming  int // queues that are being handed over
	closed  bool
}

// Limits of the clients of one listener that no program has been told of.
const (
	maxHandshakes = 1024              // beyond that the oldest has to go
	maxWaiting    = 2 * maxHandshakes // beyond that the kernel keeps them
)

// listen takes over a socket that a program listens on, where some rule says so.
func (c *caller) listen(s *session, fd int) {
	if fd < 0 {
		c.refuse(fmt.Errorf("listen request without a socket"))
		return
	}
	w := c.worker
	local, svc, err := w.serviceOn(fd)
	if err == nil && svc != nil {
		var listens int
		if listens, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); listens == 0 {
			svc = nil
		}
	}
	if err != nil {
		unix.Close(fd)
		c.cannotServe(s, err)
		return
	}
	if svc == nil {
		unix.Close(fd)
		c.pass(s, nil)
		return
	}
	l, q, end, err := w.newListener(s, fd, local, svc, c.PID)
	if err != nil {
		s.Say(fmt.Sprintf("listening on %s: %v", local, err))
		c.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.ENETDOWN})
		return
	}
	own, err := unix.FcntlInt(uintptr(end), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		unix.Close(end)
		l.add(q, false)
		s.Say(fmt.Sprintf("listening on %s: %v", local, err))
		c.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.ENETDOWN})
		return
	}
	defer unix.Close(own)
	ok := c.HandOver(wire.Reply{Answer: wire.AnswerChannel}, end)
	if err = l.add(q, ok); err != nil {
		s.Say(fmt.Sprintf("listening on %s: %v", local, err))
	}
	if !ok || err != nil {
		// The program may have it in place, and would wait there for ever.
		unix.Shutdown(own, unix.SHUT_RDWR)
	}
}

// cannotServe refuses a socket of which nobody can tell whether it is to be served.
func (c *caller) cannotServe(s *session, err error) {
	s.Say(fmt.Sprintf("a socket to be served on: it cannot be told where that is: %v", err))
	c.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.ENETDOWN})
}

// serviceOn returns where a socket is bound, and what serves there: nil for nothing. An error says
// that it cannot be told.
func (w *Worker) serviceOn(fd int) (local netip.AddrPort, svc *trust.Service, err error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return local, nil, os.NewSyscallError("getsockname", err)
	}
	local = wire.AddrPort(sa)
	return local, w.policy.Load().Service(local), nil
}

// newListener finds the listener of the socket fd, which it takes over, or makes it, and
// gives it one more queue, which does not count before it is added. end is the program's
// side of it.
func (w *Worker) newListener(s *session, fd int, local netip.AddrPort, svc *trust.Service, pid int32) (l *listener, q *queue, end int, err error) {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		unix.Close(fd)
		return nil, nil, -1, os.NewSyscallError("getsockopt", err)
	}
	backlog := unix.SOMAXCONN
	if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil && info.Sacked > 0 {
		backlog = int(info.Sacked) // tcp_get_info, for a socket that listens
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	many := 0
	for _, known := range w.listeners {
		if known.session.user == s.user {
			many++
		}
		if known.cookie == cookie && known.session == s {
			l = known
		}
	}
	switch {
	case l != nil:
		unix.Close(fd)
	case many >= mostListeners:
		unix.Close(fd)
		return nil, nil, -1, fmt.Errorf("this user's programs listen at %d places already, which is the most", mostListeners)
	default:
		l = &listener{worker: w, session: s, fd: fd, cookie: cookie, local: local, pid: pid, service: svc,
			handshakes: crowd{most: maxHandshakes},
			slots:      make(chan struct{}, maxWaiting), stop: make(chan struct{}), done: make(chan struct{})}
		var id [8]byte
		rand.Read(id[:])
		l.id = binary.NativeEndian.Uint64(id[:])
	}
	if q, end, err = newQueue(l.id, backlog); err != nil {
		if w.listeners[l.id] == nil {
			unix.Close(fd)
		}
		return nil, nil, -1, err
	}
	w.listeners[l.id] = l
	l.mu.Lock()
	l.coming++
	l.mu.Unlock()
	return l, q, end, nil
}

// listener finds a session's listener.
func (w *Worker) listener(s *session, id uint64) *listener {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.listeners[id]; l != nil && l.session == s {
		return l
	}
	return nil
}

// borrow returns a descriptor of the TCP socket, or -1.
func (l *listener) borrow() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return -1
	}
	fd, err := unix.FcntlInt(uintptr(l.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

// add puts a queue to use that was handed over, if it was. The first begins the service:
// only now may the socket become non-blocking, as the program's descriptor shared that.
func (l *listener) add(q *queue, handedOver bool) error {
	defer l.worker.sweepLater()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.coming--
	if !handedOver || l.closed {
		q.close()
		return nil
	}
	l.queues = append(l.queues, q)
	if l.tcp != nil {
		return nil
	}
	var err error
	if l.tcp, err = fdio.New(l.fd, "listener"); err != nil {
		l.fd = -1
		return err
	}
	l.worker.log.Info("listening", "address", l.local.String(), "pid", l.pid, "rule", l.service.Listen.String())
	go l.accept()
	return nil
}

// oneClients are the errors of accept(2) that belong to one client, who is gone.
var oneClients = []error{unix.ECONNABORTED, unix.EINTR, unix.EPERM, unix.ETIMEDOUT, unix.ENETDOWN, unix.EPROTO,
	unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.ENONET, unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH}

// accept takes clients from the kernel until the listener is closed.
func (l *listener) accept() {
	defer close(l.done)
	defer guard.Recover(l.worker.log, "listener", nil)
	for {
		var (
			fd   int
			from unix.Sockaddr
			err  error
		)
		select {
		case l.slots <- struct{}{}:
		case <-l.stop:
			return
		}
		e := l.tcp.WhenReadable(func(own int) bool {
			fd, from, err = unix.Accept4(own, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return err != unix.EAGAIN
		})
		if e != nil {
			return
		}
		if err != nil {
			<-l.slots
			if err == unix.EINVAL {
				return // somebody has shut the socket down
			}
			if !slices.Contains(oneClients, err) {
				l.worker.log.Error("accept", "error", err.Error())
				time.Sleep(retryAccept)
			}
			continue
		}
		if !l.wanted() { // nobody listens any more, and nobody is let in
			resetClient(fd)
			<-l.slots
			if l.worker.forgetListener(l) {
				go l.close() // which waits for this goroutine
				return
			}
			continue
		}
		go l.serve(fd, wire.AddrOf(from))
	}
}

// wanted reports whether a program listens, or is about to. It is asked once a client is here: who
// comes after the program has stopped is not served.
func (l *listener) wanted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queues) > 0 {
		if l.queues[0].alive().Possibly() {
			return true
		}
		l.queues[0].close()
		l.queues = l.queues[1:]
	}
	return l.coming > 0
}

// resetClient closes a client's socket, as the kernel does with those that a listener has not accepted.
func resetClient(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(fd)
}

// serve is a client's goroutine.
func (l *listener) serve(fd int, peer wire.Addr) {
	var ch *connection
	defer guard.Recover(l.worker.log, "client", func() {
		if ch != nil {
			ch.drop()
		}
	})
	if ch = l.greet(fd, peer); ch != nil {
		ch.announce()
		ch.relay()
	}
}

// greet shakes hands with a client, and puts it into a program's queue. nil: there is
// nobody to serve.
func (l *listener) greet(fd int, peer wire.Addr) *connection {
	defer func() { <-l.slots }()
	up, err := upstream.New(fd)
	if err != nil {
		return nil
	}
	ch := l.worker.newServed(l.session, l.current(), up, peer, l.pid)
	whole := false
	end := func() { up.SetDeadline(fdio.Past) }
	here, there := l.handshakes.enter(end), l.session.user.handshakes.enter(end)
	defer func() {
		if !whole { // a panic
			l.handshakes.leave(here)
			l.session.user.handshakes.leave(there)
			ch.drop()
		}
	}()
	failure := ch.guard(ch.shakeHands)
	few, fewInAll := l.handshakes.leave(here), l.session.user.handshakes.leave(there)
	switch {
	case !few:
		failure = verdict.Failf(unix.EPROTO, "more than %d clients did not finish their handshakes, and this one had begun first", maxHandshakes)
	case !fewInAll:
		failure = verdict.Failf(unix.EPROTO, "more than %d clients of this user's programs did not finish their handshakes, and this one had begun first", mostHandshakes)
	}
	if failure == nil {
		failure = l.deliver(ch)
	}
	whole = true
	if failure != nil {
		ch.reject(failure)
		return nil
	}
	return ch
}

// current is the service that the rules now name. One that they do not name any more
// goes on: the program would otherwise speak plaintext to its clients.
func (l *listener) current() *trust.Service {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.worker.policy.Load().Service(l.local); s != nil {
		l.service = s
	}
	return l.service
}

// next returns the queue whose turn it is, or nil, and a descriptor of its file for the
// caller alone: the queue may be closed meanwhile, and its number be another's.
func (l *listener) next() (q *queue, path int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queues) == 0 {
		return nil, -1, nil
	}
	q = l.queues[0]
	l.queues = append(l.queues[1:], q) // programs that have queues of their own take turns
	path, err = unix.FcntlInt(uintptr(q.fd), unix.F_DUPFD_CLOEXEC, 0)
	return q, path, err
}

// deliver puts a client into the queue of a program, which may ask about it at once: it has its
// pair, and can be found, before.
func (l *listener) deliver(ch *connection) *verdict.Failure {
	fd, err := boundSocket(channel.Name(ch.id, ch.Target.Addr))
	if err == nil {
		ch.pair, err = channel.Accepted(fd, l.session.token[:])
	}
	if err != nil {
		return verdict.Failf(unix.ENETDOWN, "no channel: %v", err)
	}
	l.worker.enter(ch)
	failure := l.enqueue(ch.pair)
	if failure != nil {
		ch.pair.Abandon()
	}
	return failure
}

// enqueue connects a pair to the first queue that a program listens on.
func (l *listener) enqueue(pr *channel.Pair) *verdict.Failure {
	for {
		q, path, err := l.next()
		if err != nil {
			return verdict.Failf(unix.ENETDOWN, "no channel: %v", err)
		}
		if q == nil {
			l.sweep()
			return verdict.Failf(unix.ECONNRESET, "the program does not listen any more")
		}
		if e := pr.Control(func(fd int) { err = q.connect(path, fd) }); e != nil {
			err = e
		}
		unix.Close(path)
		if err == nil {
			return nil
		}
		if err != unix.ECONNREFUSED {
			return verdict.Failf(unix.ENETDOWN, "no channel: %v", err)
		}
		l.drop(q)
	}
}

// drop forgets a queue that no program listens on any more.
func (l *listener) drop(q *queue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.queues {
		if l.queues[i] == q {
			l.queues = append(l.queues[:i:i], l.queues[i+1:]...)
			q.close()
			return
		}
	}
}

// sweep drops the queues that no program listens on any more, and closes a listener
// without one. It returns when its port is free.
func (l *listener) sweep() {
	l.mu.Lock()
	var alive []*queue
	for _, q := range l.queues {
		if q.alive().Possibly() {
			alive = append(alive, q)
		} else {
			q.close()
		}
	}
	l.queues = alive
	l.mu.Unlock()
	if l.worker.forgetListener(l) {
		l.close()
	}
}

// forgetListener drops a listener without a queue, and reports whether it did: then
// nobody can give it one any more.
func (w *Worker) forgetListener(l *listener) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queues) > 0 || l.coming > 0 {
		return false
	}
	delete(w.listeners, l.id)
	return true
}

// close ends the service. It returns when the port is free, and may be called again.
func (l *listener) close() {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	for _, q := range l.queues {
		q.close()
	}
	l.queues = nil
	tcp := l.tcp
	if first && tcp == nil {
		unix.Close(l.fd)
	}
	l.mu.Unlock()
	if tcp == nil {
		return
	}
	if first {
		close(l.stop)
		tcp.Close()
	}
	<-l.done // without the lock, which accept takes
}

// sweepEvery is how long a port can stay in use that a program has stopped to listen on,
// where neither a client nor another program wants it: those are seen at once, and turned away.
const sweepEvery = 2 * time.Second

// sweep closes what programs have stopped to listen on.
func (w *Worker) sweep() {
	w.mu.Lock()
	all := make([]*listener, 0, len(w.listeners))
	for _, l := range w.listeners {
		all = append(all, l)
	}
	w.mu.Unlock()
	for _, l := range all {
		l.sweep()
	}
}

// sweepLater sweeps as long as there are listeners.
func (w *Worker) sweepLater() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sweeping || len(w.listeners) == 0 {
		return
	}
	w.sweeping = true
	time.AfterFunc(sweepEvery, guard.Func(w.log, "sweep", func() {
		w.sweep()
		w.mu.Lock()
		w.sweeping = false
		w.mu.Unlock()
		w.sweepLater()
	}))
}

// queue is what a program listens on in the place of its TCP socket. The file that it was
// bound to is gone: the worker alone can connect to it, by a descriptor of that file.
type queue struct {
	mu sync.Mutex // for connects that wait for room
	fd int        // O_PATH
}

// newQueue makes a queue, and the program's side of it, which the caller closes.
func newQueue(id uint64, backlog int) (q *queue, end int, err error) {
	end, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, os.NewSyscallError("socket", err)
	}
	q = &queue{}
	if q.fd, err = bindUnlinked(end, fmt.Sprintf("tlswrap-listen-%016x", id)); err == nil {
		if err = os.NewSyscallError("listen", unix.Listen(end, backlog)); err == nil {
			return q, end, nil
		}
		unix.Close(q.fd)
	}
	unix.Close(end)
	return nil, -1, err
}

// bindUnlinked binds a socket to a file, which it removes again, and returns a descriptor
// of that. A path of the file system, unlike an abstract name, cannot be connected to by
// those who only know it.
func bindUnlinked(fd int, name string) (int, error) {
	var err error
	for _, parent := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/dev/shm", "/run"} {
		if parent == "" {
			continue
		}
		var dir string
		if dir, err = os.MkdirTemp(parent, "tlswrap-"); err != nil { // mode 0700
			continue
		}
		defer os.Remove(dir)
		path := filepath.Join(dir, name)
		if err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrUnix{Name: path})); err != nil {
			continue
		}
		defer os.Remove(path)
		file, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		return file, os.NewSyscallError("open", err)
	}
	return -1, err
}

func queueAddr(path int) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d", path)}
}

// boundSocket makes a socket with the abstract address name.
func boundSocket(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name}); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// connect connects a non-blocking socket by a descriptor of the queue's file, and waits while
// the queue is full. unix.ECONNREFUSED: the program does not listen any more.
func (q *queue) connect(path, fd int) error {
	err := unix.Connect(fd, queueAddr(path))
	if err == unix.EAGAIN {
		// poll(2) does not tell when there is room: a thread has to wait, but just one.
		q.mu.Lock()
		defer q.mu.Unlock()
		if err = unix.SetNonblock(fd, false); err == nil {
			for err = unix.EINTR; err == unix.EINTR; {
				err = unix.Connect(fd, queueAddr(path))
			}
			if e := unix.SetNonblock(fd, true); err == nil {
				err = e
			}
		}
	}
	return err
}

// alive reports whether a program still listens: a socket of another type is told so
// (EPROTOTYPE), and nobody notices.
func (q *queue) alive() told.Answer {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return told.Answer{}
	}
	defer unix.Close(fd)
	switch unix.Connect(fd, queueAddr(q.fd)) {
	case unix.EPROTOTYPE:
		return told.If(true)
	case unix.ECONNREFUSED:
		return told.If(false)
	}
	return told.Answer{}
}

func (q *queue) close() { unix.Close(q.fd) }

// serviceRule is how a service's connections are named, and what they go by.
func serviceRule(s *trust.Service) rules.Decision {
	return rules.Decision{Action: rules.TLS, Rule: s.Listen.Rule}
}
