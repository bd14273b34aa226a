package fdio

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// RetryAccept is the pause after the worker ran out of descriptors or memory.
const RetryAccept = 20 * time.Millisecond

// oneClients are the errors of accept(2) that belong to one client, who is gone.
var oneClients = []error{unix.ECONNABORTED, unix.EINTR, unix.EPERM, unix.ETIMEDOUT, unix.ENETDOWN, unix.EPROTO,
	unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.ENONET, unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH}

// OfOneClient reports whether an error of accept(2) is about one client, who is gone: others can be
// accepted.
func OfOneClient(err error) bool { return slices.Contains(oneClients, err) }

// Accept is accept4(2) on a socket that does not block, for one that does not either and is closed at exec. Nobody is
// told who it is from.
func Accept(fd int) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
