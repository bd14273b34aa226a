// Package serving has the servers: the TCP sockets that programs listen on, whose clients shake
// hands with the worker before a program is told of them, and those that were accepted for a
// program that starts. PostgreSQL's clients are answered first that ask for TLS in the protocol's
// own words (SSLRequest). The private keys that clients are shown are trust's, and no program gets
// them. Once a client's handshake has ended well, relay carries the bytes. The worker hands it the
// calls of a session's programs.
//
// The program listens on an AF_UNIX socket in the place of its TCP socket, the queue, into which
// the worker puts each client by connecting to it: so blocking, polling, prefork and threads need
// no hooks. When a program has stopped to listen, nobody is let in any more (sweep.go says how
// that is known). It is larger than others because what listens, who comes, and how each of them
// ends is one state.
package serving

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/inotify"
	"tlswrap/proxy/session"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
)

// Front serves for programs of all sessions.
type Front struct {
	log    *slog.Logger
	policy func() *trust.Policy // the one in force

	watch func(path string, w inotify.Watch) (forget func(), err error)

	// LetGo closes what the worker itself has of programs' descriptors, for threads that have ended. It is
	// called before what programs listen on is looked at.
	LetGo func()

	mu        sync.Mutex
	listeners map[uint64]*listener
	blind     bool // there is a queue of which nothing would tell that it was closed
	sweeping  bool // a sweep is due
}

// NewFront serves by the policy that is in force when a client comes; by tells what is not listened on any more.
// Its fields do not change once it serves.
func NewFront(log *slog.Logger, policy func() *trust.Policy, by *inotify.Instance) *Front {
	f := &Front{log: log, policy: policy, watch: by.Add, listeners: make(map[uint64]*listener), LetGo: func() {}}
	by.WhenLost(f.goBlind)
	return f
}

// listener is a TCP socket that a program listens on, and that the worker accepts from.
// Clients whose handshake has ended well are put into the program's queue, an AF_UNIX
// socket that the program listens on instead: so accept, poll and the like need no
// worker, and a client that does not finish its handshake costs the program nothing.
type listener struct {
	id      uint64
	front   *Front
	session *session.Session
	fd      int          // the TCP socket
	tcp     *fdio.Socket // its owner, once the program has given it up
	cookie  uint64       // of the socket (SO_COOKIE)
	local   netip.AddrPort
	netns   uint64 // of the socket, or 0
	pid     int32
	slots   chan struct{} // one for each client that is not in a queue yet
	stop    chan struct{} // closed to end the service
	done    chan struct{} // closed when the worker does not accept any more
	free    chan struct{} // closed when its port is

	handshakes session.Crowd

	over bool // nobody can give it a queue any more: the front's mu has it

	mu      sync.Mutex
	service *trust.Service // as last found in the rules
	queues  []*queue
	coming  int        // queues that are being handed over: the worker may have their program's side
	settled *sync.Cond // coming has become 0
	closed  bool
}

// Limits of the clients of one listener that no program has been told of.
const (
	maxHandshakes = 1024              // beyond that the oldest has to go
	maxWaiting    = 2 * maxHandshakes // beyond that the kernel keeps them
)

// Listen takes over a socket that a program listens on, where some rule says so.
func (f *Front) Listen(call *wire.Call, s *session.Session, req wire.Request, fd int) {
	if fd < 0 {
		f.log.Warn("refused", "pid", call.PID, "uid", call.UID, "error", "listen request without a socket")
		return
	}
	local, svc, err := f.serviceOn(fd)
	inside := svc != nil && req.Name != ""
	if inside && s.Supervised() {
		inside, svc = false, nil // the kernel hands over what libc does
	}
	if err == nil && svc != nil && !inside {
		var listens int
		if listens, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); listens == 0 {
			svc = nil
		}
	}
	switch {
	case err != nil:
		unix.Close(fd)
		cannotServe(call, s, err)
	case svc == nil:
		unix.Close(fd)
		s.Pass(call)
	case svc.Broken != nil:
		unix.Close(fd)
		refuseBroken(call, s, fmt.Sprintf("listening on %s", local), svc)
	case inside:
		unix.Close(fd)
		s.Say(fmt.Sprintf("listening on %s: refused: %q listens inside libc, where nothing can be made TLS", local, req.Name))
		call.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.EACCES})
	default:
		l := &listener{front: f, session: s, fd: fd, local: local, pid: call.PID, service: svc}
		l.netns, _ = upstream.Namespace(fd)
		if err := l.begin(call); err != nil {
			s.Say(fmt.Sprintf("listening on %s: %v", local, err))
			call.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.ENETDOWN})
		}
	}
}

