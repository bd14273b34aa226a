package supervisor

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
)

// wait is a target's thread that waits for its answer. A thread makes one call at a time, so its next
// notification says that the one before was interrupted, which the kernel does not tell otherwise.
type wait struct {
	over chan struct{} // closed when the thread does not wait any more
	done chan struct{} // closed when the answer has been given, or given up

	mu     sync.Mutex
	bell   int // an eventfd that is readable when over is closed, or -1
	closed bool
}

// begin has the call that a thread made before given up, which it does not wait for any more.
func (v *supervision) begin(tid uint32) *wait {
	w := &wait{over: make(chan struct{}), done: make(chan struct{}), bell: -1}
	v.mu.Lock()
	old := v.waiting[tid]
	v.waiting[tid] = w
	v.mu.Unlock()
	if old != nil {
		old.giveUp()
		<-old.done
	}
	return w
}

func (v *supervision) finish(tid uint32, w *wait) {
	close(w.done)
	v.mu.Lock()
	if v.waiting[tid] == w {
		delete(v.waiting, tid)
	}
	v.mu.Unlock()
	w.mu.Lock()
	fdio.Close(w.bell)
	w.bell, w.closed = -1, true
	w.mu.Unlock()
}

func (w *wait) giveUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.over)
	if w.bell >= 0 {
		unix.Write(w.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// ring makes the eventfd.
func (w *wait) ring() (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bell >= 0 {
		return w.bell, nil
	}
	initial := uint(0)
	select {
	case <-w.over:
		initial = 1
	default:
	}
	fd, err := unix.Eventfd(initial, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		w.bell = fd
	}
	return fd, err
}

// look is how often a thread is asked after whose call may have been interrupted for good: its process
// has ended, or its handler has jumped away and it has made no other call since.
const look = time.Second

// poll waits in a thread of its own until fd has one of events to tell, which leaves the flags of an open
// file that is the target's too as they are. unix.EAGAIN: limit is over, where it is not 0; unix.EINTR:
// the target does not wait any more.
func (c *call) poll(fd int, events int16, limit time.Duration) error {
	bell, err := c.ring()
	if err != nil {
		return err
	}
	end := time.Now().Add(limit)
	for {
		next := look
		if limit > 0 {
			next = min(next, time.Until(end))
		}
		p := []unix.PollFd{{Fd: int32(fd), Events: events}, {Fd: int32(bell), Events: unix.POLLIN}}
		n, err := unix.Poll(p, max(0, int((next+time.Millisecond-1)/time.Millisecond)))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case p[1].Revents != 0:
			return unix.EINTR
		case p[0].Revents != 0:
			return nil
		case n == 0 && !c.waits():
			return unix.EINTR
		case n == 0 && limit > 0 && !time.Now().Before(end):
			return unix.EAGAIN
		}
	}
}

// await waits for a channel as poll does for a descriptor.
func (c *call) await(settled <-chan struct{}, limit time.Duration) error {
	var late <-chan time.Time
	if limit > 0 {
		late = time.After(limit)
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-settled:
			return nil
		case <-c.over:
			return unix.EINTR
		case <-late:
			return unix.EAGAIN
		case <-tick.C:
			if !c.waits() {
				return unix.EINTR
			}
		}
	}
}

// timeoutOf is what SO_SNDTIMEO or SO_RCVTIMEO says, or 0 for none.
func timeoutOf(fd, option int) time.Duration {
	tv, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, option)
	if err != nil {
		return 0
	}
	return time.Duration(tv.Nano())
}

// brief are locks for briefly, by socket.
var brief [64]sync.Mutex

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
