package target

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/thread"
)

// SocketIn makes a socket in the network namespace of a thread: where that is not this process's own, the
// kernel has to let us enter it (setns(2)).
func SocketIn(tid, domain, kind, protocol int) (int, error) {
	theirs := fmt.Sprintf("/proc/%d/ns/net", tid)
	same, err := sameNamespace(theirs)
	if err != nil {
		return -1, err
	}
	if same {
		fd, err := unix.Socket(domain, kind, protocol)
		return fd, os.NewSyscallError("socket", err)
	}
	ns, err := os.Open(theirs)
	if err != nil {
		return -1, err
	}
	defer ns.Close()
	fd := -1
	thread.Run(func() {
		if err = os.NewSyscallError("setns", unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)); err == nil {
			fd, err = unix.Socket(domain, kind, protocol)
			err = os.NewSyscallError("socket", err)
		}
	})
	return fd, err
}

func sameNamespace(theirs string) (bool, error) {
	var own, other unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &own); err != nil {
		return false, os.NewSyscallError("stat", err)
	}
	if err := unix.Stat(theirs, &other); err != nil {
		return false, os.NewSyscallError("stat", err)
	}
	return own.Ino == other.Ino && own.Dev == other.Dev, nil
}
