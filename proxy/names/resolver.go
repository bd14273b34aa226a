package names

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/verdict"
	"tlswrap/rules"
)

// Resolver looks up the host names of rules, and remembers the answers for a while.
type Resolver struct {
	Lookup  func(ctx context.Context, network, host string) ([]netip.Addr, error)
	domains func() []string // that complete short names
	file    string          // /etc/hosts
	hosts   hostsFiles

	mu    sync.Mutex
	known map[string]*lookup
}

// mostKnown is how many look-ups are remembered before those that are too old to be used
// again are forgotten. Names that programs look up are among them.
const mostKnown = 4096

type lookup struct {
	done   chan struct{} // closed when what follows is set
	since  time.Time
	ofRule bool         // a rule has the name
	addrs  []netip.Addr // all that were ever seen, the newest first
	err    error        // none were
	stale  error        // why these are the last known
	told   atomic.Bool  // that they are
}

// MostAddrs is how many addresses of one name are remembered.
const MostAddrs = 1024

const (
	lookupTime = 5 * time.Second  // for one look-up
	lookupKeep = 60 * time.Second // before it is made anew
)

func NewResolver() *Resolver {
	return &Resolver{Lookup: net.DefaultResolver.LookupNetIP, domains: searchDomains, file: "/etc/hosts", known: make(map[string]*lookup)}
}

// start returns the look-up of name that is under way or still good, or begins one. What
// is known of a name that a rule has is kept for good.
func (r *Resolver) start(name string, ofRule bool) *lookup {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.known[name]; l != nil {
		l.ofRule = l.ofRule || ofRule
		ofRule = l.ofRule
		if time.Since(l.since) < lookupKeep {
			return l
		}
	}
	if len(r.known) >= mostKnown {
		maps.DeleteFunc(r.known, func(_ string, l *lookup) bool { return !l.ofRule && time.Since(l.since) >= lookupKeep })
	}
	before := r.known[name]
	l := &lookup{done: make(chan struct{}), since: time.Now(), ofRule: ofRule}
	r.known[name] = l
	go r.run(name, l, before)
	return l
}

// find looks name up, and has no addresses for one that does not exist. One that could not
// be looked up before is tried again.
func (r *Resolver) find(name string, ofRule bool) *lookup {
	l := r.start(name, ofRule)
	select {
	case <-l.done:
		if l.err == nil {
			return l
		}
		r.mu.Lock()
		if r.known[name] == l {
			delete(r.known, name)
		}
		r.mu.Unlock()
		l = r.start(name, ofRule)
	default:
	}
	<-l.done
	return l
}

// namesAt returns those of names, which rules have, that have the address ip. Where it
// cannot tell, a rule might cover the connection, and it fails. say is told, once, that a
// look-up failed and what was known before counts.
func (r *Resolver) namesAt(ip netip.Addr, names []string, say func(string)) ([]string, *verdict.Failure) {
	results := make([]*lookup, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { results[i] = r.find(name, true) })
	}
	wg.Wait()
	var at []string
	for i, l := range results {
		if l.err != nil {
			return nil, verdict.Failf(unix.EHOSTUNREACH, "cannot tell whether this address is %s, which a rule covers: %v", names[i], verdict.LookUp(l.err))
		}
		if l.stale != nil && !l.told.Swap(true) {
			say(fmt.Sprintf("%s: %s; its last known addresses count", names[i], verdict.LookUp(l.stale)))
		}
		if Owns(names[i], l.addrs, ip) {
			at = append(at, names[i])
		}
	}
	return at, nil
}

// Owns reports whether ip is among the addresses of name. Every loopback address is
// localhost's (RFC 6761, section 6.3): some programs do not look that name up.
func Owns(name string, addrs []netip.Addr, ip netip.Addr) bool {
	local := name == "localhost" || strings.HasSuffix(name, ".localhost")
	return slices.Contains(addrs, ip) || (local && ip.IsLoopback())
}

// collideTime is how long a look-up waits for those of the rules' own names.
const collideTime = time.Second

// collides reports whether ip is also the address of a rule's host name, or of one in /etc/hosts that a wildcard
// covers: then a name without a rule gets a synthetic address too, so that the two are never confused.
func (r *Resolver) collides(ip netip.Addr, p *rules.Policy) bool {
	if _, wildcards := p.NeedsNames(); wildcards {
		if at, err := r.inFile(ip, p.Covers); err != nil || len(at) > 0 {
			return true
		}
	}
	names := p.AllExactNames()
	if len(names) == 0 {
		return false
	}
	looked := make([]*lookup, len(names))
	for i, name := range names {
		looked[i] = r.start(name, true)
	}
	limit := time.NewTimer(collideTime)
	defer limit.Stop()
	for i, l := range looked {
		select {
		case <-l.done:
			if Owns(names[i], l.addrs, ip) {
				return true
			}
		case <-limit.C:
			return false
		}
	}
	return false
}

// run makes the look-up l. A name may have more addresses than one answer has, and a
// program may have got those of an earlier one, so what was known before, if anything was,
// stays known.
func (r *Resolver) run(name string, l, before *lookup) {
	defer close(l.done)
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
	defer cancel()
	addrs, err := r.Lookup(ctx, "ip", name)
	for _, a := range addrs {
		l.addrs = append(l.addrs, a.Unmap())
	}
	if before != nil {
		<-before.done
		for _, a := range before.addrs {
			if !slices.Contains(l.addrs, a) {
				l.addrs = append(l.addrs, a)
			}
		}
	}
	l.addrs = l.addrs[:min(len(l.addrs), MostAddrs)]
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound: // it has no addresses
	case len(l.addrs) > 0:
		l.stale = err
		l.told.Store(before != nil && before.stale != nil && before.told.Load())
	default:
		l.err = err
	}
}
