package supervisor

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/seccomp"
	"tlswrap/proxy/target"
)

// A signal takes a thread out of its call at any moment, and the kernel gives neither a descriptor nor an
// answer to who does not wait any more. What the worker has done by then stands, as natively, where a connect
// goes on: how it has ended is told by the next call on the socket, by which a channel that could not be put in
// place is put there, too. Another call's answer is given to the same call when it is made again.

// hearing notices that an answer did not arrive.
type hearing struct {
	kernel
	missed bool
}

// gone reports whether an error says that the thread does not wait any more.
func gone(err error) bool { return err == unix.ENOENT || err == unix.ESRCH }

func (h *hearing) note(err error) error {
	h.missed = h.missed || gone(err)
	return err
}

func (h *hearing) Return(id uint64, value int64) error { return h.note(h.kernel.Return(id, value)) }

func (h *hearing) Fail(id uint64, errno unix.Errno) error { return h.note(h.kernel.Fail(id, errno)) }

func (h *hearing) ReturnFD(id uint64, fd int, closeOnExec bool) error {
	return h.note(h.kernel.ReturnFD(id, fd, closeOnExec))
}

// unheard is the answer to a call that was made for a thread and that it was not told of.
type unheard struct {
	seccomp.Asked
	socket uint64 // the inode of the call's socket
	answer
	release func() // frees what the answer has; may be nil
	until   time.Time
}

// remembered is how long a signal's handler may take.
const remembered = 10 * time.Second

// repeats are the calls whose answers are kept: to make one again would not be the same.
var repeats = map[seccomp.Call]bool{
	seccomp.Connect: true, seccomp.Accept: true, seccomp.Accept4: true,
	seccomp.Sendto: true, seccomp.Sendmsg: true, seccomp.Sendmmsg: true,
}

// give gives an answer, and keeps it where nobody hears it.
func (c *call) give(a answer) {
	h := hearing{kernel: c.listener}
	a(&h, c.id)
	if c.answered != nil {
		c.answered(!h.missed)
		return
	}
	if h.missed && repeats[c.Call] && c.inode != 0 {
		c.unheard.forget()
		c.unheard = &unheard{c.Asked, c.inode, a, c.release, time.Now().Add(remembered)}
		return
	}
	if c.release != nil {
		c.release()
	}
}

// heardBefore is the answer that was kept for this call, or nil.
func (c *call) heardBefore() answer {
	u := c.unheard
	switch {
	case u == nil:
		return nil
	case time.Now().After(u.until):
		c.unheard = nil
		u.forget()
		return nil
	case !u.answers(c.Asked):
		return nil // this one may be the signal's handler's
	}
	k, refusal := c.socket()
	if refusal != nil {
		return refusal
	}
	k.close()
	c.unheard = nil
	if c.inode != u.socket {
		u.forget()
		return nil
	}
	c.release = u.release
	return u.answer
}

// answers reports whether the answer is one to this call, if that is about the same socket: a connect may be
// made again from elsewhere in the program, with the address at another place.
func (u *unheard) answers(a seccomp.Asked) bool {
	return a == u.Asked || a.Call == seccomp.Connect && u.Call == seccomp.Connect
}

func (u *unheard) forget() {
	if u != nil && u.release != nil {
		u.release()
	}
}

// begun is a connection whose channel is not in the program's hands yet.
type begun struct {
	thread *target.Thread
	number int    // of the socket in the program
	socket int    // a copy of it
	inode  uint64 // its own
	end    int    // the channel's, for the program
	id     uint64 // the channel's number
	taken  chan struct{}
}

func (b *begun) close() {
	b.thread.Close()
	fdio.Close(b.socket)
	fdio.Close(b.end)
}

