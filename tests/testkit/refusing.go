package testkit

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Refusal is a system call, by its number on this machine, that ends in an errno.
type Refusal struct {
	Call  uintptr
	Errno unix.Errno
}

// Machines on which programs cannot be supervised as usual.
var (
	// WithoutListener is one whose kernel has no seccomp filter whose calls somebody else answers.
	WithoutListener = []Refusal{{unix.SYS_SECCOMP, unix.ENOSYS}}
	// WithoutCopies is one that gives nobody copies of a process's descriptors, as Docker's profile.
	WithoutCopies = []Refusal{{unix.SYS_PIDFD_GETFD, unix.EPERM}, {unix.SYS_KCMP, unix.EPERM}}
	// WithoutSeccomp is one on which nobody can answer for a process: it allows no tracer either.
	WithoutSeccomp = append(WithoutListener[:1:1], Refusal{unix.SYS_PTRACE, unix.EPERM})
)

// Refusing starts something below a filter of the kernel's that refuses calls: all processes that
// start starts. It is start's error that it returns, or its own.
func Refusing(refusals []Refusal, start func() error) error {
	if len(refusals) == 0 {
		return start()
	}
	done := make(chan error)
	go func() {
		// The filter is this thread's, and what is forked from it has it too. The thread ends with
		// this function, as it is never unlocked.
		runtime.LockOSThread()
		err := refuse(refusals)
		if err == nil {
			err = start()
		}
		done <- err
	}()
	return <-done
}

// refuse puts the calling thread below the filter.
func refuse(refusals []Refusal) error {
	const retErrno, retAllow = 0x00050000, 0x7fff0000                                // SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW
	code := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // nr of struct seccomp_data
	for _, r := range refusals {
		code = append(code,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(r.Call)},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: retErrno | uint32(r.Errno)})
	}
	code = append(code, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: retAllow})
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if os.Geteuid() != 0 { // root's set-ID programs keep their rights below it
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return os.NewSyscallError("prctl(PR_SET_NO_NEW_PRIVS)", err)
		}
	}
	_, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return os.NewSyscallError("prctl(PR_SET_SECCOMP)", errno)
	}
	return nil
}
