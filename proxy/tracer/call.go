package tracer

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/seccomp"
)

// state is where a thread is that waits for an answer.
type state int

const (
	entered state = iota // stopped where its call begins, which the kernel makes unless it is changed
	left                 // stopped outside of the call
	paused               // in pause(2), or about to call it
)

// call is one call whose thread waits for an answer.
type call struct {
	id    uint64
	tid   int
	regs  registers // as it made the call
	state state     // changed with the tracer's lock

	// Of a thread that is made to do something for us:
	masked  bool   // no signal comes, but by old
	old     uint64 // its mask
	stopped bool   // its process was stopped meanwhile
	missed  []unix.Signal
	link    *link
}

// What the kernel makes of these, once a signal was delivered, is what it makes of an interrupted call
// (linux/errno.h): the first is made again if the handler says so or there is none.
const (
	restartSys       = -512
	restartRestBlock = -516
)

// notice has a call handed over that a thread has stopped at.
func (t *Tracer) notice(tid int) {
	var r registers
	if r.read(tid) != nil {
		return // it was killed
	}
	if r.number() == unix.SYS_CLONE { // with CLONE_UNTRACED
		r.traceClone()
		if r.write(tid) == nil {
			resume(event{tid: tid})
		}
		return
	}
	t.last++
	c := &call{id: t.last, tid: tid, regs: r}
	t.threads[tid] = c
	t.mu.Lock()
	t.calls[c.id] = c
	t.mu.Unlock()
	if t.proved = t.proved || int32(r.args()[0]) != -1; !t.proved {
		t.finish(c, -int64(seccomp.Proof))
		return
	}
	select {
	case t.noticed <- seccomp.Stopped{Number: r.number(), IP: r.ip(), Args: r.args()}.Notification(c.id, tid):
	case <-t.closing:
	}
}

func (t *Tracer) become(c *call, s state) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.state = s
}

// interrupt ends the waiting of a thread that a signal has come for, as if that had interrupted the call.
func (t *Tracer) interrupt(c *call, e event) error {
	t.forget(c)
	r := c.regs
	r.leave(restartSys)
	return c.certainly(r.write(c.tid), resume(e))
}

// certainly is for what has to be done to a thread: where that fails, but because it is gone, nobody knows what
// it would do, and it ends.
func (c *call) certainly(errs ...error) error {
	for _, err := range errs {
		if err != nil && err != unix.ESRCH {
			unix.Kill(c.tid, unix.SIGKILL)
			return err
		}
		if err != nil {
			return unix.ENOENT
		}
	}
	return nil
}

// bring stops a thread that is in pause(2), and returns what to go on with after its answer.
func (t *Tracer) bring(c *call) (e event, err error) {
	e.tid = c.tid
	if c.state != paused {
		return e, nil
	}
	if err := c.certainly(ptrace(unix.PTRACE_INTERRUPT, c.tid, 0, 0)); err != nil {
		return e, err
	}
	for {
		if e, err = t.next(c.tid); err != nil {
			t.forget(c)
			return e, unix.ENOENT
		}
		signal := e.signal()
		switch {
		case e.ended(), e.extra() != 0 && e.extra() != unix.PTRACE_EVENT_STOP:
			t.dispatch(e)
			return e, unix.ENOENT
		case e.inCall(), signal != 0 && ignored(c.tid, signal):
			resume(e)
			continue
		}
		t.become(c, left)
		if e.extra() == unix.PTRACE_EVENT_STOP && !e.groupStop() {
			return event{tid: c.tid}, nil
		}
		return e, nil
	}
}

// stop is bring for what is no answer: a signal that has come ends the waiting.
func (t *Tracer) stop(c *call) error {
	e, err := t.bring(c)
	if err != nil {
		return err
	}
	if e.signal() != 0 || e.groupStop() {
		t.interrupt(c, e)
		return unix.ENOENT
	}
	return nil
}

// pause has a thread wait in pause(2).
func (t *Tracer) pause(c *call) error {
	if c.state == paused {
		return nil
	}
	if err := t.unlink(c); err != nil {
		return err
	}
	r := c.regs
	if c.state == entered {
		r.enter(pause)
	} else {
		r.make(pause, nil)
	}
	t.become(c, paused)
	return c.certainly(r.write(c.tid), t.release(c, event{tid: c.tid}))
}

// finish answers a call.
func (t *Tracer) finish(c *call, value int64) error {
	e, err := t.bring(c)
	if err != nil {
		return err
	}
	if err := t.unlink(c); err != nil {
		return err
	}
	t.forget(c)
	r := c.regs
	r.skip(value)
	return c.certainly(r.write(c.tid), t.release(c, e))
}

