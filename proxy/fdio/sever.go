package fdio

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/thread"
)

// Sever ends all connections of a process that is about to exit, and whose threads may not all end: while
// one waits for a file system, the kernel keeps every descriptor of the process open. A socket without
// a peer takes each one's place, so that no goroutine finds another connection by the number of its own.
func Sever() error {
	const folder = "/proc/self/fd"
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	unix.Close(ends[1])
	var sockets []int
	for _, entry := range entries {
		fd, _ := strconv.Atoi(entry.Name())
		name, _ := os.Readlink(filepath.Join(folder, entry.Name()))
		if fd > unix.Stderr && fd != ends[0] && strings.HasPrefix(name, "socket:") {
			sockets = append(sockets, fd)
		}
	}
	// All end at once: nobody is to take the end of one for its peer's. One goroutine runs at a time then, and it is
	// this one until it has done, as Go's runtime interrupts a goroutine that calls nothing by a signal alone.
	runtime.GOMAXPROCS(1)
	return thread.WithoutSignals(func() {
		for _, fd := range sockets {
			unix.RawSyscall(unix.SYS_DUP3, uintptr(ends[0]), uintptr(fd), unix.O_CLOEXEC)
		}
	})
}
