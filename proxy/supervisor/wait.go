package supervisor

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/seccomp"
	"tlswrap/proxy/target"
)

// wait is a target's thread that waits for its answer. A thread makes one call at a time, so its next
// notification says that the one before was interrupted, which the kernel does not tell otherwise.
type wait struct {
	before *wait         // of the thread's, or nil
	over   chan struct{} // closed when the thread does not wait any more
	done   chan struct{} // closed when the answer has been given, or given up

	// limited is the call that the thread waited for with a limit, when it was interrupted; nil for none.
	limited *seccomp.Asked
	again   *seccomp.Asked // the same of the call before

	unheard *unheard // what the thread was not told, by this call or one before; nil for nothing
}

// interrupts reports whether a call is made again by the kernel after a signal, and is to end instead: with
// a limit (SO_SNDTIMEO, SO_RCVTIMEO) none is restarted (signal(7)).
func (w *wait) interrupts(a seccomp.Asked) bool { return w.again != nil && *w.again == a }

// begin notes that a thread waits. Notifications have to be noted in their order.
func (v *supervision) begin(tid uint32) *wait {
	v.mu.Lock()
	defer v.mu.Unlock()
	w := &wait{before: v.waiting[tid], over: make(chan struct{}), done: make(chan struct{})}
	if w.before != nil {
		close(w.before.over)
	}
	v.waiting[tid] = w
	return w
}

// alone waits until the call is given up that the thread made before.
func (w *wait) alone() {
	if w.before != nil {
		<-w.before.done
		w.again, w.unheard, w.before = w.before.limited, w.before.unheard, nil
	}
}

func (v *supervision) finish(tid uint32, w *wait) {
	close(w.done)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiting[tid] != w {
		return
	}
	if w.unheard == nil {
		delete(v.waiting, tid)
		return
	}
	time.AfterFunc(remembered, func() { v.forget(tid, w) })
}

// forget drops what a thread was not told, and has not asked for since.
func (v *supervision) forget(tid uint32, w *wait) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiting[tid] == w {
		delete(v.waiting, tid)
		w.unheard.forget()
	}
}

// look is how often a thread is asked after whose call may have been interrupted for good: its process
// has ended, or its handler has jumped away and it has made no other call since.
const look = time.Second

// poll waits until fd has one of events to tell. unix.EAGAIN: limit is over, where it is not 0;
// unix.EINTR: the target does not wait any more.
func (c *call) poll(fd int, events uint32, limit time.Duration) error {
	ready, forget, err := c.poller.wait(fd, events)
	if err != nil {
		return err
	}
	defer forget()
	return c.await(ready, limit)
}

// await waits as poll does, for a channel of Go's to be closed.
func (c *call) await(ready <-chan struct{}, limit time.Duration) error {
	var late <-chan time.Time
	if limit > 0 {
		late = time.After(limit)
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	select {
	case <-ready:
		return nil
	default:
	}
	for {
		if c.listener.Hold(c.id) == unix.ENOENT {
			return c.interrupted(limit)
		}
		select {
		case <-ready:
			return nil
		case <-c.over:
			return c.interrupted(limit)
		case <-late:
			return unix.EAGAIN
		case <-tick.C:
			if !c.waits() {
				return unix.EINTR
			}
		case looked := <-c.look:
			if !c.waits() {
				return unix.EINTR
			}
			close(looked)
		}
	}
}

// interrupted ends the waiting for a call that does not wait any more.
func (c *call) interrupted(limit time.Duration) error {
	if limit > 0 {
		c.limited = &c.Asked
	}
	return unix.EINTR
}

// likeListener gives a connection the timeouts of the socket that it was accepted from.
func likeListener(fd, listener int) {
	if l, err := lockOf(listener); err == nil {
		l.Lock() // they may be a moment's alone
		defer l.Unlock()
	}
	target.LikeTimeouts(fd, listener)
}

// timeoutOf is what SO_SNDTIMEO or SO_RCVTIMEO says, or 0 for none.
func timeoutOf(fd, option int) time.Duration {
	if l, err := lockOf(fd); err == nil {
		l.Lock() // it may be a moment's alone
		defer l.Unlock()
	}
	tv, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, option)
	if err != nil {
		return 0
	}
	return time.Duration(tv.Nano())
}

// brief are the locks of sockets whose timeouts are read or changed.
var brief [64]sync.Mutex

func lockOf(fd int) (*sync.Mutex, error) {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	return &brief[cookie%uint64(len(brief))], err
}

// briefly makes a call on a blocking socket of the target's that is not to wait: for as long as it takes
// the socket's timeout (SO_SNDTIMEO for connect, SO_RCVTIMEO for accept) is the shortest that there is. It
// returns what that is otherwise, as timeoutOf does.
func briefly(fd, option int, f func() error) (limit time.Duration, err error) {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return 0, err
	}
	l := &brief[cookie%uint64(len(brief))]
	l.Lock()
	defer l.Unlock()
	old, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, option)
	if err != nil {
		return 0, err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &unix.Timeval{Usec: 1}); err != nil {
		return 0, err
	}
	defer unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, old)
	return time.Duration(old.Nano()), f()
}
