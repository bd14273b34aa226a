package proxy

import (
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/names"
	"tlswrap/proxy/report"
	"tlswrap/proxy/told"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// accept serves the callers of the control socket until it is closed, and returns why it
// could not go on.
func (w *Worker) accept(listener *fdio.Socket) error {
	for {
		var (
			fd  int
			err error
		)
		e := listener.WhenReadable(func(own int) bool {
			fd, _, err = unix.Accept4(own, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return err != unix.EAGAIN
		})
		if e != nil {
			return e
		}
		switch err {
		case nil:
			go w.serve(fd)
		case unix.EINTR, unix.ECONNABORTED:
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			// The next connection that closes makes room. Callers wait in the backlog.
			w.log.Error("accept", "error", err.Error())
			time.Sleep(retryAccept)
		default:
			if slices.Contains(oneClients, err) {
				continue
			}
			return os.NewSyscallError("accept4", err)
		}
	}
}

// retryAccept is the pause after the worker ran out of descriptors or memory.
const retryAccept = 20 * time.Millisecond

// caller is one connection to the control socket.
type caller struct {
	*wire.Call
	worker *Worker
}

// serve answers one connection, and closes it.
func (w *Worker) serve(fd int) {
	defer guard.Recover(w.log, "request", nil)
	call, err := wire.NewCall(fd)
	if err != nil {
		w.log.Warn("refused", "error", err.Error())
		return
	}
	c := &caller{call, w}
	defer c.Close()
	req, fds, err := c.Receive()
	if err != nil {
		c.refuse(err)
		return
	}
	s := w.session(req.Token)
	if s == nil {
		if s, err = c.open(req, &fds); err != nil {
			fds.Close()
			c.refuse(err)
			return
		}
	}
	c.join(s, req, &fds)
	if req.IsTLS() {
		c.answerTLS(s, req, fds)
	} else {
		c.answer(s, req, fds.Take())
	}
}

// refuse notes a peer that is not served.
func (c *caller) refuse(err error) {
	c.worker.log.Warn("refused", "pid", c.PID, "uid", c.UID, "error", err.Error())
}

// join notes that the peer's process belongs to the session.
func (c *caller) join(s *session, req wire.Request, fds *wire.Descriptors) {
	p := process{pid: c.PID}
	sent := -1 // by the shim, which has no standard error to send
	if req.Op == wire.OpHello && req.Flags&wire.FlagStderr == 0 {
		sent = fds.Take()
	}
	if p.pid != 0 && s.has(p) {
		fdio.Close(sent)
		return
	}
	pidfd := c.Pidfd(sent)
	if pidfd < 0 {
		s.heard()
		return
	}
	if p.pid == 0 {
		var numbered bool
		if p.inode, numbered = pidfdInode(pidfd); !numbered {
			// Linux before 6.9. Every process says hello once.
			if req.Op != wire.OpHello {
				unix.Close(pidfd)
				return
			}
			p.inode = newID()
		}
	}
	s.enter(p, pidfd)
}

// pidfdInode returns the number that the kernel gives a process's pidfds, where it does: until
// Linux 6.9 all have the same.
func pidfdInode(fd int) (inode uint64, ok bool) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Fstatfs(fd, &fs) != nil || fs.Type != unix.PID_FS_MAGIC || unix.Fstat(fd, &st) != nil {
		return 0, false
	}
	return st.Ino, true
}

// pass lets the program make its native call, and others like it without asking, as long as
// it can tell that this worker lives.
func (c *caller) pass(s *session, addrs []wire.Addr) {
	r := wire.Reply{Answer: wire.AnswerPass, Addrs: addrs}
	if life, err := lifeFile(); err == nil && s.shared.FD >= 0 {
		c.Send(r, s.shared.FD, life)
	} else {
		c.Send(r)
	}
}

// open begins a session. tlswrap says hello with its standard error before it becomes the
// program. Whoever asks a long-lived worker without that is a program of one that died: its
// session goes on here.
func (c *caller) open(req wire.Request, fds *wire.Descriptors) (*session, error) {
	hello := req.Op == wire.OpHello && req.Flags&wire.FlagStderr != 0
	if !hello && c.worker.config.EndWithSessions {
		return nil, fmt.Errorf("control request for no session of this worker")
	}
	if !c.worker.allowed(c.UID) {
		if hello {
			c.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.EACCES})
		}
		return nil, fmt.Errorf("user %d may not use this worker", c.UID)
	}
	var v *report.Voice
	if hello {
		var stderr *os.File
		if fd := fds.Take(); fd >= 0 {
			stderr = os.NewFile(uintptr(fd), "stderr")
		}
		v = report.NewVoice(stderr, req.Flags&wire.FlagVerbose != 0, req.Flags&wire.FlagQuiet != 0)
	}
	s, err := c.worker.newSession(req.Token, c.UID, v)
	if err == errManySessions && hello {
		c.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.ENETDOWN})
	}
	return s, err
}

