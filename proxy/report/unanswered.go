package report

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/names"
	"tlswrap/proxy/verdict"
)

// unanswered are the addresses of names where a session's programs have got no answer. A program that
// knows another one of the name goes on to that, and nothing has failed for it yet. Once all have failed each
// is a failure, also where the program begins anew, until one has answered or the program has let it be.
type unanswered struct {
	mu      sync.Mutex
	when    map[tries]map[netip.Addr]time.Time
	sweeper *time.Timer // lets those go that are over; nil while there are none
}

// tries are a process's, to connect to a target as a person reads it.
type tries struct {
	target string
	pid    int32
}

// tryTime is how long a program may take until it tries the next address.
const tryTime = 2 * time.Minute

// mostTries is how many are known in a session. Of more each is told as a failure.
const mostTries = 4096

// note notes that a target's address did not answer a process. all are its name's; goesOn is set where one is
// left that may yet, unless the process has tried this one before in vain.
func (u *unanswered) note(t names.Target, pid int32, all []netip.Addr) (goesOn bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	key := tries{t.String(), pid}
	tried, own := u.when[key], t.Addr.Real()
	if tried == nil {
		if len(u.when) == mostTries {
			return false
		}
		if u.when == nil {
			u.when = make(map[tries]map[netip.Addr]time.Time)
		}
		tried = make(map[netip.Addr]time.Time)
		u.when[key] = tried
	}
	recently := func(ip netip.Addr) bool { at, ok := tried[ip]; return ok && time.Since(at) < tryTime }
	goesOn = !recently(own) && slices.ContainsFunc(all, func(ip netip.Addr) bool { return ip != own && !recently(ip) })
	tried[own] = time.Now()
	if u.sweeper == nil {
		u.sweeper = time.AfterFunc(tryTime, u.sweep)
	}
	return goesOn
}

// sweep lets those tries go that are over.
func (u *unanswered) sweep() {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.DeleteFunc(u.when, func(_ tries, tried map[netip.Addr]time.Time) bool {
		maps.DeleteFunc(tried, func(_ netip.Addr, at time.Time) bool { return time.Since(at) >= tryTime })
		return len(tried) == 0
	})
	u.sweeper = nil
	if len(u.when) > 0 {
		u.sweeper = time.AfterFunc(tryTime, u.sweep)
	}
}

// Answered notes that one of a target's addresses has answered a process.
func (r *Reporter) Answered(t names.Target, pid int32) {
	r.unanswered.mu.Lock()
	defer r.unanswered.mu.Unlock()
	if len(r.unanswered.when) > 0 {
		delete(r.unanswered.when, tries{t.String(), pid})
	}
}

// Unanswered tells of a setup that failed at one of several addresses, all, which are the program's to try:
// in a remark, where there was no answer and another one may yet answer.
func (r *Reporter) Unanswered(t names.Target, pid int32, f *verdict.Failure, all []netip.Addr) {
	switch f.Errno {
	case unix.ECONNREFUSED, unix.ETIMEDOUT, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ECONNRESET:
		if len(all) > 1 && r.unanswered.note(t, pid, all) {
			r.remark(t, pid, verdict.Failf(f.Errno, "remark: one of its %d addresses does not answer: %s", len(all), f.Reason))
			return
		}
	}
	r.Failed("failed", t, pid, f)
}

// GaveUp tells the log, and who asked for a line each, of a setup that the program gave up. The loser of a
// race between two addresses is one, too.
func (r *Reporter) GaveUp(t names.Target, pid int32, reason string) {
	r.Log.Warn("left", append(Attrs(t, pid), "reason", reason)...)
	if r.Voice.Verbose {
		r.Voice.Say(fmt.Sprintf("%s: %s (%s)%s", t, reason, t.Decision.Rule, r.ByWay(t)))
	}
}
