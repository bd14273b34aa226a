package outgoing

import (
	"net/netip"
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
	if u.when == nil {
		u.when = make(map[string]map[netip.Addr]time.Time)
	}
	tried, own := u.when[t.String()], t.Addr.Real()
	recently := func(ip netip.Addr) bool { at, ok := tried[ip]; return ok && time.Since(at) < tryTime }
	if !recently(own) {
		for _, ip := range all {
			goesOn = goesOn || ip != own && !recently(ip)
		}
	}
	if !goesOn {
		delete(u.when, t.String())
		return false
	}
	if tried == nil {
		tried = make(map[netip.Addr]time.Time)
		u.when[t.String()] = tried
	}
	tried[own] = time.Now()
	return true
}

// forget is called when one of a target's addresses has answered.
func (u *unanswered) forget(t names.Target) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.when, t.String())
}

// othersMayAnswer reports, of a setup that failed, whether that is only a remark: there was no answer at
// one of several addresses, which the rule leaves to the program. It returns how many there are.
func (c *Conn) othersMayAnswer(f *verdict.Failure) (addresses int, may bool) {
	switch f.Errno {
	case unix.ECONNREFUSED, unix.ETIMEDOUT, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ECONNRESET:
	default:
		return 0, false
	}
	rule := c.Decision.Rule
	if c.Name == "" || c.control != nil || rule.Upstream.Host != "" || rule.Via.Scheme != "" {
		return 0, false
	}
	all := c.state.Names.Addresses(c.Name)
	if len(all) == 0 { // the program has resolved for itself
		all = c.front.Resolver.Known(c.Name)
	}
	return len(all), len(all) > 1 && c.state.unanswered.note(c.Target, all)
}
