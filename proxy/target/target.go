// Package target reaches a process from outside, the target of seccomp_unotify(2): its memory, copies of
// its descriptors, and what else the kernel tells of them. It needs what ptrace(2) needs
// (PTRACE_MODE_ATTACH_REALCREDS). A number may be used again by another process, or thread: whoever asks
// makes sure afterwards that the one that was meant still waits. The supervisor calls it.
package target

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
)

// Thread is a thread of another process. It is used by one goroutine, and closed.
type Thread struct {
	TID int
	PID int // of its process
	fd  int // a pidfd of the thread, or of its process where that has the same descriptors; -1 for none
	// get returns a copy of a descriptor where the kernel gives none, or is nil.
	get func(number int) (int, error)
}

// ErrCannotTell is why a thread's descriptors are not reached: before Linux 6.9 there are no pidfds of
// threads, and this one may have others than its process (CLONE_FILES).
var ErrCannotTell = errors.New("it cannot be told which descriptors the thread has")

// Open finds a thread by its number.
func Open(tid int) (*Thread, error) {
	// Most are the first threads of their processes, of which alone there are pidfds without a flag.
	fd, err := unix.PidfdOpen(tid, 0)
	if err == nil {
		return &Thread{tid, tid, fd, nil}, nil
	}
	if err == unix.ESRCH {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	pid, err := processOf(tid)
	if err != nil {
		return nil, err
	}
	if fd, err = unix.PidfdOpen(tid, pidfdThread); err == nil {
		return &Thread{tid, pid, fd, nil}, nil
	}
	if err != unix.EINVAL {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	if shares, err := sharesFiles(tid, pid); err != nil || !shares {
		return nil, ErrCannotTell
	}
	if fd, err = unix.PidfdOpen(pid, 0); err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return &Thread{tid, pid, fd, nil}, nil
}

// OpenWith finds a thread by its number. What the kernel gives no copy of, get does, unless it is nil.
func OpenWith(tid int, get func(number int) (int, error)) (*Thread, error) {
	t, err := Open(tid)
	if err != nil && get != nil {
		pid, e := processOf(tid)
		if e != nil {
			return nil, err
		}
		t, err = &Thread{tid, pid, -1, nil}, nil
	}
	if err == nil {
		t.get = get
	}
	return t, err
}

// pidfdThread is PIDFD_THREAD (linux/pidfd.h, Linux 6.9).
const pidfdThread = unix.O_EXCL

// sharesFiles reports whether two threads have the same descriptors.
func sharesFiles(tid, other int) (bool, error) {
	const files = 2 // KCMP_FILES, linux/kcmp.h
	differ, _, errno := unix.RawSyscall6(unix.SYS_KCMP, uintptr(tid), uintptr(other), files, 0, 0, 0)
	if errno != 0 {
		return false, errno
	}
	return differ == 0, nil
}

// processOf reads which process a thread belongs to.
func processOf(tid int) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(status) {
		if number, ok := bytes.CutPrefix(line, []byte("Tgid:")); ok {
			return strconv.Atoi(string(bytes.TrimSpace(number)))
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no Tgid", tid)
}

// Close frees what Open has taken.
func (t *Thread) Close() { fdio.Close(t.fd) }

// Pidfd returns a descriptor that tells of the process's end, the caller's to close, or -1.
func (t *Thread) Pidfd() int {
	fd, err := unix.PidfdOpen(t.PID, 0)
	if err != nil {
		return -1
	}
	return fd
}

// Descriptor returns a copy of one of the thread's descriptors, the caller's to close: of the same open
// file, so with its flags, and closed on exec here. EBADF: it has none of this number.
func (t *Thread) Descriptor(number int) (int, error) {
	fd, err := unix.PidfdGetfd(t.fd, number, 0)
	if err != nil && t.get != nil && (err != unix.EBADF || t.fd < 0) {
		return t.get(number)
	}
	return fd, err
}

// Read fills b with what is at an address of the thread's memory, once, and tells how much there is. It
// is less than was asked for only where the rest cannot be read. EFAULT: nothing can; EPERM: the memory
// is not for us.
func (t *Thread) Read(address uint64, b []byte) (int, error) {
	return t.move(address, b, unix.SYS_PROCESS_VM_READV)
}

// Write puts b at an address of its memory.
func (t *Thread) Write(address uint64, b []byte) error {
	n, err := t.move(address, b, unix.SYS_PROCESS_VM_WRITEV)
	if err == nil && n < len(b) {
		err = unix.EFAULT
	}
	return err
}

// move is process_vm_readv(2) or process_vm_writev(2) of one piece.
func (t *Thread) move(address uint64, b []byte, call uintptr) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	here := unix.Iovec{Base: &b[0]}
	here.SetLen(len(b))
	there := unix.RemoteIovec{Base: uintptr(address), Len: len(b)}
	n, _, errno := unix.RawSyscall6(call, uintptr(t.TID), uintptr(unsafe.Pointer(&here)), 1, uintptr(unsafe.Pointer(&there)), 1, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// IDs are the process's effective user and group, as this one sees them.
func (t *Thread) IDs() (uid, gid uint32, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", t.PID))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		for name, id := range map[string]*uint32{"Uid:": &uid, "Gid:": &gid} {
			numbers, ok := strings.CutPrefix(line, name)
			if !ok {
				continue
			}
			if _, err := fmt.Sscan(numbers, new(uint32), id); err != nil {
				return 0, 0, err
			}
		}
	}
	return uid, gid, nil
}
