// Package report tells what happens: sentences to the standard error of a session, for its person, and
// events to the log. It takes targets and failures, never connections, and decides nothing. The session
// has a Reporter; the fronts use it.
package report

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/names"
	"tlswrap/proxy/verdict"
)

// Reporter tells of what happens in one session: its person in sentences, and the log in events. Its
// methods may be called from any goroutine.
type Reporter struct {
	Log   *slog.Logger
	Voice *Voice

	unanswered unanswered
}

// Say tells the session's person something, and the log.
func (r *Reporter) Say(line string) {
	r.Log.Info("message", "text", line)
	if !r.Voice.Quiet {
		r.Voice.Say(line)
	}
}

// Attrs are what the log has of a connection of a process's.
func Attrs(t names.Target, pid int32) []any {
	a := []any{"target", t.String(), "address", net.JoinHostPort(t.Addr.Real().String(), strconv.Itoa(int(t.Addr.Port))), "pid", pid}
	if t.Decision.Rule != nil {
		a = append(a, "rule", t.Decision.Rule.String())
	}
	if t.Way != "" {
		a = append(a, "way", string(t.Way))
	}
	return a
}

// ByWay is a sentence's end that says how a program's call came, for who asked for a line each.
func (r *Reporter) ByWay(t names.Target) string {
	if t.Way == "" || !r.Voice.Verbose {
		return ""
	}
	return ", by " + string(t.Way)
}

// Failed tells of a failure, in one sentence. event is what the log calls it.
func (r *Reporter) Failed(event string, t names.Target, pid int32, f *verdict.Failure) {
	r.fail(slog.LevelError, event, attempt{t, pid}, f)
}

// remark tells of a failure that the program may well make up for.
func (r *Reporter) remark(t names.Target, pid int32, f *verdict.Failure) {
	r.fail(slog.LevelWarn, "failed", attempt{t, pid}, f)
}

// attempt is a process's, to connect.
type attempt struct {
	target names.Target
	pid    int32
}

func (r *Reporter) fail(level slog.Level, event string, a attempt, f *verdict.Failure) {
	t := a.target
	r.Log.Log(context.Background(), level, event, append(Attrs(t, a.pid), "errno", unix.ErrnoName(f.Errno), "reason", f.Reason)...)
	if r.Voice.Quiet {
		return
	}
	where := ""
	if t.Decision.Rule != nil {
		where = fmt.Sprintf(" (%s)", t.Decision.Rule)
	}
	r.Voice.Say(t.String() + ": " + f.Reason + where + r.ByWay(t))
}

// Truncated tells the log of an end without close_notify that was taken for one.
func (r *Reporter) Truncated(t names.Target, pid int32) {
	r.Log.Info("truncated", Attrs(t, pid)...)
}

// Untouched is what people are told of a connection that tlswrap does nothing to.
const Untouched = "passed as it is, no TLS added"

// Pass is such a connection of a process's, and why it is one.
type Pass struct {
	Target names.Target
	PID    int32
	Why    string
}

// Passed tells of one that a program is about to make.
func (r *Reporter) Passed(t names.Target, pid int32, why string) {
	p := Pass{t, pid, why}
	r.logPass(p)
	if r.Voice.Verbose {
		r.Voice.Say(r.sentence(p))
	}
}

// PassedBefore tells of some that programs have made.
func (r *Reporter) PassedBefore(passes []Pass) {
	var sentences []string
	for _, p := range passes {
		r.logPass(p)
		if r.Voice.Verbose {
			sentences = append(sentences, r.sentence(p))
		}
	}
	r.Voice.Note(sentences...)
}

func (r *Reporter) logPass(p Pass) {
	if r.Log.Enabled(context.Background(), slog.LevelInfo) {
		r.Log.Info("passed", append(Attrs(p.Target, p.PID), "reason", p.Why)...)
	}
}

func (r *Reporter) sentence(p Pass) string {
	t, why := p.Target, p.Why
	if t.Decision.Rule != nil {
		why += ", " + t.Decision.Rule.String()
	}
	return t.String() + ": " + Untouched + " (" + why + ")" + r.ByWay(t)
}