// begin gives the program a queue in the place of its socket. The error comes before anything was
// handed over; a failure afterwards is told here.
func (l *listener) begin(call *wire.Call) error {
	local := l.local
	l, q, end, err := l.front.enter(l)
	if err != nil {
		return err
	}
	defer l.sweep() // it may be over already
	defer l.settle()
	own, err := unix.FcntlInt(uintptr(end), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		unix.Close(end)
		l.add(q, false)
		return err
	}
	defer unix.Close(own)
	handedOver := false
	defer func() { // after a panic, too
		served, err := l.add(q, handedOver)
		if err != nil {
			l.session.Say(fmt.Sprintf("listening on %s: %v", local, err))
		}
		if !served {
			// The program may have it in place, and would wait there for ever.
			unix.Shutdown(own, unix.SHUT_RDWR)
		}
	}()
	handedOver = call.HandOver(wire.Reply{Answer: wire.AnswerChannel}, end)
	return nil
}

// cannotServe refuses a socket of which nobody can tell whether it is to be served.
func cannotServe(call *wire.Call, s *session.Session, err error) {
	s.Say(fmt.Sprintf("a socket to be served on: it cannot be told where that is: %v", err))
	call.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.ENETDOWN})
}

// refuseBroken refuses a socket that is to be served with files which are of no use.
func refuseBroken(call *wire.Call, s *session.Session, what string, svc *trust.Service) {
	s.Say(fmt.Sprintf("%s: refused: %s", what, strings.ReplaceAll(svc.Broken.Error(), "\n", "; ")))
	call.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.EACCES})
}

// serviceOn returns where a socket is bound, and what serves there: nil for nothing. An error says
// that it cannot be told.
func (f *Front) serviceOn(fd int) (local netip.AddrPort, svc *trust.Service, err error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return local, nil, os.NewSyscallError("getsockname", err)
	}
	local = wire.AddrPort(sa)
	return local, f.policy().Service(local), nil
}

