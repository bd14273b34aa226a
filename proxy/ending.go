package proxy

import (
	"strings"
	"time"

	"tlswrap/proxy/guard"
	"tlswrap/proxy/wire"
)

// ending tells tls_read and tls_write why there is no more, and whether the end that a read met was
// no close_notify. Without a reason it was one, or the program closed first.
type ending struct {
	truncated bool
	reason    string
}

// end is all that is kept of a libtls connection that has ended: what the program may still ask for.
type end struct {
	ending
	here, there *member // of the session's, and of the user's
	timer       *time.Timer
	gone        bool
}

// mostEnds is how many ends of a session's connections are kept, each for keepFailed.
const mostEnds = 4096

// howItEnded tells how a connection ended. Of one that is not known any more nobody can tell: what
// it said may have been cut off.
func (l *libtlsState) howItEnded(id uint64) ending {
	l.mu.Lock()
	t, e := l.streams[id], l.ends[id]
	l.mu.Unlock()
	switch {
	case t != nil:
		return t.howItEnded()
	case e != nil:
		return e.ending
	}
	return ending{truncated: true}
}

// ended forgets a connection but for how it ended, where the program cannot have been told.
func (l *libtlsState) ended(id uint64, how ending) {
	how.reason = strings.Clone(how.reason[:min(len(how.reason), wire.TlsTextMost)])
	e := &end{ending: how}
	l.mu.Lock()
	delete(l.streams, id)
	kept := how.reason != "" && l.ends != nil
	if kept {
		l.ends[id] = e
	}
	l.mu.Unlock()
	if !kept {
		return
	}
	drop := guard.Func(l.worker.log, "ended connection", func() { l.drop(id, e) })
	here, there := l.recent.enter(drop), l.user.ends.enter(drop)
	timer := time.AfterFunc(keepFailed, drop)
	l.mu.Lock()
	e.here, e.there, e.timer = here, there, timer
	gone := e.gone // meanwhile
	l.mu.Unlock()
	if gone {
		l.leave(e)
	}
}

// drop forgets how a connection ended.
func (l *libtlsState) drop(id uint64, e *end) {
	l.mu.Lock()
	if l.ends[id] == e {
		delete(l.ends, id)
	}
	e.gone = true
	whole := e.timer != nil // or ended sees it
	l.mu.Unlock()
	if whole {
		l.leave(e)
	}
}

func (l *libtlsState) leave(e *end) {
	l.recent.leave(e.here)
	l.user.ends.leave(e.there)
	e.timer.Stop()
}

// close drops all that the session's programs had: they are gone.
func (l *libtlsState) close() {
	l.store.Close()
	l.mu.Lock()
	ends := l.ends
	l.ends = nil
	l.mu.Unlock()
	for id, e := range ends {
		l.drop(id, e)
	}
}
