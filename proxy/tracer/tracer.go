// Package tracer hands over the calls on sockets of programs, as a seccomp.Listener does, by ptrace(2): where
// the kernel has no listener to give, or does not let the worker copy descriptors. The filter is the same, but
// that a call stops its thread for the tracer (SECCOMP_RET_TRACE). Who answers is the supervisor, as always.
//
// What the kernel has no call for here, the stopped thread does for us: it is made to send a descriptor of its
// own, or to take one (link.go). While a call may take long the thread waits in pause(2), and not in the stop,
// so that signals come through as they do natively.
//
// The programs end with the tracer (PTRACE_O_EXITKILL): the kernel would make the call that a thread has
// stopped at, and would leave one with registers that are not its own.
package tracer

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/guard"
	"tlswrap/proxy/seccomp"
	"tlswrap/proxy/thread"
)

// Tracer is of all processes under one filter. Its methods may be called by any goroutine; ENOENT is their
// error for a call whose thread does not wait any more. It ends when there is no process left.
type Tracer struct {
	cookie  seccomp.Cookie
	work    chan func() // for the thread that traces
	noticed chan seccomp.Notification
	closing chan struct{}
	close   sync.Once
	ended   chan struct{}

	// Of the thread that traces alone:
	threads map[int]*call // that wait for an answer
	queue   []event       // that came while another was waited for
	last    uint64
	proved  bool // that calls come here

	mu    sync.Mutex
	calls map[uint64]*call // the same as threads
}

// Trace begins to trace a thread of a process, which is about to put the filter under itself, and whatever
// that becomes and starts. The error says what would allow it.
func Trace(log *slog.Logger, pid, tid int, cookie seccomp.Cookie) (*Tracer, error) {
	if !supported {
		return nil, errors.New("the worker cannot trace programs on this kind of machine, but on x86_64")
	}
	if err := unix.Access(fmt.Sprintf("/proc/%d/task/%d", pid, tid), unix.F_OK); err != nil {
		return nil, fmt.Errorf("the worker does not find the program: %w", err)
	}
	t := &Tracer{cookie: cookie, work: make(chan func()), noticed: make(chan seccomp.Notification), closing: make(chan struct{}),
		ended: make(chan struct{}), threads: make(map[int]*call), calls: make(map[uint64]*call)}
	begun := make(chan error, 1)
	go func() {
		defer close(t.ended)
		thread.Run(func() { guard.Run(log, "tracer", nil, func() { t.run(tid, begun) }) })
	}()
	select {
	case err := <-begun:
		return t, err
	case <-t.ended:
	}
	select {
	case err := <-begun: // it has ended for that
		return t, err
	default:
		return nil, errors.New("the worker's tracer has ended")
	}
}

// Close ends the tracer, and the programs that are left.
func (t *Tracer) Close() { t.close.Do(func() { close(t.closing) }) }

// run traces until nobody is left.
func (t *Tracer) run(tid int, begun chan<- error) {
	stops := make(chan os.Signal, 1)
	signal.Notify(stops, unix.SIGCHLD)
	defer signal.Stop(stops)
	err := seize(tid)
	begun <- err
	for err == nil {
		var e event
		if e, err = t.poll(); err == nil && e.tid != 0 {
			t.dispatch(e)
			continue
		}
		if err != nil {
			return // ECHILD
		}
		select {
		case <-stops:
		case f := <-t.work:
			f()
		case <-t.closing:
			return
		}
	}
}

// options are those of all that are traced: PTRACE_O_EXITKILL is what makes it safe.
const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_TRACECLONE |
	unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_EXITKILL

func seize(tid int) error {
	if err := ptrace(unix.PTRACE_SEIZE, tid, 0, options); err != nil {
		return fmt.Errorf("the worker may not trace the program (ptrace: %w), which takes the same user for both or CAP_SYS_PTRACE, "+
			"a container's profile and a Yama that allow it, and no debugger or tracer there already", err)
	}
	return nil
}

// Receive returns the next call that waits for an answer; the error is that nobody is left.
func (t *Tracer) Receive() (seccomp.Notification, error) {
	select {
	case n := <-t.noticed:
		return n, nil
	case <-t.ended:
		return seccomp.Notification{}, unix.ESRCH
	}
}

// do has the thread that traces call f for a call.
func (t *Tracer) do(id uint64, f func(c *call) error) error {
	result := make(chan error, 1)
	step := func() {
		t.mu.Lock()
		c := t.calls[id]
		t.mu.Unlock()
		err := error(unix.ENOENT)
		if c != nil {
			err = f(c)
		}
		result <- err
	}
	select {
	case t.work <- step:
	case <-t.ended:
		return unix.ENOENT
	}
	select {
	case err := <-result:
		return err
	case <-t.ended: // by a panic
		return unix.ENOENT
	}
}

// Waits reports whether the thread still waits for its answer. It waits for that until it comes, then, and
// no signal takes it away, unless Hold lets it.
func (t *Tracer) Waits(id uint64) bool { return t.do(id, t.stop) == nil }

// Hold says that the answer may take long: signals are delivered meanwhile, and end the call, or have the kernel
// make it again.
func (t *Tracer) Hold(id uint64) error { return t.do(id, t.pause) }

// Return answers with what the call returns.
func (t *Tracer) Return(id uint64, value int64) error {
	return t.do(id, func(c *call) error { return t.finish(c, value) })
}

// Fail answers with an error.
func (t *Tracer) Fail(id uint64, errno unix.Errno) error { return t.Return(id, -int64(errno)) }

// Continue has the kernel make the call.
func (t *Tracer) Continue(id uint64) error { return t.do(id, t.native) }

// Descriptor returns a copy of a descriptor of the thread's, the caller's to close.
func (t *Tracer) Descriptor(id uint64, number int) (fd int, err error) {
	fd = -1
	return fd, t.do(id, func(c *call) (err error) {
		fd, err = t.fetch(c, number)
		return err
	})
}

// Replace puts a copy of fd into the caller's descriptor table, in the place of target.
func (t *Tracer) Replace(id uint64, fd, target int, closeOnExec bool) error {
	return t.do(id, func(c *call) error { return t.replace(c, fd, target, closeOnExec) })
}

// ReturnFD answers with a copy of fd, at the lowest number that is free.
func (t *Tracer) ReturnFD(id uint64, fd int, closeOnExec bool) error {
	return t.do(id, func(c *call) error {
		number, err := t.put(c, fd, closeOnExec)
		if err != nil {
			return err
		}
		return t.finish(c, int64(number))
	})
}
