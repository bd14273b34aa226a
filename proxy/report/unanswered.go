package report

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/names"
	"tlswrap/proxy/verdict"
)

// unanswered are the addresses of names where a session's programs have got no answer. A program that
// knows another one of the name goes on to that, and nothing has failed for it yet.
type unanswered struct {
	mu   sync.Mutex
	when map[string]map[netip.Addr]time.Time // by target, as a person reads it
}

// tryTime is how long a program may take until it tries the next address.
const tryTime = 2 * time.Minute

// note notes that a target's address did not answer. all are its name's; goesOn is set where one is left
// that may yet, unless the program has tried this one before in vain.
func (u *unanswered) note(t names.Target, all []netip.Addr) (goesOn bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	tried, own := u.when[t.String()], t.Addr.Real()
	recently := func(ip netip.Addr) bool { at, ok := tried[ip]; return ok && time.Since(at) < tryTime }
	if recently(own) || !slices.ContainsFunc(all, func(ip netip.Addr) bool { return ip != own && !recently(ip) }) {
		delete(u.when, t.String())
		return false
	}
	if u.when == nil {
		u.when = make(map[string]map[netip.Addr]time.Time)
	}
	if tried == nil {
		tried = make(map[netip.Addr]time.Time)
		u.when[t.String()] = tried
	}
	tried[own] = time.Now()
	return true
}

// Answered notes that one of a target's addresses has answered.
func (r *Reporter) Answered(t names.Target) {
	r.unanswered.mu.Lock()
	defer r.unanswered.mu.Unlock()
	delete(r.unanswered.when, t.String())
}

// Unanswered tells of a setup that failed at one of several addresses, all, which are the program's to try:
// in a remark, where there was no answer and another one may yet answer.
func (r *Reporter) Unanswered(t names.Target, pid int32, f *verdict.Failure, all []netip.Addr) {
	switch f.Errno {
	case unix.ECONNREFUSED, unix.ETIMEDOUT, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ECONNRESET:
		if len(all) > 1 && r.unanswered.note(t, all) {
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
		r.Voice.Say(fmt.Sprintf("%s: %s (%s)", t, reason, t.Decision.Rule))
	}
}
