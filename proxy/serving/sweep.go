package serving

import (
	"time"

	"tlswrap/proxy/guard"
	"tlswrap/proxy/session"
)

// A program that stops to listen says so to nobody: its queue is over, and the port is to be free then. The
// package's comment has when the worker looks.

// wanted reports whether a program listens, or is about to. It is asked once a client is here: who
// comes after the program has stopped is not served.
func (l *listener) wanted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queues) > 0 {
		if l.queues[0].alive().Possibly() {
			return true
		}
		l.queues[0].close()
		l.queues = l.queues[1:]
	}
	return l.coming > 0
}

// drop forgets a queue that no program listens on any more.
func (l *listener) drop(q *queue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.queues {
		if l.queues[i] == q {
			l.queues = append(l.queues[:i:i], l.queues[i+1:]...)
			q.close()
			return
		}
	}
}

// sweep drops the queues that no program listens on any more, and closes a listener
// without one. It returns when its port is free.
func (l *listener) sweep() {
	l.front.sweeps.Lock()
	defer l.front.sweeps.Unlock()
	l.sweepAlone()
}

// sweepAlone is sweep for who holds the front's sweeps.
func (l *listener) sweepAlone() {
	l.mu.Lock()
	var alive []*queue
	for _, q := range l.queues {
		if q.alive().Possibly() {
			alive = append(alive, q)
		} else {
			q.close()
		}
	}
	l.queues = alive
	l.mu.Unlock()
	if l.front.forgetListener(l) {
		l.close()
	}
}

// forgetListener drops a listener without a queue, and reports whether it did: then
// nobody can give it one any more.
func (f *Front) forgetListener(l *listener) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queues) > 0 || l.coming > 0 {
		return false
	}
	delete(f.listeners, l.id)
	l.session.Forget(l.id)
	return true
}

// sweepEvery is how long a port can stay in use that a program has stopped to listen on, where the kernel
// does not tell of that, and neither a client nor another program wants it: those are seen at once, and
// turned away.
const sweepEvery = 2 * time.Second

// Sweep closes what programs have stopped to listen on. It is for s, of whose programs nobody can tell that
// they have not stopped yet: what is being handed to them is waited for, wire.RequestTime at most. nil waits
// for nobody.
func (f *Front) Sweep(s *session.Session) { f.sweep(s, func(*listener) bool { return true }) }

// Stopped does so at a port to which a connection of a session's is about to be made: it is refused then.
// Programs ask before they connect where their session listens itself.
func (f *Front) Stopped(s *session.Session, port uint16) {
	f.sweep(s, func(l *listener) bool { return l.local.Port() == port })
}

func (f *Front) sweep(s *session.Session, those func(*listener) bool) {
	all := f.find(those)
	for _, l := range all {
		if l.session == s { // listen may have returned, and the program have closed it again
			l.untilSettled()
		}
	}
	if len(all) > 0 {
		f.LetGo()
	}
	f.sweeps.Lock() // what is not found any more may be about to be closed
	defer f.sweeps.Unlock()
	for _, l := range f.find(those) {
		l.sweepAlone()
	}
}

func (f *Front) find(those func(*listener) bool) (found []*listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.listeners {
		if those(l) {
			found = append(found, l)
		}
	}
	return found
}

// goBlind has the front look for itself from now on.
func (f *Front) goBlind() {
	f.mu.Lock()
	f.blind = true
	f.mu.Unlock()
	f.Sweep(nil)
	f.sweepLater()
}

// sweepLater sweeps as long as there are listeners, where the kernel does not tell of those that are closed.
func (f *Front) sweepLater() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sweeping || !f.blind || len(f.listeners) == 0 {
		return
	}
	f.sweeping = true
	time.AfterFunc(sweepEvery, guard.Func(f.log, "sweep", func() {
		f.Sweep(nil)
		f.mu.Lock()
		f.sweeping = false
		f.mu.Unlock()
		f.sweepLater()
	}))
}
