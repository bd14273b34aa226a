package supervisor

import (
	"golang.org/x/sys/unix"
)

// message is what a target sends, with an address of its own.
type message struct {
	to      address
	named   bool // to is given
	vectors []vector
	control []byte
	flags   int
}

// vector is a struct iovec of the target's.
type vector struct{ at, size uint64 }

// mostSent is how much of a message is moved at once. What a stream has more of, its program sends again.
const mostSent = 256 << 10

// sendto answers sendto(2) with an address.
func (c *call) sendto() answer {
	m := message{flags: int(int32(c.Args[3])), vectors: []vector{{c.Args[1], c.Args[2]}}}
	if c.Args[4] != 0 {
		var refusal answer
		if m.to, refusal = c.readAddress(c.Args[4], c.Args[5]); refusal != nil {
			return refusal
		}
		m.named = true
	}
	return c.send(m)
}

// sendmsg answers sendmsg(2), which is the kernel's unless the message has an address.
func (c *call) sendmsg() answer {
	flags := int(int32(c.Args[2]))
	m, refusal := c.readMessage(c.Args[1], flags)
	switch {
	case refusal != nil:
		return refusal
	case !m.named && flags&unix.MSG_FASTOPEN == 0:
		return natively
	}
	return c.send(m)
}

// sendmmsg answers sendmmsg(2): of messages of which one has an address the first is sent, and the program
// is told of that one.
func (c *call) sendmmsg() answer {
	flags := int(int32(c.Args[3]))
	count := min(int(uint32(c.Args[2])), 1024) // UIO_MAXIOV
	var first message
	named := flags&unix.MSG_FASTOPEN != 0
	for i := range count {
		m, refusal := c.readMessage(c.Args[1]+uint64(i)*c.sizes().mmsghdr, flags)
		if refusal != nil {
			if i == 0 {
				return refusal
			}
			break
		}
		if i == 0 {
			first = m
		}
		named = named || m.named
	}
	if count == 0 || !named {
		return natively
	}
	return c.sent(first, func(n int) answer {
		var length [4]byte
		native.PutUint32(length[:], uint32(n))
		if refusal := c.write(piece{c.Args[1] + c.sizes().msghdr, length[:]}); refusal != nil {
			return refusal
		}
		return value(1)
	})
}

// send sends a message, and answers with how much that was.
func (c *call) send(m message) answer {
	return c.sent(m, func(n int) answer { return value(int64(n)) })
}

// sent sends a message, and has then answer.
func (c *call) sent(m message, then func(n int) answer) answer {
	if m.flags&unix.MSG_FASTOPEN != 0 {
		m.flags &^= unix.MSG_FASTOPEN
		if !m.named { // of no protocol is that a connect
			return fail(unix.EINVAL)
		}
		k, refusal := c.connectTo(m.to)
		if refusal != nil {
			return refusal
		}
		defer k.close()
		m.named, m.control = false, nil
		return c.transmit(&k, m, then)
	}
	if !m.named {
		return natively
	}
	k, refusal := c.socket()
	if refusal != nil {
		return refusal
	}
	defer k.close()
	asks, refusal := c.asksServer(&k, m.to)
	switch {
	case refusal != nil:
		return refusal
	case asks && !k.possiblyTCP():
		if refusal := c.enterRoom(&k); refusal != nil {
			return refusal
		}
	case k.ours, k.possiblyTCP():
		m.named, m.control = false, nil // TCP does not look at them
	case k.internet() && m.to.internet:
		real, refusal := c.real(m.to.Addr)
		if refusal != nil {
			return refusal
		}
		if real == m.to.Addr {
			return natively
		}
		m.to.raw = formatAddress(real)
	default:
		return natively
	}
	return c.transmit(&k, m, then)
}

// transmit sends on a copy of the target's socket what it has in its memory, and waits as that would.
func (c *call) transmit(k *kind, m message, then func(n int) answer) answer {
	data, refusal := c.gather(m.vectors)
	if refusal != nil {
		return refusal
	}
	waits := !k.nonblocking() && m.flags&unix.MSG_DONTWAIT == 0
	limit := timeoutOf(k.fd, unix.SO_SNDTIMEO)
	for {
		n, err := c.transmitNow(k.fd, m, data)
		if err == nil {
			return then(n)
		}
		if err == unix.EPIPE && m.flags&unix.MSG_NOSIGNAL == 0 {
			return c.brokenPipe()
		}
		if err != unix.EAGAIN || !waits {
			return failed(err)
		}
		switch err := c.poll(k.fd, unix.EPOLLOUT, limit); err {
		case nil:
		case unix.EINTR:
			return nobody
		default:
			return failed(err)
		}
	}
}

// gather reads what vectors point to.
func (c *call) gather(vectors []vector) ([]byte, answer) {
	var data []byte
	for _, v := range vectors {
		size := int(min(v.size, uint64(mostSent-len(data))))
		part := make([]byte, size)
		if refusal := c.read(v.at, part); refusal != nil {
			return nil, refusal
		}
		data = append(data, part...)
	}
	return data, nil
}

// brokenPipe is EPIPE with its signal, which comes after the answer: before, it would interrupt the call,
// and that would be made again.
func (c *call) brokenPipe() answer {
	pid, tid := c.thread.PID, c.thread.TID
	return func(l kernel, id uint64) {
		if l.Fail(id, unix.EPIPE) == nil {
			unix.Tgkill(pid, tid, unix.SIGPIPE)
		}
	}
}
