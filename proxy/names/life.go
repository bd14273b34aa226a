package names

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/wire"
)

// robustList is what set_robust_list(2) takes: a list with one entry.
type robustList struct {
	first   uintptr // of the entries
	offset  int     // of each one's futex behind it
	pending uintptr
	entry   uintptr // the next, or the list itself for the last
}

// robust is read by the kernel when its thread ends, so it stays where it is.
var robust robustList

// LifeFile returns the memory file that tells programs whether this process lives. However it
// ends, the kernel says so there.
var LifeFile = sync.OnceValues(func() (fd int, err error) {
	fd, memory, err := fdio.NewMemoryFile("tlswrap-life", wire.LifeSize)
	if err != nil {
		return -1, err
	}
	owner := (*uint32)(unsafe.Pointer(&memory[0]))
	held := make(chan error)
	go func() {
		// The thread is this goroutine's alone, and ends with the process.
		runtime.LockOSThread()
		at := uintptr(unsafe.Pointer(&robust.entry))
		robust = robustList{first: at, offset: int(uintptr(unsafe.Pointer(owner)) - at), entry: uintptr(unsafe.Pointer(&robust.first))}
		_, _, errno := unix.RawSyscall(unix.SYS_SET_ROBUST_LIST, uintptr(unsafe.Pointer(&robust)), unsafe.Offsetof(robust.entry), 0)
		if errno != 0 {
			held <- os.NewSyscallError("set_robust_list", errno)
			return
		}
		atomic.StoreUint32(owner, uint32(unix.Gettid()))
		held <- nil
		select {}
	}()
	return fd, <-held
})
