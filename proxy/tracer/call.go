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
	link    *link
	stays   bool // it waits in the stop, as it may not call pause(2)
}

// What the kernel makes of these, once a signal was delivered, is what it makes of an interrupted call
// (linux/errno.h): the first is made again if the handler says so or there is none. The second is pause(2)'s.
const (
	restartSys       = -512
	restartNoHand    = -514
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
	return t.goOn(c, r, e)
}

// goOn has a thread go on after e with registers, and not without them.
func (t *Tracer) goOn(c *call, r registers, e event) error {
	if err := c.certainly(r.write(c.tid)); err != nil {
		return err
	}
	return c.certainly(t.release(c, e))
}

// certainly is for what has to be done to a thread: where that fails, but because it is gone, nobody knows what
// it would do, and it ends.
func (c *call) certainly(err error) error {
	switch err {
	case nil:
		return nil
	case unix.ESRCH:
		return unix.ENOENT
	}
	unix.Kill(c.tid, unix.SIGKILL)
	return err
}

// bring stops a thread that is in pause(2), and returns what to go on with after its answer.
func (t *Tracer) bring(c *call) (e event, err error) {
	e.tid = c.tid
	if c.state != paused && !stands(c.tid) {
		t.forget(c)
		return e, unix.ENOENT
	}
	if c.state != paused {
		return e, nil
	}
	for {
		// Any stop takes that away again (ptrace_stop in kernel/signal.c).
		if err := c.certainly(ptrace(unix.PTRACE_INTERRUPT, c.tid, 0, 0)); err != nil {
			return e, err
		}
		if e, err = t.next(c.tid); err != nil {
			t.forget(c)
			return e, unix.ENOENT
		}
		signal := e.signal()
		switch {
		case e.ended(), e.extra() != 0 && e.extra() != unix.PTRACE_EVENT_STOP:
			t.dispatch(e)
			return e, unix.ENOENT
		case signal != 0 && ignored(c.tid, signal):
			resume(e)
			continue
		case e.inCall():
			c.stays = t.refused(c)
		}
		t.become(c, left)
		if signal != 0 || e.groupStop() {
			return e, nil
		}
		return event{tid: c.tid}, nil
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

// pause has a thread wait in pause(2), where a filter of the program's lets it call that.
func (t *Tracer) pause(c *call) error {
	if c.state == paused || c.stays {
		return nil
	}
	if err := t.stop(c); err != nil {
		return err
	}
	if err := t.unlink(c); err != nil {
		return err
	}
	r := c.regs
	if c.state == left {
		r.make(pause, nil)
	} else {
		r.enter(pause)
	}
	if err := c.certainly(r.write(c.tid)); err != nil {
		return err
	}
	if c.state == left {
		if _, err := t.proceed(c, unix.PTRACE_SYSCALL); err != nil { // to where it begins
			return err
		}
	}
	t.become(c, paused)
	if c.stopped { // by which it stops first
		return c.certainly(t.release(c, event{tid: c.tid}))
	}
	if err := c.certainly(t.prepare(c)); err != nil {
		return err
	}
	return c.certainly(ptrace(unix.PTRACE_SYSCALL, c.tid, 0, 0)) // to where it ends
}

// refused reports whether the end of pause(2) was no signal's.
func (t *Tracer) refused(c *call) bool {
	var r registers
	return r.read(c.tid) == nil && r.value() != restartNoHand
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
	return t.goOn(c, r, e)
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
	if err := c.certainly(ptrace(unix.PTRACE_GETSIGMASK, c.tid, unsafe.Sizeof(c.old), uintptr(unsafe.Pointer(&c.old)))); err != nil {
		return err
	}
	err := c.certainly(ptrace(unix.PTRACE_SETSIGMASK, c.tid, unsafe.Sizeof(all), uintptr(unsafe.Pointer(&all))))
	c.masked = err == nil
	return err
}

// release has a thread go on after e, with its signals.
func (t *Tracer) release(c *call, e event) error {
	if err := t.prepare(c); err != nil {
		return err
	}
	return resume(e)
}

// prepare gives a thread its signals back.
func (t *Tracer) prepare(c *call) error {
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
	return nil
}

// proceed has a thread go on to its next stop that is no signal's. The one that comes all the same is SIGSTOP, which
// is not kept back: SIGCONT would find nothing to end.
func (t *Tracer) proceed(c *call, request int) (e event, err error) {
	for {
		if err := c.certainly(ptrace(request, c.tid, 0, uintptr(e.signal()))); err != nil {
			return event{}, err
		}
		e, err = t.next(c.tid)
		switch {
		case err != nil:
			t.forget(c)
			return e, unix.ENOENT
		case e.ended(), e.extra() == unix.PTRACE_EVENT_EXEC:
			t.dispatch(e)
			return e, unix.ENOENT
		case e.groupStop():
			c.stopped = true
		case e.signal() == 0 && e.extra() != unix.PTRACE_EVENT_STOP:
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
