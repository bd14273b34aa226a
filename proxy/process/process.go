// Package process makes the calling process a worker. tlswrap calls it.
package process

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Name is what a worker is called in ps(1), after the experiment of 2014.
const Name = "goressl"

// Harden makes this process a worker: named so, and closed to ptrace(2), core dumps and
// /proc/PID/mem of other processes of the same user.
func Harden() error {
	// The name of the process is that of its first thread. Of an undumpable process the files
	// in /proc/self are root's, but a thread may always name the others (proc_tid_comm_permission
	// in fs/proc/base.c).
	if err := os.WriteFile(fmt.Sprintf("/proc/self/task/%d/comm", os.Getpid()), []byte(Name), 0); err != nil {
		return err
	}
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
}
