package supervisor

import (
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/names"
	"tlswrap/proxy/session"
	"tlswrap/proxy/wire"
)

// connect answers connect(2).
func (c *call) connect() answer {
	to, refusal := c.readAddress(c.Args[1], c.Args[2])
	if refusal != nil {
		return refusal
	}
	done, refusal := c.connectTo(to)
	if refusal != nil {
		return refusal
	}
	done.close()
	return value(0)
}

// connectTo makes the connection, and returns the socket that has it then; or the answer, where that is
// not that it is there.
func (c *call) connectTo(to address) (k kind, refusal answer) {
	if k, refusal = c.socket(); refusal != nil {
		return k, refusal
	}
	if k.ours {
		connected, refusal := c.connectAgain(&k, to)
		if refusal != nil {
			k.close()
		}
		if connected || refusal != nil {
			return k, refusal
		}
	}
	asks, refusal := c.asksServer(&k, to)
	switch {
	case refusal != nil:
	case asks:
		if refusal = c.enterRoom(&k); refusal == nil {
			refusal = c.connectNative(&k, to.raw)
		}
	case k.possiblyTCP() && to.internet:
		refusal = c.connectTCP(&k, to)
	case k.internet():
		refusal = c.connectOther(&k, to)
	case k.domain == unix.AF_SMC: // which speaks TCP below
		refusal = fail(unix.EAFNOSUPPORT)
	case to.internet:
		// No socket of another family takes that. The kernel would find another, where a thread has put it there.
		refusal = c.failed(connect(k.fd, to.raw))
	default:
		// A server at an AF_UNIX socket looks at who connects.
		refusal = natively
	}
	if refusal != nil {
		k.close()
	}
	return k, refusal
}

// connectTCP asks what is to become of a connection of TCP's, and makes it.
func (c *call) connectTCP(k *kind, to address) answer {
	if c.session.Map.Silent(to.Port) && !names.IsSynthetic(to.Real()) {
		return c.connectNative(k, to.raw) // no rule does more there than pass
	}
	s := swap{call: c, number: int(int32(c.Args[0])), old: k.fd, end: -1}
	defer s.close()
	reply := c.ask(wire.Request{Op: wire.OpConnect, Addrs: []wire.Addr{to.Addr}}, k.fd, wire.Local{Put: s.putConnection, Fresh: s.fresh})
	switch reply.Answer {
	case wire.AnswerError:
		return fail(reply.Errno)
	case wire.AnswerPass:
		if len(reply.Addrs) != 1 {
			return fail(unix.ENETDOWN)
		}
		return c.connectNative(k, formatAddress(reply.Addrs[0]))
	case wire.AnswerChannel:
	default:
		return fail(unix.ENETDOWN)
	}
	if s.failure != nil {
		return s.failure
	}
	if s.interrupted {
		c.goOn(&s, k)
		return nobody
	}
	nonblocking := k.nonblocking()
	limit := timeoutOf(k.fd, unix.SO_SNDTIMEO)
	k.close()
	var err error
	if *k, err = s.channel(); err != nil {
		k.fd = -1
		return fail(unix.ENETDOWN)
	}
	if nonblocking {
		return fail(unix.EINPROGRESS)
	}
	return c.awaitChannel(k, limit, unix.EINPROGRESS)
}

// awaitChannel waits until setup has ended, as a blocking connect does: late is how it ends when its time
// is over.
func (c *call) awaitChannel(k *kind, limit time.Duration, late unix.Errno) answer {
	e := c.session.Find(k.id)
	if e == nil {
		return fail(unix.ECONNRESET)
	}
	switch c.await(e.Settled(), limit) {
	case nil:
		return c.finishConnect(k, e)
	case unix.EAGAIN:
		return fail(late)
	}
	return nobody
}

// finishConnect reports how setup has ended, once, and only to a thread that hears it; nil is a good end.
func (c *call) finishConnect(k *kind, e session.Entry) answer {
	if !c.waits() {
		return nobody
	}
	switch reply := e.Verdict(wire.FlagConsume); reply.Answer {
	case wire.AnswerGood:
		c.tell(e, -1)
		// Whether it has broken since is not to be taken off the socket.
		if events(k.fd)&(unix.POLLERR|unix.POLLHUP) != 0 {
			return fail(unix.ECONNRESET)
		}
		return nil
	case wire.AnswerIsConn:
		return fail(unix.EISCONN)
	case wire.AnswerError:
		c.tell(e, k.fd)
		if reply.Errno == 0 {
			return fail(unix.ENETDOWN)
		}
		return fail(reply.Errno)
	}
	return fail(unix.ECONNRESET)
}

// tell has the call's answer tell how setup has ended: where nobody hears it that is still to be told, and
// otherwise the error that the channel has from it is no news any more. A channel of -1 has none.
func (c *call) tell(e session.Entry, channel int) {
	if channel >= 0 {
		channel, _ = unix.FcntlInt(uintptr(channel), unix.F_DUPFD_CLOEXEC, 0)
	}
	c.answered = func(heard bool) {
		if !heard {
			e.Verdict(wire.FlagUntold)
		} else if channel >= 0 {
			unix.GetsockoptInt(channel, unix.SOL_SOCKET, unix.SO_ERROR)
		}
		fdio.Close(channel)
	}
}

