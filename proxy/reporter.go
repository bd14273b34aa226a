package proxy

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/verdict"
)

// Reporter tells of what happens in one session: its person in sentences, and the log in events. Its
// methods may be called from any goroutine.
type Reporter struct {
	Log   *slog.Logger
	Voice *voice
}

// Say tells the session's person something, and the log.
func (r *Reporter) Say(line string) {
	r.Log.Info("message", "text", line)
	if !r.Voice.quiet {
		r.Voice.say(line)
	}
}

// attrs are what the log has of a connection of a process's.
func attrs(t target, pid int32) []any {
	a := []any{"target", t.String(), "address", net.JoinHostPort(t.addr.Real().String(), strconv.Itoa(int(t.addr.Port))), "pid", pid}
	if t.decision.Rule != nil {
		a = append(a, "rule", t.decision.Rule.String())
	}
	return a
}

// Failed tells of a failure, in one sentence. event is what the log calls it.
func (r *Reporter) Failed(event string, t target, pid int32, f *verdict.Failure) {
	r.Log.Error(event, append(attrs(t, pid), "errno", unix.ErrnoName(f.Errno), "reason", f.Reason)...)
	if r.Voice.quiet {
		return
	}
	where := ""
	if t.decision.Rule != nil {
		where = fmt.Sprintf(" (%s)", t.decision.Rule)
	}
	r.Voice.say(t.String() + ": " + f.Reason + where)
}

// Passed tells of a connection that is not TLS of ours.
func (r *Reporter) Passed(t target, pid int32, why string) {
	r.Log.Info("passed", append(attrs(t, pid), "reason", why)...)
	if r.Voice.verbose {
		if t.decision.Rule != nil {
			why += ", " + t.decision.Rule.String()
		}
		r.Voice.say(fmt.Sprintf("%s: passed, not TLS of ours (%s)", t, why))
	}
}
