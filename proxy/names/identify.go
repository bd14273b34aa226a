package names

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// Target is where a program wants to go, as the worker understands it.
type Target struct {
	Name     string    // the host name, or "" where only the address is known
	LookedUp bool      // a program of the session looked Name up, and was shown this address for it
	Addr     wire.Addr // the real address
	Decision rules.Decision
	Way      wire.Way // how its call came; "" for nobody's
}

// Host is what the certificate has to be for, unless the rule says otherwise.
func (t Target) Host() string {
	if t.Name != "" {
		return t.Name
	}
	return t.Addr.Real().String()
}

func (t Target) String() string {
	return net.JoinHostPort(t.Host(), strconv.Itoa(int(t.Addr.Port)))
}

// Identify finds out whom a program that was shown table means by addr. A synthetic address stands
// for a name. With a real one, the program resolved for itself, or was shown it: then the
// names that it was shown, the host names of the rules for that port, resolved
// here, and those of wildcards in /etc/hosts are candidates. addr is no "any" (Destination). say is told that a
// look-up failed and what was known before counts.
func (r *Resolver) Identify(table *Table, p *rules.Policy, addr wire.Addr, say func(string)) (Target, *verdict.Failure) {
	t := Target{Addr: addr}
	ip := addr.Real()
	if IsSynthetic(ip) {
		t, ok := table.Shown(p, addr)
		if !ok {
			return t, Nobody(ip)
		}
		return t, nil
	}
	candidates, failure := r.candidates(table, p, addr, say)
	if failure != nil {
		return t, failure
	}
	t.Decision = p.Decide(rules.Target{Addr: ip, Port: addr.Port})
	if t.Decision.Action == rules.Pass && table.forgotAnnounced() {
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
		t.Name, t.Decision = name, d
	}
	if n := len(covered); n > 1 {
		const most = 8
		if n > most {
			covered = append(covered[:most], fmt.Sprintf("%d more", n-most))
		}
		t.Name = ""
		return t, verdict.Failf(unix.EACCES, "the address belongs to %s, and the program did not say which it means; set addresses = \"synthetic\" or give them addresses of their own",
			strings.Join(covered, " and "))
	}
	t.LookedUp = slices.Contains(table.shownAs(ip), t.Name)
	return t, nil
}

// Shown is whom an address means by what programs were shown alone: the name that a synthetic one stands for, and
// nobody's for a real one. ok is false for a synthetic address that stands for nothing.
func (n *Table) Shown(p *rules.Policy, addr wire.Addr) (t Target, ok bool) {
	t = Target{Addr: addr}
	if ip := addr.Real(); IsSynthetic(ip) {
		id, known := n.Lookup(ip)
		if !known {
			return t, false
		}
		t.Name, t.LookedUp, t.Addr = id.Name, true, addr.With(id.IP, id.Scope)
	}
	t.Decision = p.Decide(rules.Target{Name: t.Name, Addr: t.Addr.Real(), Port: addr.Port})
	return t, true
}

// candidates are the names that a program may mean by addr, a real one.
func (r *Resolver) candidates(table *Table, p *rules.Policy, addr wire.Addr, say func(string)) ([]string, *verdict.Failure) {
	ip := addr.Real()
	found := slices.Clone(table.shownAs(ip))
	wildcards := p.MayNeedName(addr.Port)
	if wildcards && table.isAdopted() && len(found) == 0 {
		return nil, verdict.Failf(unix.EHOSTUNREACH, "cannot tell whether the worker before this one showed %s for a name that a rule covers", ip)
	}
	own, failure := r.namesAt(ip, p.ExactNames(addr.Port), say)
	if failure != nil {
		return nil, failure
	}
	found = append(found, own...)
	if wildcards {
		wild, err := r.inFile(ip, func(name string) bool {
			d := p.Decide(rules.Target{Name: name, Addr: ip, Port: addr.Port})
			return d.Rule != nil && d.Rule.Host.Suffix != ""
		})
		if err != nil {
			return nil, verdict.Failf(unix.EHOSTUNREACH, "cannot tell whether this address is in /etc/hosts for a name that a rule covers: %v", err)
		}
		found = append(found, wild...)
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// Nobody is why nothing goes to a synthetic address that stands for nothing.
func Nobody(ip netip.Addr) *verdict.Failure {
	return verdict.Failf(unix.EHOSTUNREACH, "%s is a synthetic address that this run did not give out (it counts once the name has been looked up)", ip)
}
