package tracer

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// event is a stop of a thread, or its end; without a thread it is none.
type event struct {
	tid    int
	status unix.WaitStatus
}

// extra is which of ptrace's own events it is: PTRACE_EVENT_…, or 0.
func (e event) extra() int {
	if !e.status.Stopped() {
		return 0
	}
	return int(e.status) >> 16
}

func (e event) ended() bool { return e.status.Exited() || e.status.Signaled() }

// inCall reports whether the thread stands where a system call begins or ends.
func (e event) inCall() bool { return e.status.Stopped() && e.status.StopSignal() == unix.SIGTRAP|0x80 }

// groupStop reports whether its process is stopped by a signal, as a shell does it.
func (e event) groupStop() bool {
	return e.extra() == unix.PTRACE_EVENT_STOP && e.status.StopSignal() != unix.SIGTRAP
}

// signal is what is about to be delivered, or 0.
func (e event) signal() unix.Signal {
	if !e.status.Stopped() || e.extra() != 0 || e.inCall() {
		return 0
	}
	return e.status.StopSignal()
}

// poll returns the next event, or none. The error is that nobody is traced any more.
func (t *Tracer) poll() (event, error) {
	if len(t.queue) > 0 {
		e := t.queue[0]
		t.queue = t.queue[1:]
		return e, nil
	}
	return wait(unix.WNOHANG)
}

// wait is for those alone that this thread traces: the worker's own children are other threads'.
func wait(flags int) (e event, err error) {
	for {
		e.tid, err = unix.Wait4(-1, &e.status, unix.WALL|unix.WNOTHREAD|flags, nil)
		if err != unix.EINTR {
			return e, err
		}
	}
}

// next waits for the next event of a thread. Those of others are taken meanwhile, since the kernel may want that
// before this one can be (the threads that an exec ends).
func (t *Tracer) next(tid int) (event, error) {
	for i, e := range t.queue {
		if e.tid == tid {
			t.queue = append(t.queue[:i:i], t.queue[i+1:]...)
			return e, nil
		}
	}
	for {
		e, err := wait(0)
		if err != nil || e.tid == tid {
			return e, err
		}
		t.queue = append(t.queue, e)
	}
}

// dispatch takes note of an event, and has the thread go on, unless it is to be answered.
func (t *Tracer) dispatch(e event) {
	c := t.threads[e.tid]
	switch signal := e.signal(); {
	case e.ended():
		t.forget(c)
	case e.extra() == unix.PTRACE_EVENT_SECCOMP:
		t.forget(c)
		t.notice(e.tid)
	case e.extra() == unix.PTRACE_EVENT_EXEC:
		t.forget(c)
		if former, err := unix.PtraceGetEventMsg(e.tid); err == nil {
			t.forget(t.threads[int(former)])
		}
		resume(e)
	case c != nil && (e.groupStop() || signal != 0 && !ignored(e.tid, signal)):
		t.interrupt(c, e)
	case c != nil && e.inCall() && t.refused(c): // it stays there
		c.stays = true
		t.become(c, left)
	default: // a thread in pause(2) goes on with that
		resume(e)
	}
}

// stands reports whether a stopped thread has not been killed meanwhile. Another one of its process may have its
// number then, which has executed a program, and of which the tracer is yet to be told.
func stands(tid int) bool {
	var info struct {
		_    [8]byte
		code int32
		_    [116]byte
	} // siginfo_t
	err := ptrace(unix.PTRACE_GETSIGINFO, tid, 0, uintptr(unsafe.Pointer(&info)))
	return err == nil && info.code != int32(unix.SIGTRAP)|unix.PTRACE_EVENT_EXEC<<8
}

// resume has a thread go on as it would without a tracer: the signal is delivered, and what is stopped by one
// stays so until the next.
func resume(e event) error {
	if e.groupStop() {
		return ptrace(unix.PTRACE_LISTEN, e.tid, 0, 0)
	}
	return ptrace(unix.PTRACE_CONT, e.tid, 0, uintptr(e.signal()))
}

// forget is for a call that nobody waits for any more, or nil.
func (t *Tracer) forget(c *call) {
	if c == nil {
		return
	}
	c.dropLink()
	if t.threads[c.tid] == c {
		delete(t.threads, c.tid)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.calls, c.id)
}

// ignored reports whether a process does not notice a signal, whose threads a tracer sees interrupted all
// the same.
func ignored(tid int, signal unix.Signal) bool {
	const byDefault = 1<<(unix.SIGCHLD-1) | 1<<(unix.SIGURG-1) | 1<<(unix.SIGWINCH-1) | 1<<(unix.SIGCONT-1)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return false
	}
	bit := uint64(1) << (signal - 1)
	if mask(status, "SigIgn:")&bit != 0 {
		return true
	}
	return byDefault&bit != 0 && mask(status, "SigCgt:")&bit == 0
}

func mask(status []byte, name string) uint64 {
	for line := range bytes.Lines(status) {
		if hex, ok := bytes.CutPrefix(line, []byte(name)); ok {
			n, _ := strconv.ParseUint(string(bytes.TrimSpace(hex)), 16, 64)
			return n
		}
	}
	return 0
}

// ptrace is ptrace(2).
func ptrace(request, tid int, addr, data uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