// enter finds the listener of the socket that fresh has, or makes fresh one, and
// gives it one more queue, which does not count before it is added. end is the program's
// side of it. The socket is the found one's, or closed.
func (f *Front) enter(fresh *listener) (l *listener, q *queue, end int, err error) {
	cookie, err := unix.GetsockoptUint64(fresh.fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		unix.Close(fresh.fd)
		return nil, nil, -1, os.NewSyscallError("getsockopt", err)
	}
	backlog := unix.SOMAXCONN
	if info, err := unix.GetsockoptTCPInfo(fresh.fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil && info.Sacked > 0 {
		backlog = int(info.Sacked) // tcp_get_info, for a socket that listens
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	many := 0
	for _, known := range f.listeners {
		if known.over {
			continue
		}
		if known.session.User == fresh.session.User {
			many++
		}
		if known.cookie == cookie && known.session == fresh.session {
			l = known
		}
	}
	switch {
	case l != nil:
		unix.Close(fresh.fd)
	case many >= session.MostListeners:
		unix.Close(fresh.fd)
		return nil, nil, -1, fmt.Errorf("this user's programs listen at %d places already, which is the most", session.MostListeners)
	default:
		l = fresh
		l.id, l.cookie, l.handshakes.Most = session.NewID(), cookie, maxHandshakes
		l.slots, l.stop, l.done, l.free = make(chan struct{}, maxWaiting), make(chan struct{}), make(chan struct{}), make(chan struct{})
		l.settled = sync.NewCond(&l.mu)
	}
	if q, end, err = newQueue(l.id, backlog); err != nil {
		if f.listeners[l.id] == nil {
			unix.Close(fresh.fd)
		}
		return nil, nil, -1, err
	}
	l.watch(q, end)
	if f.listeners[l.id] == nil {
		l.session.Map.Hold(l.local.Port()) // see Stopped
	}
	f.listeners[l.id] = l
	l.session.Enter(l.id, l)
	l.mu.Lock()
	l.coming++
	l.mu.Unlock()
	return l, q, end, nil
}

// watch has the service end with its last queue. The caller holds the front's mu.
func (l *listener) watch(q *queue, end int) {
	if err := q.watch(l.front, end, l.sweep); err != nil && !l.front.blind {
		l.front.blind = true
		l.front.log.Error("closed listeners are found out by looking", "error", err.Error())
	}
}

// Verdict implements session.Entry: nothing is set up.
func (l *listener) Verdict(uint16) wire.Reply { return wire.Reply{Answer: wire.AnswerGone} }

// Settled implements session.Entry.
func (l *listener) Settled() <-chan struct{} { return session.AlreadySettled }

// Restart implements session.Entry: a socket that listens stays one.
func (l *listener) Restart() int { return -1 }

// Hurry implements session.Entry: a listener ends with its session.
func (l *listener) Hurry(time.Time) {}

// Waiting implements session.Entry.
func (l *listener) Waiting() int { return 0 }

// Lend implements session.Entry.
func (l *listener) Lend() int {
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

// settle notes that a queue was handed over, or was not, and that the worker has nothing of the program's
// side any more.
func (l *listener) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.coming--; l.coming == 0 {
		l.settled.Broadcast()
	}
}

// untilSettled waits while queues are being handed over.
func (l *listener) untilSettled() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.coming > 0 {
		l.settled.Wait()
	}
}

// add puts a queue to use that was handed over, if it was, and reports whether clients will come to it. The
// first begins the service: only now may the socket become non-blocking, as the program's descriptor shared that.
func (l *listener) add(q *queue, handedOver bool) (served bool, err error) {
	defer l.front.sweepLater()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !handedOver || l.closed || q.gone.Load() {
		q.close()
		return false, nil
	}
	l.queues = append(l.queues, q)
	if l.tcp != nil {
		return true, nil
	}
	if l.tcp, err = fdio.New(l.fd, "listener"); err != nil {
		l.fd = -1
		return false, err
	}
	l.front.log.Info("listening", "address", l.local.String(), "pid", l.pid, "rule", l.service.Listen.String())
	go func() {
		defer close(l.done)
		guard.Run(l.front.log, "listener", func() { l.front.abandon(l) }, l.accept)
	}()
	return true, nil
}

// accept takes clients from the kernel until the listener is closed.
func (l *listener) accept() {
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
			if !fdio.OfOneClient(err) {
				l.front.log.Error("accept", "error", err.Error())
				time.Sleep(fdio.RetryAccept)
			}
			continue
		}
		if !l.wanted() { // nobody listens any more, and nobody is let in
			resetClient(fd)
			<-l.slots
			go guard.Run(l.front.log, "sweep", nil, l.sweep) // which waits for this goroutine
			continue
		}
		go l.serve(fd, wire.AddrOf(from))
	}
}

// resetClient closes a client's socket, as the kernel does with those that a listener has not accepted.
func resetClient(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(fd)
}

// current is the service that the rules now name. One that they do not name any more, or not with
// files that are of use, goes on: the program would otherwise speak plaintext to its clients.
func (l *listener) current() *trust.Service {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.front.policy().Service(l.local); s != nil && s.Broken == nil {
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

// notListening is the end of a client that has come to a program which stops to listen.
func notListening() *verdict.Failure {
	return verdict.Failf(unix.ECONNRESET, "the program does not listen any more")
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
			return notListening()
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

// abandon ends a listener that nobody accepts for any more.
func (f *Front) abandon(l *listener) {
	go f.close(l) // which waits for who calls this
}

// close ends a service, whatever it has, and returns when its port is free. Those who sweep find it until then.
func (f *Front) close(l *listener) {
	f.mu.Lock()
	l.over = true
	f.mu.Unlock()
	l.session.Forget(l.id)
	l.close()
	f.mu.Lock()
	delete(f.listeners, l.id)
	f.mu.Unlock()
}

// ended reports whether the service has.
func (l *listener) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// close ends the service, and all clients that no program was told of. It returns when the port is free,
// and may be called again.
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
	if first {
		// Programs ask until nobody would let them in.
		defer l.session.Map.Release(l.local.Port())
	}
	if tcp == nil {
		return
	}
	if first {
		l.handshakes.Close()
		close(l.stop)
		tcp.Close()
		<-l.done // without the lock, which accept takes
		close(l.free)
	}
	<-l.free
}

// SessionEnded closes what the programs of a session have listened on.
func (f *Front) SessionEnded(s *session.Session) {
	f.mu.Lock()
	var left []*listener
	for _, l := range f.listeners {
		if l.session == s {
			left = append(left, l)
		}
	}
	f.mu.Unlock()
	for _, l := range left {
		f.close(l)
	}
}
