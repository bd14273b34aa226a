package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// target is where a program wants to go, as the worker understands it.
type target struct {
	name     string    // the host name, or "" where only the address is known
	addr     wire.Addr // the real address
	decision rules.Decision
}

// host is what the certificate has to be for, unless the rule says otherwise.
func (t target) host() string {
	if t.name != "" {
		return t.name
	}
	return t.addr.Real().String()
}

func (t target) String() string {
	return net.JoinHostPort(t.host(), strconv.Itoa(int(t.addr.Port)))
}

// identify finds out whom a program that was shown table means by addr. A synthetic address stands
// for a name. With a real one, the program resolved for itself, or was shown it: then the
// names that it was shown and the host names of the rules for that port, resolved
// here, are candidates. say is told that a look-up failed and what was known before counts.
func (r *resolver) identify(table *names, p *rules.Policy, addr wire.Addr, say func(string)) (target, *verdict.Failure) {
	t := target{addr: addr}
	ip := addr.Real()
	if isSynthetic(ip) {
		id, ok := table.lookup(ip)
		if !ok {
			return t, nobody(ip)
		}
		t.name, t.addr = id.name, addr.With(id.ip, id.scope)
		t.decision = p.Decide(rules.Target{Name: t.name, Addr: id.ip, Port: addr.Port})
		return t, nil
	}
	if ip.IsUnspecified() {
		// connect(2) to "any" is to this host (ip_route_connect, tcp_v6_connect).
		if ip = netip.IPv6Loopback(); addr.Real().Is4() {
			ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
	}
	candidates := slices.Clone(table.shownAs(ip))
	if table.isAdopted() && len(candidates) == 0 && p.MayNeedName(addr.Port) {
		return t, verdict.Failf(unix.EHOSTUNREACH, "cannot tell whether the worker before this one showed %s for a name that a rule covers", ip)
	}
	own, failure := r.namesAt(ip, p.ExactNames(addr.Port), say)
	if failure != nil {
		return t, failure
	}
	candidates = append(candidates, own...)
	slices.Sort(candidates)
	candidates = slices.Compact(candidates)

	t.decision = p.Decide(rules.Target{Addr: ip, Port: addr.Port})
	if t.decision.Action == rules.Pass && table.forgotAnnounced() {
		servers, covers := p.DataServers(ip)
		at, failure := r.namesAt(ip, servers, say)
		if failure != nil {
			return t, failure
		}
		if covers || len(at) > 0 {
			return t, verdict.Failf(unix.EHOSTUNREACH, "cannot tell for a minute whether the worker before this one expected a data connection there")
		}
	}
	var covered []string
	for _, name := range candidates {
		d := p.Decide(rules.Target{Name: name, Addr: ip, Port: addr.Port})
		if d.Action == rules.Pass {
			continue
		}
		covered = append(covered, name)
		t.name, t.decision = name, d
	}
	if len(covered) > 1 {
		t.name = ""
		return t, verdict.Failf(unix.EACCES, "the address belongs to %s, and the program did not say which it means; set addresses = \"synthetic\" or give them addresses of their own",
			strings.Join(covered, " and "))
	}
	return t, nil
}

// nobody is why nothing goes to a synthetic address that stands for nothing.
func nobody(ip netip.Addr) *verdict.Failure {
	return verdict.Failf(unix.EHOSTUNREACH, "%s is a synthetic address that this run did not give out", ip)
}

// resolver looks up the host names of rules, and remembers the answers for a while.
type resolver struct {
	lookup  func(ctx context.Context, network, host string) ([]netip.Addr, error)
	domains func() []string // that complete short names
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

// mostAddrs is how many addresses of one name are remembered.
const mostAddrs = 1024

const (
	lookupTime = 5 * time.Second  // for one look-up
	lookupKeep = 60 * time.Second // before it is made anew
)

func newResolver() *resolver {
	return &resolver{lookup: net.DefaultResolver.LookupNetIP, domains: searchDomains, known: make(map[string]*lookup)}
}

// start returns the look-up of name that is under way or still good, or begins one. What
// is known of a name that a rule has is kept for good.
func (r *resolver) start(name string, ofRule bool) *lookup {
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

// run makes the look-up l. A name may have more addresses than one answer has, and a
// program may have got those of an earlier one, so what was known before, if anything was,
// stays known.
func (r *resolver) run(name string, l, before *lookup) {
	defer close(l.done)
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
	defer cancel()
	addrs, err := r.lookup(ctx, "ip", name)
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
	l.addrs = l.addrs[:min(len(l.addrs), mostAddrs)]
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

// find looks name up, and has no addresses for one that does not exist. One that could not
// be looked up before is tried again.
func (r *resolver) find(name string, ofRule bool) *lookup {
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
func (r *resolver) namesAt(ip netip.Addr, names []string, say func(string)) ([]string, *verdict.Failure) {
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
		if owns(names[i], l.addrs, ip) {
			at = append(at, names[i])
		}
	}
	return at, nil
}

// owns reports whether ip is among the addresses of name. Every loopback address is
// localhost's (RFC 6761, section 6.3): some programs do not look that name up.
func owns(name string, addrs []netip.Addr, ip netip.Addr) bool {
	local := name == "localhost" || strings.HasSuffix(name, ".localhost")
	return slices.Contains(addrs, ip) || (local && ip.IsLoopback())
}

// collideTime is how long a look-up waits for those of the rules' own names.
const collideTime = time.Second

// collides reports whether ip is also the address of a rule's host name: then a name
// without a rule gets a synthetic address too, so that the two are never confused.
func (r *resolver) collides(ip netip.Addr, names []string) bool {
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
			if owns(names[i], l.addrs, ip) {
				return true
			}
		case <-limit.C:
			return false
		}
	}
	return false
}
