package target

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/thread"
)

// LikeDescriptor gives a socket what belongs to a descriptor and not to the network, as another has it:
// timeouts and flags.
func LikeDescriptor(to, from int) error {
	LikeTimeouts(to, from)
	return likeFlags(to, from)
}

// LikeTimeouts gives it the timeouts alone, and how much is worth waking up for.
func LikeTimeouts(to, from int) {
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if tv, err := unix.GetsockoptTimeval(from, unix.SOL_SOCKET, option); err == nil && *tv != (unix.Timeval{}) {
			unix.SetsockoptTimeval(to, unix.SOL_SOCKET, option, tv)
		}
	}
	if n, err := unix.GetsockoptInt(from, unix.SOL_SOCKET, unix.SO_RCVLOWAT); err == nil && n > 1 {
		unix.SetsockoptInt(to, unix.SOL_SOCKET, unix.SO_RCVLOWAT, n)
	}
}

func likeFlags(to, from int) error {
	const which = unix.O_NONBLOCK | unix.O_ASYNC
	flags, err := unix.FcntlInt(uintptr(from), unix.F_GETFL, 0)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	now, err := unix.FcntlInt(uintptr(to), unix.F_GETFL, 0)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	// Who gets the signal is said before there may be one.
	if err := likeOwner(to, from); err != nil {
		return err
	}
	if flags&which == now&which {
		return nil
	}
	_, err = unix.FcntlInt(uintptr(to), unix.F_SETFL, now&^which|flags&which)
	return os.NewSyscallError("fcntl", err)
}

// likeOwner is about SIGIO (fcntl(2), F_SETOWN_EX and F_SETSIG).
func likeOwner(to, from int) error {
	var owner struct{ kind, pid int32 }
	if err := fdio.Fcntl(from, unix.F_GETOWN_EX, &owner); err != nil {
		return err
	}
	if owner.pid != 0 {
		if err := fdio.Fcntl(to, unix.F_SETOWN_EX, &owner); err != nil {
			return err
		}
	}
	if sig, err := unix.FcntlInt(uintptr(from), unix.F_GETSIG, 0); err == nil && sig > 0 {
		unix.FcntlInt(uintptr(to), unix.F_SETSIG, sig)
	}
	return nil
}

// Move registers in epoll sets another open file in the place of one, by the same numbers. The kernel's
// key is the number with the open file (epoll(7), question 6), so it is done by a thread with a
// descriptor table of its own, where the numbers are free.
func (o *Others) Move(from, to int) error {
	if len(o.Places) == 0 {
		return nil
	}
	var err error
	thread.Run(func() { err = o.move(from, to) })
	return err
}

func (o *Others) move(from, to int) error {
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	free, err := o.above(from, to)
	if err != nil {
		return err
	}
	for _, p := range o.Places {
		set := free.sets[p.Set]
		if err := unix.Dup3(free.from, p.FD, unix.O_CLOEXEC); err != nil {
			return os.NewSyscallError("dup3", err)
		}
		if err := unix.EpollCtl(set, unix.EPOLL_CTL_DEL, p.FD, nil); err != nil {
			continue // of another socket that had the number
		}
		if err := unix.Dup3(free.to, p.FD, unix.O_CLOEXEC); err != nil {
			return os.NewSyscallError("dup3", err)
		}
		if err := unix.EpollCtl(set, unix.EPOLL_CTL_ADD, p.FD, &p.Event); err != nil {
			return fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	return nil
}

// moved are the descriptors that move needs, out of the way of the numbers that it uses.
type moved struct {
	from, to int
	sets     map[int]int
}

func (o *Others) above(from, to int) (m moved, err error) {
	least := 0
	for _, p := range o.Places {
		least = max(least, p.FD+1)
	}
	copyOf := func(fd int) int {
		n, e := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, least)
		if e != nil {
			err = os.NewSyscallError("fcntl", e)
		}
		return n
	}
	m = moved{copyOf(from), copyOf(to), make(map[int]int)}
	for _, set := range o.sets() {
		m.sets[set] = copyOf(set)
	}
	return m, err
}
