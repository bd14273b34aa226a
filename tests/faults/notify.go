package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The faults are made with seccomp_unotify(2): each call that may fail stops its thread until
// this process says that it goes on, or which errno it ends in. Children inherit that.

// ask is one call that waits for an answer: struct seccomp_notif (linux/seccomp.h).
type ask struct {
	id    uint64
	tid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// answer is struct seccomp_notif_resp.
type answer struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

const (
	notifRecv     = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV
	notifSend     = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND
	notifContinue = 1          // SECCOMP_USER_NOTIF_FLAG_CONTINUE

	retAllow      uint32 = 0x7fff0000 // SECCOMP_RET_ALLOW
	retUserNotify uint32 = 0x7fc00000 // SECCOMP_RET_USER_NOTIF
)

// filter asks about calls, the numbers of system calls of this machine's own kind.
func filter(calls []int, arch uint32) []unix.SockFilter {
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 4}, // arch of struct seccomp_data
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: arch},
		{Code: unix.BPF_RET | unix.BPF_K, K: retAllow},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // nr
	}
	for i, nr := range calls {
		code = append(code, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K,
			Jt: uint8(len(calls) - i), K: uint32(nr)})
	}
	return append(code,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: retAllow},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: retUserNotify})
}

// errNoNotify is the error of under on a machine where no process can be put below such a filter.
var errNoNotify = errors.New("this machine has no seccomp_unotify(2) as of Linux 5.19")

// under starts a command below a filter, by become, which is programs/become.c. The caller closes
// the listener.
func under(become string, cmd *exec.Cmd) (listener int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return -1, err
	}
	defer r.Close()
	code := filter(callNumbers(), auditArch)
	_, err = w.Write(unsafe.Slice((*byte)(unsafe.Pointer(&code[0])), len(code)*int(unsafe.Sizeof(code[0]))))
	w.Close()
	if err != nil {
		return -1, err
	}
	cmd.Args = append([]string{become, cmd.Path}, cmd.Args[1:]...)
	cmd.Path, cmd.ExtraFiles = become, []*os.File{r}
	if err := cmd.Start(); err != nil {
		return -1, err
	}
	const theirs = 3
	var status unix.WaitStatus
	listener = -1
	if _, err = unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil); err == nil && !status.Stopped() {
		return -1, errNoNotify
	}
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err == nil {
		listener, err = unix.PidfdGetfd(pidfd, theirs, 0)
		unix.Close(pidfd)
	}
	if err == nil {
		err = cmd.Process.Signal(unix.SIGCONT)
	}
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
	}
	return listener, err
}

// answerAll answers every call with what decide says, 0 to go on, until the last process below
// the filter has ended. It returns false where that takes longer than poll(2) is told to wait,
// in ms, between two calls.
func answerAll(listener, wait int, decide func(*ask) unix.Errno) bool {
	for {
		p := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		n, err := unix.Poll(p, wait)
		switch {
		case err == unix.EINTR:
			continue
		case n == 0:
			return false
		case p[0].Revents&unix.POLLIN == 0:
			return true
		}
		var a ask
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifRecv, uintptr(unsafe.Pointer(&a))); errno != 0 {
			continue // it was killed meanwhile
		}
		r := answer{id: a.id, flags: notifContinue}
		if errno := decide(&a); errno != 0 {
			r = answer{id: a.id, errno: -int32(errno)}
		}
		unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifSend, uintptr(unsafe.Pointer(&r)))
	}
}

// proc is a file of a thread's in /proc.
func proc(tid uint32, name string) string {
	return "/proc/" + strconv.Itoa(int(tid)) + "/" + name
}
