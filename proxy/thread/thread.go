// Package thread runs what changes the calling thread for good, on a thread that ends with it: a descriptor
// table or a namespace of its own, or a filter of the kernel's. And what no signal may interrupt.
package thread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Run calls f on a thread that nothing else runs on, and returns when f does.
func Run(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked, so that the thread ends with the goroutine
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// The process's first thread cannot end, and would keep what f has made of it. While it is
		// this goroutine's it is not another's.
		defer runtime.UnlockOSThread()
		Run(f)
	}()
	<-done
}
