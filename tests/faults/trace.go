package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The faults are made with ptrace(2): a seccomp filter stops each call that may fail (SECCOMP_RET_TRACE) until
// the thread that started the command says that it goes on, or which errno it ends in. Children inherit that.
// tlswrap's own filter has a listener, of which there can be one only in a chain of filters
// (seccomp_unotify(2)): so here is none.

// ask is one call that waits for an answer.
type ask struct {
	tid int
	nr  int
	ip  uint64
}

const (
	retAllow uint32 = 0x7fff0000 // SECCOMP_RET_ALLOW
	retTrace uint32 = 0x7ff00000 // SECCOMP_RET_TRACE

	getSyscallInfo = 0x420e // PTRACE_GET_SYSCALL_INFO (linux/ptrace.h)
)

// callInfo is the head of struct ptrace_syscall_info.
type callInfo struct {
	op    uint8
	_     [3]uint8
	arch  uint32
	ip    uint64
	stack uint64
	nr    uint64
	_     [8]uint64
}

// filter stops at calls, the numbers of system calls of this machine's own kind.
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
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: retTrace})
}

// errNoTrace is the error of under on a machine where no process can be put below such a filter.
var errNoTrace = errors.New("this machine lets no process be traced below a seccomp filter")

// under starts a command below a filter, by become, which is programs/become.c. The calling thread traces it,
// and must be locked to its goroutine until tracing has ended.
func under(become string, cmd *exec.Cmd) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	code := filter(callNumbers(), auditArch)
	_, err = w.Write(unsafe.Slice((*byte)(unsafe.Pointer(&code[0])), len(code)*int(unsafe.Sizeof(code[0]))))
	w.Close()
	if err != nil {
		return err
	}
	cmd.Args = append([]string{become, cmd.Path}, cmd.Args[1:]...)
	cmd.Path, cmd.ExtraFiles = become, []*os.File{r}
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	var status unix.WaitStatus
	const options = unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACECLONE |
		unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL
	_, err = unix.Wait4(cmd.Process.Pid, &status, unix.WALL, nil)
	if err == nil && !status.Stopped() {
		err = errNoTrace
	}
	if err == nil {
		err = unix.PtraceSetOptions(cmd.Process.Pid, options)
	}
	if err == nil {
		err = unix.PtraceCont(cmd.Process.Pid, 0)
	}
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
	}
	return err
}

// tracing answers every call of the processes that one thread traces.
type tracing struct {
	first int // process
	quiet time.Duration
	end   func() // ends what hangs

	hung   bool
	status unix.WaitStatus // how first ended
}

// answerAll answers every call with what decide says, 0 to go on, until the last process has ended. Where quiet
// goes by between two stops it notes that something hangs, and ends it.
func (t *tracing) answerAll(decide func(ask) unix.Errno) {
	var mu sync.Mutex // between this and the end of what hangs
	watch := time.AfterFunc(t.quiet, func() {
		mu.Lock()
		defer mu.Unlock()
		t.hung = true
		t.end()
	})
	defer watch.Stop()
	known := map[int]bool{t.first: true}
	for {
		var status unix.WaitStatus
		tid, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		if err == unix.EINTR {
			continue
		}
		mu.Lock()
		if err != nil {
			mu.Unlock()
			return
		}
		if !t.hung {
			watch.Reset(t.quiet)
		}
		t.stopped(tid, status, known, decide)
		mu.Unlock()
	}
}

// stopped lets a thread go on that has stopped, or notes its end.
func (t *tracing) stopped(tid int, status unix.WaitStatus, known map[int]bool, decide func(ask) unix.Errno) {
	if !status.Stopped() {
		if tid == t.first {
			t.status = status
		}
		return
	}
	signal := 0
	switch {
	case status.TrapCause() == unix.PTRACE_EVENT_SECCOMP:
		var info callInfo
		_, _, errno := unix.Syscall6(unix.SYS_PTRACE, getSyscallInfo, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
		if errno != 0 {
			break // it was killed meanwhile
		}
		if errno := decide(ask{tid, int(info.nr), info.ip}); errno != 0 {
			fail(tid, errno)
		}
	case status.StopSignal() == unix.SIGTRAP:
	case status.StopSignal() == unix.SIGSTOP && !known[tid]: // how a new thread begins
	default:
		signal = int(status.StopSignal())
	}
	known[tid] = true
	unix.PtraceCont(tid, signal)
}

// proc is a file of a thread's in /proc.
func proc(tid int, name string) string {
	return "/proc/" + strconv.Itoa(tid) + "/" + name
}
