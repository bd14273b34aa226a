package supervisor

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/names"
	"tlswrap/proxy/wire"
)

// bind answers bind(2). A port may be in use only because it was not seen yet that its program has stopped
// to listen. To what a synthetic address stands for the socket is bound here, at a port that anybody may
// have: the worker may have more rights than the program. All else the kernel makes.
func (c *call) bind() answer {
	k, refusal := c.socket()
	if refusal != nil {
		return refusal
	}
	defer k.close()
	if k.possiblyTCP() {
		c.ask(wire.Request{Op: wire.OpSweep}, -1, wire.Local{})
	}
	if !k.internet() {
		return natively
	}
	at, refusal := c.readAddress(c.Args[1], c.Args[2])
	if refusal != nil || !at.internet || !names.IsSynthetic(at.Real()) || !forAnybody(at.Port) {
		return natively // which says what is wrong with it
	}
	real, refusal := c.real(at.Addr)
	if refusal != nil {
		return natively
	}
	return c.failed(bind(k.fd, formatAddress(real)))
}

// forAnybody reports whether binding to a port needs no rights (ip(7), ip_unprivileged_port_start).
func forAnybody(port uint16) bool {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	first, e := strconv.Atoi(strings.TrimSpace(string(b)))
	return port == 0 || err == nil && e == nil && int(port) >= first
}

// listen answers listen(2).
func (c *call) listen() answer {
	k, refusal := c.socket()
	if refusal != nil {
		return refusal
	}
	defer k.close()
	if !k.possiblyTCP() {
		return natively // an AF_UNIX socket notes who listens
	}
	if err := unix.Listen(k.fd, int(int32(c.Args[1]))); err != nil {
		return c.failed(err)
	}
	if refusal := c.listenRuled(&k); refusal != nil {
		unix.Shutdown(k.fd, unix.SHUT_RDWR) // nobody may be let in
		return refusal
	}
	return value(0)
}

// listenRuled shows the worker a socket that listens, and puts in its place what the program is to listen
// on, where a rule says so. nil: it may listen.
func (c *call) listenRuled(k *kind) answer {
	s := swap{call: c, number: int(int32(c.Args[0])), old: k.fd, end: -1}
	defer s.close()
	switch reply := c.ask(wire.Request{Op: wire.OpListen}, k.fd, wire.Local{Put: s.put}); {
	case s.failure != nil:
		return s.failure
	case reply.Answer == wire.AnswerPass, reply.Answer == wire.AnswerChannel:
		return nil
	case reply.Answer == wire.AnswerError:
		return fail(reply.Errno)
	}
	return fail(unix.ENETDOWN)
}

// accept answers accept(2), and accept4 the one with flags.
func (c *call) accept() answer { return c.acceptWith(0) }

func (c *call) accept4() answer {
	flags := int(int32(c.Args[3]))
	if flags&^(unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC) != 0 {
		return fail(unix.EINVAL)
	}
	return c.acceptWith(flags)
}

func (c *call) acceptWith(flags int) answer {
	k, refusal := c.socket()
	if refusal != nil {
		return refusal
	}
	if k.possiblyTCP() {
		defer k.close()
		// It may listen since before a rule was about it.
		if listens, err := unix.GetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
			return natively
		}
		if refusal := c.listenRuled(&k); refusal != nil {
			return refusal
		}
		var served kind
		if served, refusal = c.socket(); refusal != nil {
			return refusal
		}
		return c.acceptFrom(&served, flags)
	}
	return c.acceptFrom(&k, flags)
}

// acceptFrom takes over k.
func (c *call) acceptFrom(k *kind, flags int) answer {
	defer c.accepting.begin(c)()
	defer k.close()
	if !k.ours || !k.listens {
		return natively
	}
	fd, refusal := c.acceptChannel(k, flags)
	if refusal != nil {
		return refusal
	}
	likeListener(fd, k.fd)
	return c.welcome(fd, flags&unix.SOCK_CLOEXEC != 0)
}

// acceptChannel takes a channel from what the program listens on, and waits for one as accept(2) does.
func (c *call) acceptChannel(k *kind, flags int) (fd int, refusal answer) {
	limit := timeoutOf(k.fd, unix.SO_RCVTIMEO)
	accept := func() (err error) {
		fd, _, err = unix.Accept4(k.fd, flags|unix.SOCK_CLOEXEC)
		return err
	}
	for {
		if !k.nonblocking() {
			switch err := c.poll(k.fd, unix.EPOLLIN, limit); err {
			case nil:
			case unix.EINTR:
				return -1, nobody
			default:
				return -1, c.failed(err)
			}
		}
		// A client that is taken for nobody is lost.
		if !c.waits() {
			return -1, nobody
		}
		if k.nonblocking() {
			if err := accept(); err != nil {
				return -1, c.failed(err)
			}
			return fd, nil
		}
		// Another process may have taken it since.
		switch _, err := briefly(k.fd, unix.SO_RCVTIMEO, accept); err {
		case nil:
			return fd, nil
		case unix.EAGAIN, unix.EINTR:
		default:
			return -1, c.failed(err)
		}
	}
}

// welcome tells the worker that its client was accepted, as the shim does, and the program who it is.
func (c *call) welcome(fd int, closeOnExec bool) answer {
	k, err := kindOf(fd)
	if err != nil || !k.ours {
		unix.Close(fd)
		return fail(unix.ECONNABORTED) // it is gone already
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, wire.SendBuffer)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, wire.Welcomed) // see welcome in preload/listen.c
	unix.SendmsgN(fd, c.session.Token[:], nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	if k.words {
		unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, wire.WordsTime)
	}
	if c.Args[1] != 0 {
		if refusal := c.writeAddress(formatAddress(k.peer), c.Args[1], c.Args[2]); refusal != nil {
			unix.Close(fd)
			return refusal
		}
	}
	return c.descriptor(fd, closeOnExec)
}