// connectAgain makes a second connect on a channel, unless there is an answer. Where it is not connected then, it
// starts over, and k is a TCP socket again.
func (c *call) connectAgain(k *kind, to address) (connected bool, refusal answer) {
	if k.listens {
		return false, fail(unix.EISCONN)
	}
	dissolve := len(to.raw) >= 2 && to.family() == unix.AF_UNSPEC
	if !dissolve {
		if connected, refusal := c.connectPending(k); connected || refusal != nil {
			return connected, refusal
		}
	}
	if a := c.restart(k); a != nil {
		return false, a
	}
	if dissolve {
		return false, value(0)
	}
	return false, nil
}

// connectPending is how a second connect ends; it starts over where the first has failed, and there is no answer.
func (c *call) connectPending(k *kind) (connected bool, refusal answer) {
	e := c.session.Find(k.id)
	if e == nil {
		return false, nil
	}
	switch reply := e.Verdict(wire.FlagConsume); reply.Answer {
	case wire.AnswerPending:
		if k.nonblocking() {
			return false, fail(unix.EALREADY)
		}
		refusal = c.awaitChannel(k, timeoutOf(k.fd, unix.SO_SNDTIMEO), unix.EALREADY)
		return refusal == nil, refusal
	case wire.AnswerGood:
		c.tell(e, -1)
		return true, nil
	case wire.AnswerIsConn:
		return false, fail(unix.EISCONN)
	case wire.AnswerError:
		c.tell(e, k.fd)
		return false, fail(reply.Errno)
	}
	return false, nil
}

// restart gives the target a TCP socket again: the channel's own upstream, or a new one.
func (c *call) restart(k *kind) answer {
	fresh := -1
	if e := c.session.Find(k.id); e != nil {
		fresh = e.Restart()
	}
	if fresh < 0 {
		domain := unix.AF_INET6
		if k.peer.IP.Is4() {
			domain = unix.AF_INET
		}
		var err error
		if fresh, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return c.failed(err)
		}
	}
	s := swap{call: c, number: int(int32(c.Args[0])), old: k.fd, end: -1}
	defer s.close()
	own, err := unix.FcntlInt(uintptr(fresh), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		unix.Close(fresh)
		return c.failed(err)
	}
	if err := s.put(fresh); err != nil {
		unix.Close(own)
		return s.failure
	}
	k.close()
	if *k, err = kindOf(own); err != nil {
		return c.failed(err)
	}
	return nil
}

// connectNative connects the target's own socket, as the kernel would have.
func (c *call) connectNative(k *kind, raw []byte) answer {
	if k.nonblocking() {
		if err := connect(k.fd, raw); err != nil {
			return c.failed(err)
		}
		return nil
	}
	for {
		limit, err := briefly(k.fd, unix.SO_SNDTIMEO, func() error { return connect(k.fd, raw) })
		switch err {
		case nil:
			return nil
		case unix.EINPROGRESS, unix.EALREADY, unix.EINTR:
		default:
			return c.failed(err)
		}
		switch err := c.poll(k.fd, unix.EPOLLOUT, limit); err {
		case nil:
		case unix.EAGAIN:
			return fail(unix.EINPROGRESS)
		case unix.EINTR:
			return nobody
		default:
			return c.failed(err)
		}
	}
}

// connectOther connects an Internet socket that is not TCP's, or one of TCP's to no Internet address,
// which disconnects it, or is an error of the kernel's.
func (c *call) connectOther(k *kind, to address) answer {
	raw := to.raw
	if to.internet {
		real, refusal := c.real(to.Addr)
		if refusal != nil {
			return refusal
		}
		if real != to.Addr {
			raw = formatAddress(real)
		}
	}
	if err := connect(k.fd, raw); err != nil {
		return c.failed(err)
	}
	return nil
}

// real is what an address stands for: itself, unless it is a synthetic one.
func (c *call) real(a wire.Addr) (wire.Addr, answer) {
	if !names.IsSynthetic(a.Real()) {
		return a, nil
	}
	reply := c.ask(wire.Request{Op: wire.OpAddress, Flags: wire.FlagDestination, Addrs: []wire.Addr{a}}, -1, wire.Local{})
	if reply.Answer == wire.AnswerAddrs && len(reply.Addrs) == 1 {
		return reply.Addrs[0], nil
	}
	return a, fail(unix.EHOSTUNREACH)
}

// ask has a request answered as the shim's are. Of fd the request gets a copy, where there is one; by has what
// the answer may need.
func (c *call) ask(req wire.Request, fd int, by wire.Local) wire.Reply {
	var fds wire.Descriptors
	if fd >= 0 {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return wire.Reply{Answer: wire.AnswerError, Errno: unix.ENFILE}
		}
		fds = append(fds, dup)
	}
	by.PID, by.Pidfd = int32(c.thread.PID), c.thread.Pidfd
	req.Token = c.session.Token
	c.Ask(wire.NewLocal(&by), req, fds)
	fdio.Close(by.FD)
	return by.Reply
}
