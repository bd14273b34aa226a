package supervisor

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/process"
	"tlswrap/proxy/seccomp"
)

var native = binary.NativeEndian

// kernel is who hands calls over, and takes their answers: a notifier or a tracer.Tracer.
type kernel interface {
	// Receive waits for the next one; the error is that there will be none.
	Receive() (seccomp.Notification, error)
	// Hold says that the answer may take long.
	Hold(id uint64) error
	Waits(id uint64) bool
	Return(id uint64, value int64) error
	Fail(id uint64, errno unix.Errno) error
	Continue(id uint64) error
	Replace(id uint64, fd, target int, closeOnExec bool) error
	ReturnFD(id uint64, fd int, closeOnExec bool) error
	// Close is for when there will be no more.
	Close()
}

// getter is a kernel that gives copies of descriptors, for where pidfd_getfd(2) gives none.
type getter interface {
	Descriptor(id uint64, number int) (int, error)
}

// answer gives a target its answer. That nobody waits for it any more is no error of ours.
type answer func(l kernel, id uint64)

// value is what a call returns.
func value(n int64) answer {
	return func(l kernel, id uint64) { l.Return(id, n) }
}

// fail is a call's errno, and success where that is 0.
func fail(errno unix.Errno) answer {
	return func(l kernel, id uint64) {
		if errno == 0 {
			l.Return(id, 0)
			return
		}
		l.Fail(id, errno)
	}
}

// failed is fail for an error of one of our own calls on the target's socket.
func (c *call) failed(err error) answer {
	if short := c.short(err); short != nil {
		return short
	}
	var errno unix.Errno
	if err != nil && !errors.As(err, &errno) {
		errno = unix.ENETDOWN
	}
	return fail(errno)
}

// short is the answer where this worker has no descriptor left for what the call needs, or nil for another error.
// It says nothing about the target, so no call is harmless then. By a getter, it is the target that has none.
func (c *call) short(err error) answer {
	switch {
	case !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE):
		return nil
	case c.getter() != nil:
		return fail(unix.EMFILE)
	}
	c.tellOnce("no descriptor for it: %v%s", err, process.DescriptorHint(err))
	return fail(unix.ENFILE)
}

// descriptor is a new descriptor of the target's for fd, which is taken over.
func (c *call) descriptor(fd int, closeOnExec bool) answer {
	c.release = func() { unix.Close(fd) }
	return func(l kernel, id uint64) {
		if err := l.ReturnFD(id, fd, closeOnExec); err != nil && !gone(err) {
			l.Fail(id, unix.EMFILE)
		}
	}
}

// natively has the kernel make the call: it is about nothing of ours, and no memory decides.
func natively(l kernel, id uint64) { l.Continue(id) }

// nobody is for a call whose thread was interrupted.
func nobody(kernel, uint64) {}

// unreachable is the answer where the target's memory or descriptors are not for us. What could
// connect, or let clients in, is refused. The rest does no harm.
func (c *call) unreachable(err error) answer {
	if short := c.short(err); short != nil {
		return short
	}
	var harmless bool
	switch c.Call {
	case seccomp.Connect, seccomp.Listen:
	case seccomp.Sendto:
		harmless = c.Args[3]&unix.MSG_FASTOPEN == 0
	case seccomp.Sendmsg:
		harmless = c.Args[2]&unix.MSG_FASTOPEN == 0
	case seccomp.Sendmmsg:
		harmless = c.Args[3]&unix.MSG_FASTOPEN == 0
	default:
		harmless = true
	}
	if harmless && !c.InMemory {
		return natively
	}
	if !c.waits() {
		return nobody // it may be gone, and is not out of reach
	}
	c.tellOnce("the worker may not look into it, and cannot tell where it connects: %v", err)
	return fail(unix.EPERM)
}

// tellOnce tells a person why a process is refused what it asks for, once for each process.
func (c *call) tellOnce(why string, args ...any) {
	pid := int(c.tid) // 0 in another PID namespace
	if c.thread != nil {
		pid = c.thread.PID
	}
	c.mu.Lock()
	news := !c.told[pid] && len(c.told) < mostTold
	if news {
		c.told[pid] = true
	}
	c.mu.Unlock()
	if news {
		c.session.Say(fmt.Sprintf("process %d: refused: "+why, append([]any{pid}, args...)...))
	}
}

// mostTold bounds the sentences about processes that are out of reach.
const mostTold = 100

// Of the errors of pidfd_getfd(2) these are the caller's own, and all others say that the target cannot
// be reached.
func ownError(err error) bool { return err == unix.EBADF || err == unix.ENOTSOCK }

// socket returns a copy of the descriptor in the call's first argument, the caller's to close, and what
// it is; or the answer where that is not known.
func (c *call) socket() (k kind, refusal answer) {
	if !c.known && !c.waits() {
		return k, nobody // and the number may be another's
	}
	fd, err := c.thread.Descriptor(int(int32(c.Args[0])))
	switch {
	case ownError(err):
		return k, fail(err.(unix.Errno))
	case err != nil:
		return k, c.unreachable(err)
	}
	if k, err = kindOf(fd); err != nil {
		fdio.Close(fd)
		return k, c.failed(err)
	}
	k.ours = k.ours && c.knows(&k)
	if c.inode, err = inodeOf(fd); err != nil {
		k.close()
		return k, c.failed(err)
	}
	if b := c.takeBegun(c.inode); b != nil {
		if refusal := c.place(&k, b); refusal != nil {
			fdio.Close(k.fd)
			return k, refusal
		}
	}
	return k, nil
}

// knows reports whether a channel is the session's, or was. Another run's worker may be under this filter:
// its channels are AF_UNIX sockets like others.
func (c *call) knows(k *kind) bool {
	return c.session.Find(k.id) != nil || events(k.fd)&unix.POLLHUP != 0
}
