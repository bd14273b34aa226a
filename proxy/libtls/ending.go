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
type end struct{ ending }

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
	if how.reason == "" {
		l.Forget(id)
		return
	}
	how.reason = strings.Clone(how.reason[:min(len(how.reason), wire.TLSTextMost)])
	l.Enter(id, &end{how}) // in the place of the connection
	session.Keep(guard.Func(l.Log, "ended connection", func() { l.Forget(id) }), &l.recent, &l.User.Ends)
}

// Close drops all that the session's programs had: they are gone.
func (l *State) Close() {
	l.store.Close()
	l.recent.Close()
}
