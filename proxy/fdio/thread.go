package fdio

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// OnOwnThread calls f on a thread that ends with the goroutine, which is to end after it: what f changes is
// that thread's alone. It is not the process's first: that one cannot end, and would keep for good what
// it has, as is a descriptor table of its own with copies of all that was open; and what /proc has of the
// process is about it.
func OnOwnThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		OnOwnThread(f)
	}()
	<-done
	runtime.UnlockOSThread()
}
