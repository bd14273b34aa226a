package proxy

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/told"
	"tlswrap/rules"
)

// requestTime is how long a peer may take over each message.
const requestTime = 10 * time.Second

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
	worker *Worker
	fd     int
	socket *fdio.Socket // fd's owner, once it had to be waited for
	cred   *unix.Ucred
}

func (c *caller) close() {
	if c.socket != nil {
		c.socket.Close()
	} else if c.fd >= 0 {
		unix.Close(c.fd)
	}
}

// serve answers one connection, and closes it.
func (w *Worker) serve(fd int) {
	c := &caller{worker: w, fd: fd}
	defer c.close()
	defer w.guard("request", nil)
	var err error
	if c.cred, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
		w.log.Warn("refused", "error", err.Error())
		return
	}
	req, fds, err := c.receive()
	if err != nil {
		c.refuse(err)
		return
	}
	s := w.session(req.token)
	if s == nil {
		if s, err = c.open(req, &fds); err != nil {
			fds.close()
			c.refuse(err)
			return
		}
	}
	c.join(s, req, &fds)
	if req.isTLS() {
		c.answerTLS(s, req, fds)
	} else {
		c.answer(s, req, fds.take())
	}
}

// refuse notes a peer that is not served.
func (c *caller) refuse(err error) {
	c.worker.log.Warn("refused", "pid", c.cred.Pid, "uid", c.cred.Uid, "error", err.Error())
}

// join notes that the peer's process belongs to the session.
func (c *caller) join(s *session, req request, fds *descriptors) {
	p := process{pid: c.cred.Pid}
	sent := -1 // by the shim, which has no standard error to send
	if req.op == opHello && req.flags&flagStderr == 0 {
		sent = fds.take()
	}
	if p.pid != 0 && s.has(p) {
		fdio.Close(sent)
		return
	}
	pidfd := c.pidfd(sent)
	if pidfd < 0 {
		s.heard()
		return
	}
	if p.pid == 0 {
		var numbered bool
		if p.inode, numbered = pidfdInode(pidfd); !numbered {
			// Linux before 6.9. Every process says hello once.
			if req.op != opHello {
				unix.Close(pidfd)
				return
			}
			p.inode = newID()
		}
	}
	s.enter(p, pidfd)
}

// pidfd returns a descriptor for the peer's process, or -1 where it is gone already. sent,
// which it takes over, is what the process itself has sent as one, or -1.
func (c *caller) pidfd(sent int) int {
	// SO_PEERPIDFD cannot meet a process id that was used again, but is new (Linux 6.5).
	fd, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err == nil {
		fdio.Close(sent)
		return fd
	}
	if isPidfd(sent) {
		return sent
	}
	fdio.Close(sent)
	if fd, err = unix.PidfdOpen(int(c.cred.Pid), 0); err != nil {
		return -1
	}
	return fd
}