// goOn keeps a connection whose connect was interrupted, with its channel and k's socket, which are taken
// over. A call that would not have waited is answered so when it is made again, and one that waits with a limit
// is not made again (signal(7)).
func (c *call) goOn(s *swap, k *kind) {
	nonblocking := k.nonblocking()
	if !nonblocking && timeoutOf(k.fd, unix.SO_SNDTIMEO) > 0 {
		c.limited = &c.Asked
	}
	b := &begun{number: s.number, socket: k.fd, inode: c.inode, end: s.end}
	k.fd, s.end = -1, -1
	channel, err := kindOf(b.end)
	b.id = channel.id
	inode, e := inodeOf(b.end)
	if nonblocking {
		c.unheard.forget()
		c.unheard = &unheard{c.Asked, inode, fail(unix.EINPROGRESS), nil, time.Now().Add(remembered)}
	}
	if err = errors.Join(err, e); err == nil {
		b.thread, err = target.Open(c.thread.TID)
	}
	if err != nil {
		fdio.Close(b.socket)
		fdio.Close(b.end)
		return // the process has ended, as a rule
	}
	park(b.socket)
	c.keep(b)
}

func (v *supervision) keep(b *begun) {
	taken := make(chan struct{})
	v.mu.Lock()
	b.taken, v.begun[b.inode] = taken, b
	v.mu.Unlock()
	v.calls.Go(func() { guard.Run(v.Log, "interrupted connect", nil, func() { v.watch(b, taken) }) })
}

// takeBegun finds the connection of a socket, which is the caller's then; nil where there is none.
func (v *supervision) takeBegun(inode uint64) *begun {
	v.mu.Lock()
	defer v.mu.Unlock()
	b := v.begun[inode]
	if b != nil {
		delete(v.begun, inode)
		close(b.taken)
	}
	return b
}

// watch has the program's poll end when setup has, and ends a connection whose program has closed the socket.
func (v *supervision) watch(b *begun, taken <-chan struct{}) {
	var settled <-chan struct{}
	if e := v.session.Find(b.id); e != nil {
		settled = e.Settled()
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-taken:
			return
		case <-settled:
			settled = nil
			v.mu.Lock()
			if v.begun[b.inode] == b {
				fdio.Disconnect(b.socket)
			}
			v.mu.Unlock()
		case <-tick.C:
			if !b.open() && v.takeBegun(b.inode) == b {
				b.close()
				return
			}
		}
	}
}

// open reports whether the program still has the socket.
func (b *begun) open() bool {
	fd, err := b.thread.Descriptor(b.number)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	inode, err := inodeOf(fd)
	return err == nil && inode == b.inode
}

// place puts the channel in the place of k, a socket whose connect was interrupted.
func (c *call) place(k *kind, b *begun) answer {
	s := swap{call: c, number: int(int32(c.Args[0])), old: k.fd, end: -1}
	defer s.close()
	err := s.put(b.end)
	if err != nil && !c.waits() {
		s.end = -1
		c.keep(b)
		return nobody
	}
	b.end = -1 // the swap's
	b.close()
	if err != nil {
		return s.failure
	}
	k.close()
	if *k, err = s.channel(); err != nil {
		k.fd = -1
		return c.failed(err)
	}
	c.placed = true
	return nil
}

// park has a TCP socket look like one that connects: poll(2) has nothing to tell of it, and nothing can be
// sent on it. It asks for a connection to this machine and drops every answer. Where that cannot be, poll
// tells at once, and SO_ERROR afterwards how it is.
func park(fd int) {
	drop := unix.SockFprog{Len: 1, Filter: &unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}}
	// The first data would be sent with the question.
	if unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 0) != nil ||
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &drop) != nil {
		return
	}
	var to unix.Sockaddr = &unix.SockaddrInet4{Port: 1, Addr: [4]byte{127, 0, 0, 1}}
	if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || domain == unix.AF_INET6 {
		to = &unix.SockaddrInet6{Port: 1, Addr: [16]byte{15: 1}}
	}
	briefly(fd, unix.SO_SNDTIMEO, func() error { return unix.Connect(fd, to) })
}
