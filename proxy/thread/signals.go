package thread

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// WithoutSignals calls f on a thread that no signal interrupts, which Go's own do all the time. The error is that
// f was not called.
func WithoutSignals(f func()) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return os.NewSyscallError("rt_sigprocmask", err)
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	f()
	return nil
}
