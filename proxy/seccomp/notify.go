package seccomp

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/thread"
)

// Notification is one call of a thread that waits for an answer: struct seccomp_notif.
type Notification struct {
	ID    uint64
	TID   uint32 // of the thread, in the receiver's PID namespace; 0 where it has none there
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// Stopped is a call that a thread has stopped at for its tracer: of this machine's own way.
type Stopped struct {
	Number int
	IP     uint64
	Args   [6]uint64
}

// Notification is the call as that of a thread.
func (s Stopped) Notification(id uint64, tid int) Notification {
	return Notification{ID: id, TID: uint32(tid), nr: int32(s.Number), arch: abis[0].arch, ip: s.IP, args: s.Args}
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	val   int64
	error int32
	flags uint32
}

// addition is struct seccomp_notif_addfd.
type addition struct {
	id                              uint64
	flags, source, target, newFlags uint32
}

// Listener is the descriptor that a filter's notifications come by. It is the owner's to close; calls
// that wait for an answer then fail with ENOSYS, and so do all later ones.
type Listener int

// Install puts a filter under the calling thread, which is locked to its goroutine, and under whatever it
// becomes and starts. It sets no_new_privs where the caller may not do without (seccomp(2)). The error says
// what would allow it.
func Install(by Policy) (Listener, error) {
	code, err := Filter(by)
	if err != nil {
		return -1, err
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	fd, errno := install(&prog)
	if errno == unix.EACCES {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return -1, os.NewSyscallError("prctl", err)
		}
		fd, errno = install(&prog)
	}
	if errno != 0 {
		return -1, refusal(errno)
	}
	return Listener(fd), nil
}

// refusal is why there is no listener, in a sentence for a person.
func refusal(errno unix.Errno) error {
	allow := "a container's profile that allows the call"
	switch errno {
	case unix.EBUSY:
		return fmt.Errorf("another process answers for a filter that is under this one already, another tlswrap or a container's "+
			"(seccomp: %w), and the kernel takes one: tlswrap would have to be started outside of that", errno)
	case unix.ENOSYS:
		allow = "a kernel with CONFIG_SECCOMP_FILTER, and " + allow
	case unix.EINVAL:
		allow = "Linux " + sinceSend
	}
	return fmt.Errorf("the kernel takes no filter whose calls another process answers (seccomp: %w), which takes %s", errno, allow)
}

// InstallTraced is Install of a filter whose calls stop for a tracer, which the thread has already.
func InstallTraced(cookie Cookie) error {
	code, err := Filter(Policy{Cookie: cookie, Traced: true})
	if err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	set := func() error {
		return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
	}
	if err = set(); err == unix.EACCES {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return os.NewSyscallError("prctl", err)
		}
		err = set()
	}
	if err != nil {
		return fmt.Errorf("the kernel takes no filter (prctl: %w), which takes CONFIG_SECCOMP_FILTER, and a container's profile that allows the call", err)
	}
	return nil
}

func install(prog *unix.SockFprog) (uintptr, unix.Errno) {
	const setModeFilter = 1 // SECCOMP_SET_MODE_FILTER
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, setModeFilter, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(prog)))
	return fd, errno
}

// Ioctls that x/sys does not name (linux/seccomp.h).
const (
	notifIDValid  = 0x40082102
	notifSetFlags = 0x40082104

	userNotifFlagContinue = 1
	syncWakeUp            = 1 // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.6
)

func (l Listener) ioctl(request uintptr, arg unsafe.Pointer) (int, error) {
	r, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(l), request, uintptr(arg))
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// Hurry has who waits for an answer go on at once on the processor that gives it, and reports whether the
// kernel can.
func (l Listener) Hurry() bool {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l), notifSetFlags, syncWakeUp)
	return errno == 0
}

// Receive returns the next notification, and waits for one. ENOENT: its thread was interrupted.
func (l Listener) Receive() (n Notification, err error) {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n)))
	if errno != 0 {
		return n, errno
	}
	return n, nil
}

