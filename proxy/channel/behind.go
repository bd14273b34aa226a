package channel

import (
	"log/slog"
	"sync"
	"time"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
)

// queue is what lies in W's queue and was read already. It is taken out by whoever holds mu.
type queue struct {
	mu sync.Mutex

	// stale counts these bytes, which are in front: 1, the reset byte, and what was left behind it; or 0
	// while bytes that were not read are known to lie there.
	stale int

	log   *slog.Logger // nil where nothing is left behind
	read  time.Time    // when little was last read
	row   int          // how many were read soon after the one before, in a row
	timer *time.Timer  // takes out what was left; nil until something is
	armed bool         // the timer
}

// Few bytes that are read soon after others are left for a moment. To take a message out of the queue
// is to free it, and then the kernel wakes a program that waits in read(2), as though for room to write
// (unix_write_space; poll(2) and epoll(7) sort that out). For a program that asks, is answered and asks
// again that is a second wake-up for each message, with the worker's system call on top.
//
// What is left counts against P's send buffer, each message with all that the kernel allocated for
// it, at least 768 bytes, and a program that waits for room is told when three quarters are free. So what
// is left is little, and not for long.
const (
	mostBehind = 1 << 10
	behindTime = 2 * time.Millisecond

	// Messages are left once so many have come soon after the one before: several share a timer then,
	// or it would cost more than it saves.
	soon  = behindTime / 4
	inRow = 8
)

// LeaveBehind lets what was read lie a while in the queue. log gets a panic of the timer that
// takes it out.
func (pr *Pair) LeaveBehind(log *slog.Logger) {
	pr.queue.mu.Lock()
	defer pr.queue.mu.Unlock()
	pr.queue.log = log
}

// stays reports whether what is stale may stay in the queue, and sees to it that it is taken out in time.
func (q *queue) stays(takeOut func()) bool {
	if q.log == nil || q.stale > mostBehind {
		return false
	}
	now := time.Now()
	q.row++
	if now.Sub(q.read) > soon {
		q.row = 0
	}
	if q.read = now; q.row < inRow {
		return false
	}
	switch {
	case q.armed:
	case q.timer == nil:
		q.timer = time.AfterFunc(behindTime, guard.Func(q.log, "what was left in a channel", takeOut))
	default:
		q.timer.Reset(behindTime)
	}
	q.armed = true
	return true
}

// takeOut takes out what was left behind.
func (pr *Pair) takeOut() {
	pr.queue.mu.Lock()
	defer pr.queue.mu.Unlock()
	pr.queue.armed = false
	pr.w.Control(func(fd int) { pr.queue.settle(fd) })
}

// settle takes all that is stale out of the queue, but for the last byte.
func (q *queue) settle(fd int) error {
	if q.stale <= 1 {
		return nil
	}
	err := fdio.Discard(fd, q.stale-1)
	q.stale = 1
	return err
}
