package seccomp

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Confine forbids the calling thread, and whatever it becomes and starts, to connect by TCP itself
// (landlock(7), since Linux 6.7), so that a call which the kernel makes after all, in the place of one
// that was looked at, connects nothing: another thread may put a TCP socket under the number of an AF_UNIX
// one meanwhile. What the worker connects in its name is not its own. It sets no_new_privs where the
// caller may not do without. The error says what would allow it.
func Confine() error {
	const abiOfTCP = 4
	version, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return fmt.Errorf("the kernel cannot forbid TCP to a program (landlock_create_ruleset: %w), which takes Linux 6.7, "+
			"Landlock among its security modules, and a container's profile that allows the call", errno)
	}
	if version < abiOfTCP {
		return fmt.Errorf("the kernel cannot forbid TCP to a program (its Landlock has the ABI %d), which takes Linux 6.7 with the ABI %d", version, abiOfTCP)
	}
	attr := struct{ files, network uint64 }{network: unix.LANDLOCK_ACCESS_NET_CONNECT_TCP}
	fd, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return os.NewSyscallError("landlock_create_ruleset", errno)
	}
	defer unix.Close(int(fd))
	restrict := func() unix.Errno {
		_, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
		return errno
	}
	if errno = restrict(); errno == unix.EPERM {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return os.NewSyscallError("prctl", err)
		}
		errno = restrict()
	}
	if errno != 0 {
		return os.NewSyscallError("landlock_restrict_self", errno)
	}
	return nil
}