// answer does what a request asks. It owns fd.
func (c *caller) answer(s *session, req wire.Request, fd int) {
	switch req.Op {
	case wire.OpConnect:
		c.connect(s, req, fd)
		return
	case wire.OpListen:
		c.listen(s, fd)
		return
	case wire.OpAccept:
		c.accepted(s, fd)
		return
	}
	if fd >= 0 {
		defer unix.Close(fd)
	}
	switch req.Op {
	case wire.OpHello:
		if req.Flags&wire.FlagStderr != 0 {
			c.Send(wire.Reply{Answer: wire.AnswerGood}) // tlswrap waits for it
		}
	case wire.OpVerdict:
		c.verdict(s, req)
	case wire.OpUpstream, wire.OpRestart:
		c.lend(s, req)
	case wire.OpNames:
		if c.worker.policy.Load().HasURLHosts() {
			s.proxied.NoteName(c.PID, req.Name, req.Addrs)
		}
		c.Send(c.worker.resolveNames(s, req, fd))
	case wire.OpAddress:
		c.Send(c.addressReply(s, req))
	case wire.OpExec:
		c.Send(c.inspect(s, req, fd))
	case wire.OpSweep:
		c.worker.sweep()
		c.Send(wire.Reply{Answer: wire.AnswerGood})
	default:
		c.worker.log.Warn("refused", "pid", c.PID, "error", fmt.Sprintf("control request of unknown kind %d", req.Op))
	}
}

// connect decides about one connection, and begins it.
func (c *caller) connect(s *session, req wire.Request, fd int) {
	if fd < 0 || len(req.Addrs) != 1 {
		c.worker.log.Warn("refused", "pid", c.PID, "error", "connect request without a socket or an address")
		if fd >= 0 {
			unix.Close(fd)
		}
		return
	}
	w := c.worker
	trust.WarmRoots()
	p := w.policy.Load()
	a, failure := w.identify(s, p, req.Addrs[0])
	t := a.Target
	if failure == nil && t.Decision.Action == rules.Deny {
		failure = verdict.Failf(unix.EACCES, "refused: a rule denies it")
		if t.Decision.Rule == nil {
			failure = verdict.Failf(unix.EACCES, "refused: no rule allows it")
		}
	}
	if failure == nil && t.Decision.Action != rules.Pass && req.Name != "" {
		failure = verdict.Failf(unix.EACCES, "refused: %q connects inside libc, where it cannot be made TLS", req.Name)
	}
	if failure != nil {
		unix.Close(fd)
		s.Failed("failed", t, c.PID, failure)
		c.Send(wire.Reply{Answer: wire.AnswerError, Errno: failure.Errno})
		return
	}
	// A socket that is connected or listening cannot begin anything: the native call
	// says so.
	if t.Decision.Action == rules.Pass || !unconnected(fd).Possibly() {
		defer unix.Close(fd)
		why := "no rule"
		if t.Decision.Rule != nil {
			why = "a rule passes it"
		}
		s.Passed(t, c.PID, why)
		if t.Decision.Action == rules.Pass {
			if p.HasURLHosts() {
				for _, line := range s.proxied.NotePassed(c.PID, t, p.URLHosts) {
					s.Say(line)
				}
			}
		}
		c.pass(s, []wire.Addr{t.Addr})
		return
	}
	ch, end, err := w.newChannel(s, p, a, req.Addrs[0], c.PID)
	if err != nil {
		unix.Close(fd)
		failure := verdict.Failf(unix.ENETDOWN, "no channel: %v", err)
		s.Failed("failed", t, c.PID, failure)
		c.Send(wire.Reply{Answer: wire.AnswerError, Errno: failure.Errno})
		return
	}
	c.begin(ch, end, fd)
}

