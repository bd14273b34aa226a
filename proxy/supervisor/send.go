package supervisor

import (
	"slices"

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
	return c.sentAlone(m)
}

// sendmsg answers sendmsg(2), which is the kernel's unless the message has an address.
func (c *call) sendmsg() answer {
	m, refusal := c.readMessage(c.Args[1], int(int32(c.Args[2])), false)
	if refusal != nil {
		return refusal
	}
	return c.sentAlone(m)
}

func (c *call) sentAlone(m message) answer {
	n, refusal := c.send(m, false)
	if refusal != nil {
		return refusal
	}
	return value(int64(n))
}

// sendmmsg answers sendmmsg(2), which is the kernel's unless one of the messages has an address: then all
// are sent here, up to one that cannot be.
func (c *call) sendmmsg() answer {
	messages, refusal := c.readMessages()
	if refusal != nil {
		return refusal
	}
	ours := slices.ContainsFunc(messages, func(m message) bool { return m.named || m.flags&unix.MSG_FASTOPEN != 0 })
	if !ours {
		return natively
	}
	for i, m := range messages {
		n, refusal := c.send(m, true)
		if refusal == nil {
			var length [4]byte
			native.PutUint32(length[:], uint32(n))
			refusal = c.write(piece{c.message(i) + c.sizes().msghdr, length[:]})
		}
		if refusal != nil && i == 0 {
			return refusal
		}
		if refusal != nil {
			return value(int64(i))
		}
	}
	return value(int64(len(messages)))
}

// message is where one of sendmmsg's messages stands.
func (c *call) message(i int) uint64 { return c.Args[1] + uint64(i)*c.sizes().mmsghdr }

// readMessages reads those of sendmmsg(2), up to one that cannot be; where the first connects, that alone,
// as the shim sends no more then.
func (c *call) readMessages() (all []message, refusal answer) {
	flags := int(int32(c.Args[3]))
	most := 1024 // UIO_MAXIOV
	if flags&unix.MSG_FASTOPEN != 0 {
		most = 1
	}
	for i := range min(int(uint32(c.Args[2])), most) {
		m, refusal := c.readMessage(c.message(i), flags, true)
		if refusal != nil && i == 0 {
			return nil, refusal
		}
		if refusal != nil {
			break
		}
		all = append(all, m)
	}
	return all, nil
}

// send sends a message, and tells how much that was; or the answer, which is the kernel's where the message
// says nothing that decides. With here set it is sent here all the same.
func (c *call) send(m message, here bool) (int, answer) {
	connects := m.flags&unix.MSG_FASTOPEN != 0
	m.flags &^= unix.MSG_FASTOPEN
	switch {
	case connects && !m.named: // of no protocol is that a connect
		return 0, fail(unix.EINVAL)
	case !connects && !m.named && !here:
		return 0, natively
	}
	var k kind
	var refusal answer
	if connects {
		k, refusal = c.connectTo(m.to)
		m.named = false
		if refusal == nil {
			c.answered = nil // what is sent tells it
		}
	} else {
		k, refusal = c.socket()
	}
	if refusal != nil {
		return 0, refusal
	}
	defer k.close()
	if m.named {
		ours, refusal := c.address(&k, &m)
		switch {
		case refusal != nil:
			return 0, refusal
		case !ours && !here:
			return 0, natively
		}
	}
	if k.ours || k.possiblyTCP() {
		m.named, m.control = false, nil // TCP does not look at them
	}
	return c.transmit(&k, m)
}

// address finds out where a message goes that has an address, which is put in its place; ours is not set
// where it has nothing to do with us.
func (c *call) address(k *kind, m *message) (ours bool, refusal answer) {
	asks, refusal := c.asksServer(k, m.to)
	switch {
	case refusal != nil:
		return false, refusal
	case asks && !k.possiblyTCP():
		return true, c.enterRoom(k)
	case k.ours, k.possiblyTCP():
		return true, nil
	case !k.internet() || !m.to.internet:
		return false, nil
	}
	real, refusal := c.real(m.to.Addr)
	if refusal != nil || real == m.to.Addr {
		return false, refusal
	}
	m.to.raw = formatAddress(real)
	return true, nil
}

// transmit sends on a copy of the target's socket what it has in its memory, and waits as that would.
func (c *call) transmit(k *kind, m message) (int, answer) {
	data, refusal := c.gather(m.vectors)
	if refusal != nil {
		return 0, refusal
	}
	waits := !k.nonblocking() && m.flags&unix.MSG_DONTWAIT == 0
	limit := timeoutOf(k.fd, unix.SO_SNDTIMEO)
	for {
		n, err := c.transmitNow(k.fd, m, data)
		if err == nil {
			return n, nil
		}
		if err == unix.EPIPE && m.flags&unix.MSG_NOSIGNAL == 0 {
			return 0, c.brokenPipe()
		}
		if err != unix.EAGAIN || !waits {
			return 0, c.failed(err)
		}
		switch err := c.poll(k.fd, unix.EPOLLOUT, limit); err {
		case nil:
		case unix.EINTR:
			return 0, nobody
		default:
			return 0, c.failed(err)
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
