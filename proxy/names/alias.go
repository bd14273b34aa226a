package names

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/verdict"
	"tlswrap/rules"
)

// lookedUp is what a program has asked its resolver for, and got.
type lookedUp struct {
	name  string
	ips   []netip.Addr
	hosts Hosts // the program's /etc/hosts
}

// hostName returns what a program looked up as rules compare it, or "" for an address.
// What is no host name is taken by its letters: rules for all names below a domain, or
// for all, are about it too.
func hostName(s string) (string, error) {
	if s == "" || rules.IsNumericHost(s) {
		return "", nil
	}
	if name, err := rules.NormalizeName(s); err == nil {
		return name, nil
	}
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	if strings.ContainsAny(name, "\\\x00") {
		// To DNS a backslash begins a character's number (RFC 1035, section 5.1).
		return "", fmt.Errorf("%q is no host name", s)
	}
	return name, nil
}

// meant returns the name that a looked-up name stands for, as a rule: itself, unless a
// rule covers a name that it is short for (a search domain or a CNAME has completed it, so
// that they share an address) or that stands beside it in /etc/hosts. Where that cannot be
// told, it fails.
func (r *Resolver) meant(p *rules.Policy, l lookedUp) (string, error) {
	if p.Mentions(l.name) {
		return l.name, nil
	}
	var found []string
	note := func(name string) {
		if p.Covers(name) && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	fromFile := true
	for _, ip := range l.ips {
		for _, name := range l.hosts.aliases(l.name, ip) {
			note(name)
		}
		fromFile = fromFile && l.hosts.answers(l.name, ip)
	}
	exact, below := p.Completions(l.name, r.domains())
	_, err := rules.NormalizeName(l.name)
	if err != nil && len(below) > 0 && !fromFile {
		return "", fmt.Errorf("it is no host name, and may be short for one with a rule")
	}
	for _, c := range r.complete(l, exact, below) {
		switch {
		case c.err == nil && c.shares:
			note(c.name)
		case c.err != nil && !(fromFile && slices.Contains(below, c.name)):
			return "", fmt.Errorf("cannot tell whether it is short for %s, which a rule covers: %s", c.name, verdict.LookUp(c.err))
		}
	}
	for _, name := range found {
		if !p.SameRules(found[0], name) {
			return "", fmt.Errorf("it stands for %s and for %s, whose rules differ", found[0], name)
		}
	}
	if len(found) == 0 {
		return l.name, nil
	}
	return found[0], nil
}

// searchDomains are those that the system's resolver completes names with (resolv.conf(5)).
func searchDomains() []string {
	text, _ := os.ReadFile("/etc/resolv.conf")
	var domains []string
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "search" && words[0] != "domain" {
			continue
		}
		domains = nil // the last line counts
		for _, d := range words[1:] {
			if name, err := rules.NormalizeName(d); err == nil {
				domains = append(domains, name)
			}
		}
	}
	return domains
}

// completion is a name that another may be short for.
type completion struct {
	at     int
	name   string
	shares bool // an address with it
	err    error
}

// completeTime is how long a look-up waits for those of names that it may be short for.
// The shim waits longer.
const completeTime = 6 * time.Second

var errSlow = errors.New("looking it up takes too long")

// complete looks up the names that l's may be short for.
func (r *Resolver) complete(l lookedUp, exact, below []string) []completion {
	var all []completion
	for i, name := range slices.Concat(exact, below) {
		all = append(all, completion{at: i, name: name, err: errSlow})
	}
	results := make(chan completion, len(all))
	for _, c := range all {
		go func() {
			c.shares, c.err = r.shares(l, c.name, c.at < len(exact))
			results <- c
		}()
	}
	limit := time.NewTimer(completeTime)
	defer limit.Stop()
	for range all {
		select {
		case c := <-results:
			all[c.at] = c
		case <-limit.C:
			return all
		}
	}
	return all
}

// shares reports whether name has an address with l. What a program got may be a part of
// the addresses, so l's name is looked up too.
func (r *Resolver) shares(l lookedUp, name string, ofRule bool) (bool, error) {
	found := r.find(name, ofRule)
	if found.err != nil || len(found.addrs) == 0 {
		return false, found.err
	}
	own := r.find(l.name, false)
	return slices.ContainsFunc(slices.Concat(l.ips, own.addrs), func(ip netip.Addr) bool {
		return slices.ContainsFunc(found.addrs, func(a netip.Addr) bool { return a.WithZone("") == ip.WithZone("") })
	}), nil
}

// StandsFor returns the name that a worker takes host for, which has the addresses ips:
// host itself, or one with a rule that it is short for.
func StandsFor(p *rules.Policy, host string, ips []netip.Addr) (string, *verdict.Failure) {
	r := NewResolver()
	l := lookedUp{name: host, ips: ips}
	l.hosts, _ = r.ownHosts()
	name, err := r.meant(p, l)
	if err != nil {
		return "", verdict.Failf(unix.EADDRNOTAVAIL, "%v", err)
	}
	return name, nil
}