// begin hands the program's end over, and starts the connection once it is in place, with the
// socket that the program has made for it like fd, its own.
func (c *caller) begin(ch *connection, end, fd int) {
	defer unix.Close(fd)
	err := c.Hand(wire.Reply{Answer: wire.AnswerChannel}, end)
	var like upstream.Likeness
	var failure *verdict.Failure
	if err == nil {
		like, failure = upstream.LikenessOf(fd) // while the program puts its end in place
	}
	taken, fresh, ok := c.Taken(err)
	if !ok || fresh < 0 {
		fdio.Close(fresh)
		ch.abandon()
		return
	}
	if failure == nil {
		failure = like.Give(fresh, fd)
	}
	if ch.up, err = upstream.New(fresh); err != nil {
		ch.abandon()
		return
	}
	ch.setTold(taken.Flags&wire.FlagConsume != 0)
	close(ch.taken)
	go ch.run(failure)
}

func (c *caller) verdict(s *session, req wire.Request) {
	if s.libtls.knows(req.Channel) {
		// TCP was connected before, and still is.
		r := wire.Reply{Answer: wire.AnswerGood}
		if req.Flags&wire.FlagConsume != 0 {
			r.Answer = wire.AnswerIsConn
		}
		c.Send(r)
		return
	}
	ch := c.worker.channel(s, req.Channel)
	if ch == nil {
		c.Send(wire.Reply{Answer: wire.AnswerGone})
		return
	}
	if req.Flags&wire.FlagUntold != 0 {
		<-ch.taken // opTaken came first, by another connection, and may still be read
		ch.setTold(false)
	}
	c.Send(ch.verdict(req.Flags&wire.FlagConsume != 0))
}

// lend passes the upstream: for one call, or for good and disconnected.
func (c *caller) lend(s *session, req wire.Request) {
	if t := s.libtls.stream(req.Channel); t != nil && req.Op == wire.OpUpstream {
		c.lendStream(t)
		return
	}
	fd := -1
	ch := c.worker.channel(s, req.Channel)
	if l := c.worker.listener(s, req.Channel); l != nil && req.Op == wire.OpUpstream {
		fd = l.borrow()
	} else if ch != nil {
		<-ch.taken
		if ch.up != nil {
			ch.up.Control(func(own int) { fd, _ = unix.FcntlInt(uintptr(own), unix.F_DUPFD_CLOEXEC, 0) })
		}
	}
	if fd < 0 {
		c.Send(wire.Reply{Answer: wire.AnswerGone})
		return
	}
	defer unix.Close(fd)
	if req.Op == wire.OpRestart {
		// Nothing of the old connection may come upon the new one.
		ch.pair.Close()
		ch.up.SetDeadline(fdio.Past)
		<-ch.ended
		ch.up.Close()
		c.worker.forget(ch.id)
		if fdio.Disconnect(fd) != nil {
			c.Send(wire.Reply{Answer: wire.AnswerGone})
			return
		}
	}
	c.Send(wire.Reply{Answer: wire.AnswerFD}, fd)
}

// unconnected tells whether a TCP socket is neither connected nor listening.
func unconnected(fd int) told.Answer {
	const tcpClose = 7 // include/net/tcp_states.h
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return told.Answer{}
	}
	return told.If(info.State == tcpClose)
}

// resolveNames answers a program that has looked a name up.
func (w *Worker) resolveNames(s *session, req wire.Request, fd int) wire.Reply {
	trust.WarmRoots()
	addrs, err := w.resolver.Answer(s.names, w.policy.Load().Rules, req, fd)
	if err != nil {
		s.Say(err.Error())
		return wire.Reply{Answer: wire.AnswerError, Errno: unix.EADDRNOTAVAIL}
	}
	return wire.Reply{Answer: wire.AnswerAddrs, Addrs: addrs}
}

// addressReply says what a synthetic address stands for.
func (c *caller) addressReply(s *session, req wire.Request) wire.Reply {
	if len(req.Addrs) != 1 {
		return wire.Reply{Answer: wire.AnswerGone}
	}
	id, ok := s.names.Lookup(req.Addrs[0].Real())
	if !ok {
		if req.Flags&wire.FlagDestination != 0 {
			s.Failed("failed", names.Target{Addr: req.Addrs[0]}, c.PID, names.Nobody(req.Addrs[0].Real()))
		}
		return wire.Reply{Answer: wire.AnswerGone}
	}
	return wire.Reply{Answer: wire.AnswerAddrs, Name: id.Name, Addrs: []wire.Addr{req.Addrs[0].With(id.IP, id.Scope)}}
}