// Return answers with what the call returns. ENOENT: nobody waits for it any more.
func (l Listener) Return(id uint64, value int64) error {
	return l.send(response{id: id, val: value})
}

// Fail answers with an error.
func (l Listener) Fail(id uint64, errno unix.Errno) error {
	return l.send(response{id: id, error: -int32(errno)})
}

// Continue has the kernel make the call. It reads memory and descriptors again, which another thread may
// have changed: what was found there before is nothing to rely on.
func (l Listener) Continue(id uint64) error {
	return l.send(response{id: id, flags: userNotifFlagContinue})
}

func (l Listener) send(r response) error {
	_, err := l.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
	return err
}

// Waits reports whether the thread still waits for its answer: what was read of its memory and
// descriptors before is then its own, and not that of another with a number that was used again.
func (l Listener) Waits(id uint64) bool {
	_, err := l.ioctl(notifIDValid, unsafe.Pointer(&id))
	return err == nil
}

// AreUnanswered reports whether there are calls that were received and not answered.
func (l Listener) AreUnanswered() bool {
	p := []unix.PollFd{{Fd: int32(l), Events: unix.POLLOUT}}
	for {
		if _, err := unix.Poll(p, 0); err != unix.EINTR {
			return p[0].Revents&unix.POLLOUT != 0
		}
	}
}

// Replace puts a copy of fd into the caller's descriptor table, in the place of target (Linux 5.9).
func (l Listener) Replace(id uint64, fd, target int, closeOnExec bool) error {
	_, err := l.addFD(addition{id: id, flags: unix.SECCOMP_ADDFD_FLAG_SETFD, source: uint32(fd), target: uint32(target)}, closeOnExec)
	if err == unix.EBUSY { // dup2(2): another thread has closed it, and is about to have something else there
		err = unix.EBADF
	}
	return err
}

// ReturnFD answers with a copy of fd, at the lowest number that is free (Linux 5.14).
func (l Listener) ReturnFD(id uint64, fd int, closeOnExec bool) error {
	// A signal that comes before the target has taken the descriptor, as Go's own do all the time, takes it
	// back, but not the answer, which is 0 then (seccomp_notify_addfd in kernel/seccomp.c).
	var err error
	if e := thread.WithoutSignals(func() {
		_, err = l.addFD(addition{id: id, flags: unix.SECCOMP_ADDFD_FLAG_SEND, source: uint32(fd)}, closeOnExec)
	}); e != nil {
		return e
	}
	return err
}

func (l Listener) addFD(a addition, closeOnExec bool) (int, error) {
	if closeOnExec {
		a.newFlags = unix.O_CLOEXEC
	}
	for {
		n, _, err := unix.Syscall(unix.SYS_IOCTL, uintptr(l), unix.SECCOMP_IOCTL_NOTIF_ADDFD, uintptr(unsafe.Pointer(&a))) // it waits for the target
		switch err {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return -1, err
		}
	}
}

// Missing is what the kernel behind this listener cannot do, or nil.
func (l Listener) Missing() error { return l.features().Missing() }

// Asked is what a notification asks for.
type Asked struct {
	Call Call
	Args [6]uint64
	IP   uint64 // where the code is that made the call
	Wide bool   // the caller's registers, and longs in its memory, have 64 bits
	// InMemory is set where Args are still to be read: socketcall(2) has their address in Args[1].
	InMemory bool
}

// Asked reads a notification. ok is not set for what this filter does not hand over.
func (n *Notification) Asked() (a Asked, ok bool) {
	by, ok := abiOf(n.arch)
	if !ok {
		return a, false
	}
	a.Args, a.IP, a.Wide = n.args, n.ip, by.wide
	if a.Call, ok = by.of(uint32(n.nr)); a.Call == socketcall {
		a.Call, ok = find(inSocketcall, uint32(n.args[0]))
		a.InMemory = true
	}
	return a, ok
}
