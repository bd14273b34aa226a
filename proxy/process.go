package proxy

import (
	"os"

	"golang.org/x/sys/unix"
)

// Name is what a worker is called in ps(1), after the experiment of 2014.
const Name = "goressl"

// Harden makes this process a worker: named so, and closed to ptrace(2), core dumps and
// /proc/PID/mem of other processes of the same user.
func Harden() error {
	// The name of the process is that of its first thread.
	if err := os.WriteFile("/proc/self/comm", []byte(Name), 0); err != nil {
		return err
	}
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
}