// isPidfd reports whether a descriptor tells of a process's end.
func isPidfd(fd int) bool {
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	return err == nil && (name == "anon_inode:[pidfd]" || strings.HasPrefix(name, "pidfd:"))
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

// descriptors came with a request.
type descriptors []int

// take returns the first, which is the caller's to close, or -1.
func (d *descriptors) take() int {
	if len(*d) == 0 {
		return -1
	}
	fd := (*d)[0]
	*d = (*d)[1:]
	return fd
}

// close closes those that were not taken.
func (d descriptors) close() {
	for _, fd := range d {
		unix.Close(fd)
	}
}

// mostDescriptors come with a request of libtls's; others have one at most.
const mostDescriptors = 3

// receive reads one request, with the descriptors that came along.
func (c *caller) receive() (request, descriptors, error) {
	var (
		data [requestMax + 1]byte
		oob  [64]byte
	)
	n, oobn, flags, err := c.read(data[:], oob[:])
	if err != nil {
		return request{}, nil, fmt.Errorf("reading a control request: %w", err)
	}
	fds, err := parseDescriptors(oob[:oobn])
	req, perr := parseRequest(data[:n])
	most := 1
	if req.isTLS() {
		most = mostDescriptors
	}
	switch {
	case err != nil:
	case perr != nil:
		err = perr
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || len(fds) > most:
		err = fmt.Errorf("control request with too much in it, or no room for its descriptor")
	}
	if err != nil {
		fds.close()
		return request{}, nil, err
	}
	return req, fds, nil
}

// read receives one message. It is there already, as a rule.
func (c *caller) read(data, oob []byte) (n, oobn, flags int, err error) {
	try := func(fd int) bool {
		// A caller that sends and closes at once may do both after the kernel found the
		// queue empty and before it looks for the end (__unix_dgram_recvmsg in
		// net/unix/af_unix.c), so an end is believed the second time.
		for range 2 {
			err = fdio.Again(func() (e error) {
				n, oobn, flags, _, e = unix.Recvmsg(fd, data, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
				return e
			})
			if n > 0 || err != nil {
				break
			}
		}
		return err != unix.EAGAIN
	}
	if try(c.fd) {
		return n, oobn, flags, err
	}
	if c.socket == nil {
		if c.socket, err = fdio.New(c.fd, "control"); err != nil {
			c.fd = -1
			return 0, 0, 0, err
		}
	}
	c.socket.SetReadDeadline(time.Now().Add(requestTime))
	if e := c.socket.WhenReadable(try); e != nil {
		err = e
	}
	return n, oobn, flags, err
}

// parseDescriptors takes the descriptors out of a control message; the caller owns them,
// also those that come with an error.
func parseDescriptors(oob []byte) (descriptors, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds descriptors
	for _, m := range messages {
		got, e := unix.ParseUnixRights(&m)
		if e != nil {
			err = e
			continue
		}
		fds = append(fds, got...)
	}
	return fds, err
}

// send answers, with a descriptor where fd is not negative. The peer's queue is empty,
// so it is not waited for; one that is gone is no error of ours.
func (c *caller) send(r interface{ marshal() []byte }, fd int) error {
	if fd < 0 {
		return c.sendWith(r)
	}
	return c.sendWith(r, fd)
}

func (c *caller) sendWith(r interface{ marshal() []byte }, fds ...int) error {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	return unix.Sendmsg(c.fd, r.marshal(), oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// pass lets the program make its native call, and others like it without asking, as long as
// it can tell that this worker lives.
func (c *caller) pass(s *session, addrs []sockAddr) {
	r := reply{answer: answerPass, addrs: addrs}
	if life, err := lifeFile(); err == nil && s.shared.fd >= 0 {
		c.sendWith(r, s.shared.fd, life)
	} else {
		c.sendWith(r)
	}
}

// open begins a session. tlswrap says hello with its standard error before it becomes the
// program. Whoever asks a long-lived worker without that is a program of one that died: its
// session goes on here.
func (c *caller) open(req request, fds *descriptors) (*session, error) {
	hello := req.op == opHello && req.flags&flagStderr != 0
	if !hello && c.worker.config.EndWithSessions {
		return nil, fmt.Errorf("control request for no session of this worker")
	}
	if !c.worker.allowed(c.cred.Uid) {
		if hello {
			c.send(reply{answer: answerError, errno: unix.EACCES}, -1)
		}
		return nil, fmt.Errorf("user %d may not use this worker", c.cred.Uid)
	}
	var v *voice
	if hello {
		var stderr *os.File
		if fd := fds.take(); fd >= 0 {
			stderr = os.NewFile(uintptr(fd), "stderr")
		}
		v = newVoice(stderr, req.flags&flagVerbose != 0, req.flags&flagQuiet != 0)
	}
	s, err := c.worker.newSession(req.token, c.cred.Uid, v)
	if err == errManySessions && hello {
		c.send(reply{answer: answerError, errno: unix.ENETDOWN}, -1)
	}
	return s, err
}

// answer does what a request asks. It owns fd.
func (c *caller) answer(s *session, req request, fd int) {
	switch req.op {
	case opConnect:
		c.connect(s, req, fd)
		return
	case opListen:
		c.listen(s, fd)
		return
	case opAccept:
		c.accepted(s, fd)
		return
	}
	if fd >= 0 {
		defer unix.Close(fd)
	}
	switch req.op {
	case opHello:
		if req.flags&flagStderr != 0 {
			c.send(reply{answer: answerGood}, -1) // tlswrap waits for it
		}
	case opVerdict:
		c.verdict(s, req)
	case opUpstream, opRestart:
		c.lend(s, req)
	case opNames:
		s.noteProxyName(c.worker.policy.Load(), c.cred.Pid, req.name, req.addrs)
		c.send(c.worker.resolveNames(s, req, fd), -1)
	case opAddress:
		c.send(c.addressReply(s, req), -1)
	case opExec:
		c.send(c.inspect(s, req, fd), -1)
	case opSweep:
		c.worker.sweep()
		c.send(reply{answer: answerGood}, -1)
	default:
		c.worker.log.Warn("refused", "pid", c.cred.Pid, "error", fmt.Sprintf("control request of unknown kind %d", req.op))
	}
}

// connect decides about one connection, and begins it.
func (c *caller) connect(s *session, req request, fd int) {
	if fd < 0 || len(req.addrs) != 1 {
		c.worker.log.Warn("refused", "pid", c.cred.Pid, "error", "connect request without a socket or an address")
		if fd >= 0 {
			unix.Close(fd)
		}
		return
	}
	w := c.worker
	w.warmRoots()
	p := w.policy.Load()
	t, failure := w.identify(s, p, req.addrs[0])
	if failure == nil && t.decision.Action == rules.Deny {
		failure = failf(unix.EACCES, "refused: a rule denies it")
		if t.decision.Rule == nil {
			failure = failf(unix.EACCES, "refused: no rule allows it")
		}
	}
	if failure == nil && t.decision.Action != rules.Pass && req.name != "" {
		failure = failf(unix.EACCES, "refused: %q connects inside libc, where it cannot be made TLS", req.name)
	}
	if failure != nil {
		unix.Close(fd)
		w.report(s, "failed", t, c.cred.Pid, failure)
		c.send(reply{answer: answerError, errno: failure.Errno}, -1)
		return
	}
	// A socket that is connected or listening cannot begin anything: the native call
	// says so.
	if t.decision.Action == rules.Pass || !unconnected(fd).Possibly() {
		defer unix.Close(fd)
		why := "no rule"
		if t.decision.Rule != nil {
			why = "a rule passes it"
		}
		w.reportPass(s, t, c.cred.Pid, why)
		if t.decision.Action == rules.Pass {
			w.noteProxy(s, p, t, c.cred.Pid)
		}
		c.pass(s, []sockAddr{t.addr})
		return
	}
	ch, end, err := w.newChannel(s, p.trustFor(t), t, req.addrs[0], c.cred.Pid)
	if err != nil {
		unix.Close(fd)
		failure := failf(unix.ENETDOWN, "no channel: %v", err)
		w.report(s, "failed", t, c.cred.Pid, failure)
		c.send(reply{answer: answerError, errno: failure.Errno}, -1)
		return
	}
	c.begin(ch, end, fd)
}

// begin hands the program's end over, and starts the connection once it is in place, with the
// socket that the program has made for it like fd, its own.
func (c *caller) begin(ch *channel, end, fd int) {
	defer unix.Close(fd)
	err := c.hand(reply{answer: answerChannel}, end)
	var like likeness
	var failure *Failure
	if err == nil {
		like, failure = likenessOf(fd) // while the program puts its end in place
	}
	taken, fresh, ok := c.taken(err)
	if !ok || fresh < 0 {
		fdio.Close(fresh)
		ch.abandon()
		return
	}
	if failure == nil {
		failure = like.give(fresh, fd)
	}
	if ch.up, err = newUpstream(fresh); err != nil {
		ch.abandon()
		return
	}
	ch.setTold(taken.flags&flagConsume != 0)
	close(ch.taken)
	go ch.run(failure)
}

// handOver gives the program what is to stand in the place of its socket, and closes it here. Where
// the program could not put it in place, its socket was not touched.
func (c *caller) handOver(r interface{ marshal() []byte }, end int) bool {
	_, stray, ok := c.taken(c.hand(r, end))
	fdio.Close(stray)
	return ok
}

// hand sends an answer with what is to stand in the place of the program's socket, and closes that
// here.
func (c *caller) hand(r interface{ marshal() []byte }, end int) error {
	defer unix.Close(end)
	return c.send(r, end)
}

// taken receives the message that what was handed is in place, unless handing it failed, and the
// descriptor that came with it: sent, or -1.
func (c *caller) taken(handed error) (taken request, sent int, ok bool) {
	if handed != nil {
		return taken, -1, false
	}
	taken, fds, err := c.receive()
	sent = fds.take()
	fds.close()
	return taken, sent, err == nil && taken.op == opTaken
}

func (c *caller) verdict(s *session, req request) {
	if s.libtls.knows(req.channel) {
		// TCP was connected before, and still is.
		r := reply{answer: answerGood}
		if req.flags&flagConsume != 0 {
			r.answer = answerIsConn
		}
		c.send(r, -1)
		return
	}
	ch := c.worker.channel(s, req.channel)
	if ch == nil {
		c.send(reply{answer: answerGone}, -1)
		return
	}
	if req.flags&flagUntold != 0 {
		<-ch.taken // opTaken came first, by another connection, and may still be read
		ch.setTold(false)
	}
	c.send(ch.verdict(req.flags&flagConsume != 0), -1)
}

// lend passes the upstream: for one call, or for good and disconnected.
func (c *caller) lend(s *session, req request) {
	if t := s.libtls.stream(req.channel); t != nil && req.op == opUpstream {
		c.lendStream(t)
		return
	}
	fd := -1
	ch := c.worker.channel(s, req.channel)
	if l := c.worker.listener(s, req.channel); l != nil && req.op == opUpstream {
		fd = l.borrow()
	} else if ch != nil {
		<-ch.taken
		if ch.up != nil {
			ch.up.Control(func(own int) { fd, _ = unix.FcntlInt(uintptr(own), unix.F_DUPFD_CLOEXEC, 0) })
		}
	}
	if fd < 0 {
		c.send(reply{answer: answerGone}, -1)
		return
	}
	defer unix.Close(fd)
	if req.op == opRestart {
		// Nothing of the old connection may come upon the new one.
		ch.pair.close()
		ch.up.SetDeadline(past)
		<-ch.ended
		ch.up.Close()
		c.worker.forget(ch.id)
		if fdio.Disconnect(fd) != nil {
			c.send(reply{answer: answerGone}, -1)
			return
		}
	}
	c.send(reply{answer: answerFD}, fd)
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

// resolveNames says which addresses a program is to see for a name. fd is the program's
// /etc/hosts, or -1.
func (w *Worker) resolveNames(s *session, req request, fd int) reply {
	r := reply{answer: answerAddrs, addrs: req.addrs}
	refuse := func(name string, err error) reply {
		w.say(s, fmt.Sprintf("%s: %v", name, err))
		return reply{answer: answerError, errno: unix.EADDRNOTAVAIL}
	}
	name, err := hostName(req.name)
	if err != nil {
		return refuse(fmt.Sprintf("%q", req.name), err)
	}
	if name == "" {
		return r
	}
	w.warmRoots()
	p := w.policy.Load().rules
	l := lookedUp{name: name}
	for _, a := range req.addrs {
		l.ips = append(l.ips, a.real())
	}
	if fd >= 0 {
		if l.hosts, err = w.hosts.read(fd); err != nil {
			return refuse(name, err)
		}
	}
	if name, err = w.meant(p, l); err != nil {
		return refuse(l.name, err)
	}
	for i, a := range req.addrs {
		ip := a.real()
		if id, ok := s.names.lookup(ip); ok && id.name == name {
			continue // it has been here before
		}
		covered := p.MayCover(name, ip)
		if !covered && !w.resolver.collides(ip, p.AllExactNames()) {
			if s.adopted {
				s.names.show(ip, name) // where there is no room for it, connecting to it is refused
			}
			continue
		}
		if req.flags&flagDatagram != 0 || (covered && p.WantsRealAddresses(name, ip)) {
			if covered {
				err = s.names.show(ip, name)
			}
		} else {
			if ip, err = s.names.forIdentity(identity{name, ip, a.scope}); err == nil {
				r.addrs[i] = a.with(ip, 0)
			}
		}
		if err != nil {
			return refuse(name, err)
		}
	}
	return r
}

// addressReply says what a synthetic address stands for.
func (c *caller) addressReply(s *session, req request) reply {
	if len(req.addrs) != 1 {
		return reply{answer: answerGone}
	}
	id, ok := s.names.lookup(req.addrs[0].real())
	if !ok {
		if req.flags&flagDestination != 0 {
			c.worker.report(s, "failed", target{addr: req.addrs[0]}, c.cred.Pid, nobody(req.addrs[0].real()))
		}
		return reply{answer: answerGone}
	}
	return reply{answer: answerAddrs, name: id.name, addrs: []sockAddr{req.addrs[0].with(id.ip, id.scope)}}
}
