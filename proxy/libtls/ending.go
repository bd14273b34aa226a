package libtls

import (
	"strings"
	"time"

	"tlswrap/proxy/guard"
	"tlswrap/proxy/session"
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
	here, there *session.Member // of the session's, and of the user's
	timer       *time.Timer
	gone        bool
}

// mostEnds is how many ends of a session's connections are kept, each for session.KeepFailed.
const mostEnds = 4096

// Verdict implements session.Entry: TCP was connected before.
func (e *end) Verdict(flags uint16) wire.Reply { return connected(flags) }

// Lend implements session.Entry: there is nothing left.
func (e *end) Lend() int { return -1 }

// Waiting implements session.Entry.
func (e *end) Waiting() int { return 0 }

// Restart implements session.Entry.
func (e *end) Restart() int { return -1 }

// Settled implements session.Entry.
func (e *end) Settled() <-chan struct{} { return session.AlreadySettled }

// Hurry implements session.Entry.
func (e *end) Hurry(time.Time) {}

// howItEnded tells how a connection ended. Of one that is not known any more nobody can tell: what
// it said may have been cut off.
func (l *State) howItEnded(id uint64) ending {
	switch e := l.Find(id).(type) {
	case *stream:
		return e.howItEnded()
	case *end:
		return e.ending
	}
	return ending{truncated: true}
}

// ended forgets a connection but for how it ended, where the program cannot have been told.
func (l *State) ended(id uint64, how ending) {
	how.reason = strings.Clone(how.reason[:min(len(how.reason), wire.TLSTextMost)])
	e := &end{ending: how}
	l.mu.Lock()
	kept := how.reason != "" && l.ends != nil
	if kept {
		l.ends[id] = e
	}
	l.mu.Unlock()
	if !kept {
		l.Forget(id)
		return
	}
	l.Enter(id, e) // in the place of the connection
	drop := guard.Func(l.Log, "ended connection", func() { l.drop(id, e) })
	here, there := l.recent.Enter(drop), l.User.Ends.Enter(drop)
	timer := time.AfterFunc(session.KeepFailed, drop)
	l.mu.Lock()
	e.here, e.there, e.timer = here, there, timer
	gone := e.gone // meanwhile
	l.mu.Unlock()
	if gone {
		l.leave(e)
	}
}

// drop forgets how a connection ended.
func (l *State) drop(id uint64, e *end) {
	l.mu.Lock()
	if l.ends[id] == e {
		delete(l.ends, id)
	}
	l.Forget(id)
	e.gone = true
	whole := e.timer != nil // or ended sees it
	l.mu.Unlock()
	if whole {
		l.leave(e)
	}
}

func (l *State) leave(e *end) {
	l.recent.Leave(e.here)
	l.User.Ends.Leave(e.there)
	e.timer.Stop()
}

// Close drops all that the session's programs had: they are gone.
func (l *State) Close() {
	l.store.Close()
	l.mu.Lock()
	ends := l.ends
	l.ends = nil
	l.mu.Unlock()
	for id, e := range ends {
		l.drop(id, e)
	}
}