// native has the kernel make the call.
func (t *Tracer) native(c *call) error {
	if err := t.stop(c); err != nil {
		return err
	}
	if err := t.unlink(c); err != nil {
		return err
	}
	if c.state != entered {
		if err := t.enterAgain(c); err != nil {
			return err
		}
	}
	t.forget(c)
	return c.certainly(t.release(c, event{tid: c.tid}))
}

// enterAgain has a thread begin its call anew, which was left for what it did for us, up to where it stops.
func (t *Tracer) enterAgain(c *call) error {
	if err := t.quieten(c); err != nil {
		return err
	}
	r := c.regs
	r.make(r.number(), nil)
	if err := c.certainly(r.write(c.tid)); err != nil {
		return err
	}
	for {
		e, err := t.proceed(c, unix.PTRACE_CONT)
		if err != nil || e.extra() == unix.PTRACE_EVENT_SECCOMP {
			return err
		}
	}
}

// quieten keeps signals from a thread that is about to do something for us.
func (t *Tracer) quieten(c *call) error {
	if c.masked {
		return nil
	}
	all := ^uint64(0)
	err := c.certainly(ptrace(unix.PTRACE_GETSIGMASK, c.tid, unsafe.Sizeof(c.old), uintptr(unsafe.Pointer(&c.old))),
		ptrace(unix.PTRACE_SETSIGMASK, c.tid, unsafe.Sizeof(all), uintptr(unsafe.Pointer(&all))))
	c.masked = err == nil
	return err
}

// release has a thread go on after e, with its signals.
func (t *Tracer) release(c *call, e event) error {
	if c.masked {
		if err := ptrace(unix.PTRACE_SETSIGMASK, c.tid, unsafe.Sizeof(c.old), uintptr(unsafe.Pointer(&c.old))); err != nil {
			return err
		}
		c.masked = false
	}
	if c.stopped { // it stops again, and then stays so
		c.stopped = false
		if err := ptrace(unix.PTRACE_INTERRUPT, c.tid, 0, 0); err != nil {
			return err
		}
	}
	for _, signal := range c.missed {
		unix.Kill(c.tid, signal)
	}
	c.missed = nil
	return resume(e)
}

// proceed has a thread go on to its next stop that is no signal's.
func (t *Tracer) proceed(c *call, request int) (event, error) {
	for {
		if err := c.certainly(ptrace(request, c.tid, 0, 0)); err != nil {
			return event{}, err
		}
		e, err := t.next(c.tid)
		switch {
		case err != nil:
			t.forget(c)
			return e, unix.ENOENT
		case e.ended(), e.extra() == unix.PTRACE_EVENT_EXEC:
			t.dispatch(e)
			return e, unix.ENOENT
		case e.groupStop():
			c.stopped = true
		case e.signal() != 0:
			c.missed = append(c.missed, e.signal())
		case e.extra() != unix.PTRACE_EVENT_STOP:
			return e, nil
		}
	}
}

// inject has a thread make another call, and returns what that does.
func (t *Tracer) inject(c *call, number int, args ...uint64) (int64, error) {
	if err := t.step(c); err != nil {
		return 0, err
	}
	for {
		r := c.regs
		r.make(number, args)
		if err := c.certainly(r.write(c.tid)); err != nil {
			return 0, err
		}
		for range 2 { // where it begins, and where it ends
			e, err := t.proceed(c, unix.PTRACE_SYSCALL)
			if err != nil {
				return 0, err
			}
			if !e.inCall() {
				t.forget(c)
				return 0, c.certainly(unix.EPROTO) // another's tracer, or another filter
			}
		}
		if err := c.certainly(r.read(c.tid)); err != nil {
			return 0, err
		}
		switch value := r.value(); {
		case value >= -4095 && value < 0 && (value > restartSys || value < restartRestBlock) && value != -int64(unix.EINTR):
			return value, unix.Errno(-value)
		case value >= restartRestBlock && value <= restartSys, value == -int64(unix.EINTR): // it is to be made again
		default:
			return value, nil
		}
	}
}

// step takes a thread out of its call, which the kernel does not make.
func (t *Tracer) step(c *call) error {
	if err := t.stop(c); err != nil {
		return err
	}
	if err := t.quieten(c); err != nil || c.state == left {
		return err
	}
	r := c.regs
	r.skip(-int64(unix.ENOSYS))
	if err := c.certainly(r.write(c.tid)); err != nil {
		return err
	}
	_, err := t.proceed(c, unix.PTRACE_SYSCALL)
	if err == nil {
		t.become(c, left)
	}
	return err
}
