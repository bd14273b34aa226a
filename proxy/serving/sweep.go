package serving

import (
	"slices"
	"time"

	"tlswrap/proxy/guard"
	"tlswrap/proxy/session"
	"tlswrap/proxy/wire"
)

// A program that stops to listen says so to nobody: its queue is over, and the port is to be free then. The
// kernel tells the worker at once (inotify). Where that may still be under way the worker looks, with a
// connect of another socket type, which the kernel refuses in two ways (EPROTOTYPE, or ECONNREFUSED where
// nobody listens): before a connection of the same session's or one that the worker makes (Stopped), when a
// bind finds its port in use (TW_SWEEP), and when a client comes, who is reset then, before any handshake. What
// the worker itself has of a program's side would look as if the program still listened, so what is being
// handed over is waited for (untilSettled), and what is kept for threads that accept is let go with them (LetGo).

// wanted reports whether a program listens, or is about to. It is asked once a client is here: who
// comes after the program has stopped is not served.
func (l *listener) wanted() bool {
	for {
		l.mu.Lock()
		coming, first := l.coming > 0, (*queue)(nil)
		if len(l.queues) > 0 {
			first = l.queues[0]
		}
		l.mu.Unlock()
		switch {
		case first == nil:
			return coming
		case first.alive().Possibly():
			return true
		}
		l.drop(first)
	}
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
// without one. It returns when its port is free. No lock is held while the kernel is asked about each.
func (l *listener) sweep() {
	l.mu.Lock()
	queues := slices.Clone(l.queues)
	l.mu.Unlock()
	for _, q := range queues {
		if !q.alive().Possibly() {
			l.drop(q)
		}
	}
	if l.front.end(l) {
		l.front.close(l)
	}
}

// end has a listener without a queue be over, and reports whether it is: then nobody can give it one any more.
func (f *Front) end(l *listener) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queues) == 0 && l.coming == 0 {
		l.over = true
	}
	return l.over
}

// sweepEvery is how long a port can stay in use that a program has stopped to listen on, where the kernel
// does not tell of that, and neither a client nor another program wants it: those are seen at once, and
// turned away.
const sweepEvery = 2 * time.Second

// Sweep closes what programs have stopped to listen on. It is for s, of whose programs nobody can tell that
// they have not stopped yet: what is being handed to them is waited for, wire.RequestTime at most. nil waits
// for nobody.
func (f *Front) Sweep(s *session.Session) { f.sweep(s, func(*listener) bool { return true }) }

// Stopped does so where a connection of a session's is about to be made to, in a network namespace, which may be
// 0 where it is not known: it is refused then. Programs ask before they connect where their session listens itself.
func (f *Front) Stopped(s *session.Session, to wire.Addr, netns uint64) {
	f.sweep(s, func(l *listener) bool { return l.isAt(to, netns) })
}

// isAt reports whether a connection to an address may come to the listener.
func (l *listener) isAt(to wire.Addr, netns uint64) bool {
	if l.local.Port() != to.Port || l.netns != netns && l.netns != 0 && netns != 0 {
		return false
	}
	at, ip := l.local.Addr().Unmap().WithZone(""), to.Real().WithZone("")
	return at == ip || at.IsUnspecified() || ip.IsUnspecified()
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
	for _, l := range f.find(those) {
		l.sweep()
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
