package rules

import (
	_ "embed"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// Policy is a whole rules file.
type Policy struct {
	Path    string // "" for the built-in profile
	Default Action // for what no rule matches: Pass or Deny
	CAFile  string // roots to trust for every rule, beside the system's
	Rules   []*Rule
	Listens []*Listen

	keys map[string]Pos // where each key stands that is in no rule and no listen

	Enforce   bool // the kernel hands over every connect, the shim's too, or no program starts
	KernelTLS bool // the kernel seals what bulk connections send, where it can
}

//go:embed builtin.toml
var builtinText string

// BuiltinText is the built-in profile as a rules file to start from.
func BuiltinText() string { return builtinText }

// Builtin is the profile that counts where there is no rules file. The caller may
// change what it gets.
func Builtin() *Policy {
	p := *builtin()
	p.Rules = slices.Clone(p.Rules)
	return &p
}

var builtin = sync.OnceValue(func() *Policy {
	p, err := parse("builtin.toml", []byte(builtinText), builtinOrigin)
	if err != nil {
		panic(err) // a test keeps it right
	}
	p.Path = ""
	return p
})

// Prepend puts rules in front of the others.
func (p *Policy) Prepend(rules ...*Rule) { p.Rules = append(rules, p.Rules...) }

// SetErrno gives errno, one of ErrnoWords, to every rule that does not say which itself.
func (p *Policy) SetErrno(word string) {
	for i, r := range p.Rules {
		if _, given := r.keys["errno"]; !given && r.Action == TLS {
			changed := *r
			changed.PlainErrno = word == ErrnoWords[1]
			p.Rules[i] = &changed
		}
	}
}

// Target is where a program wants to go. Name is normalised, or "" where only the
// address is known; Addr is the zero Addr where only the name is.
type Target struct {
	Name string
	Addr netip.Addr
	Port uint16
}

// Decision is what becomes of a target. Rule is nil where the default decided.
type Decision struct {
	Action Action
	Rule   *Rule
}

// Decide finds the first rule whose host matches the target's name or address, and
// whose ports its port.
func (p *Policy) Decide(t Target) Decision {
	for _, r := range p.Rules {
		if r.Host.Matches(t.Name, t.Addr) && r.matchesPort(t.Port) {
			return Decision{r.Action, r}
		}
	}
	return Decision{Action: p.Default}
}

// SomePort is a port that a rule for a host is about, for an example: 443 where none is.
func (p *Policy) SomePort(host string) uint16 {
	addr, _ := netip.ParseAddr(host)
	name, _ := NormalizeName(host)
	for _, r := range p.Rules {
		if r.Action != Pass && r.Ports != nil && r.Host.Matches(name, addr) {
			return r.Ports[0].First
		}
	}
	return portHTTPS
}

// Why says for people what Decide found, and which rules before it came close.
func (p *Policy) Why(t Target) string {
	var close []string
	for _, r := range p.Rules {
		if !r.Host.Matches(t.Name, t.Addr) {
			continue
		}
		if !r.matchesPort(t.Port) {
			close = append(close, fmt.Sprintf("%s, matches the host but is for %s", r, r.portsString()))
			continue
		}
		s := fmt.Sprintf("%s: action %q, for host %q, %s", r, r.Action, r.Host, r.portsString())
		if r.Upstream.Port != 0 {
			s += fmt.Sprintf(", goes to %s", r.Upstream)
		}
		if r.StartTLS != "" {
			s += fmt.Sprintf(", asks for TLS by %s", r.StartTLS)
		}
		if r.TLSPort != 0 {
			s += fmt.Sprintf(" where there is no TLS on port %d", r.TLSPort)
		}
		if r.Via.Scheme != "" {
			s += fmt.Sprintf(", by way of %s://%s", r.Via.Scheme, r.Via.Endpoint)
		}
		return s
	}
	s := fmt.Sprintf("none matches, so the default %q counts", p.Default)
	const most = 3
	if n := len(close); n > most {
		close = append(close[:most], fmt.Sprintf("%d more", n-most))
	}
	if len(close) > 0 {
		s += " (" + strings.Join(close, "; ") + ")"
	}
	return s
}

// MayCover reports whether some port of a host leads to another action than Pass. It
// decides whether a program that looks the name up is shown a synthetic address.
func (p *Policy) MayCover(name string, addr netip.Addr) bool {
	for _, r := range p.Rules {
		switch {
		case !r.Host.Matches(name, addr):
		case r.Action != Pass:
			return true
		case r.Ports == nil:
			return false
		}
	}
	return p.Default == Deny
}

// WantsRealAddresses reports whether the first rule that covers the host keeps its real
// addresses.
func (p *Policy) WantsRealAddresses(name string, addr netip.Addr) bool {
	for _, r := range p.Rules {
		if r.Host.Matches(name, addr) && r.Action != Pass {
			return r.RealAddresses
		}
	}
	return false
}

// ExactNames returns the host names, not the wildcards, of the rules for a port that do
// more than pass: whoever connects to an address of theirs may mean them.
func (p *Policy) ExactNames(port uint16) []string {
	return p.exactNames(func(r *Rule) bool { return r.matchesPort(port) })
}

// MayNeedName reports whether a rule for a port covers names that nobody can look up, those of a
// wildcard: an address alone does not tell whether it is theirs.
func (p *Policy) MayNeedName(port uint16) bool {
	return slices.ContainsFunc(p.Rules, func(r *Rule) bool {
		return r.Host.Suffix != "" && r.Action != Pass && r.matchesPort(port)
	})
}

// NeedsNames reports whether rules that do more than pass are about names, so that those have to be known
// which programs look up, and whether nobody else could look some of them up: those of a wildcard.
func (p *Policy) NeedsNames() (known, wildcards bool) {
	for _, r := range p.Rules {
		if r.Action != Pass {
			known = known || !r.Host.Prefix.IsValid()
			wildcards = wildcards || r.Host.Suffix != ""
		}
	}
	return known || p.Default == Deny, wildcards
}

// DataServers returns the exact names of the rules for protocols with data connections (FTP),
// and whether another such rule covers an address.
func (p *Policy) DataServers(addr netip.Addr) (names []string, covers bool) {
	for _, r := range p.Rules {
		if r.StartTLS == "ftp" && r.Action == TLS {
			covers = covers || r.Host.Suffix != "" || r.Host.Matches("", addr)
		}
	}
	return p.exactNames(func(r *Rule) bool { return r.StartTLS == "ftp" }), covers
}

// PortMap has a bit for every port (bit port % 8 of byte port / 8), set where some host
// leads to another action than Pass.
type PortMap [65536 / 8]byte

// Ports returns the policy's port map.
func (p *Policy) Ports() *PortMap {
	m := new(PortMap)
	if p.Default != Pass {
		m.set(PortRange{0, 65535})
	}
	for _, r := range p.Rules {
		switch {
		case r.Action == Pass:
		case r.Ports == nil:
			m.set(PortRange{0, 65535})
		default:
			for _, ports := range r.Ports {
				m.set(ports)
			}
		}
	}
	return m
}

func (m *PortMap) set(ports PortRange) {
	for port := int(ports.First); port <= int(ports.Last); port++ {
		m[port/8] |= 1 << (port % 8)
	}
}

// AllExactNames is ExactNames for any port.
func (p *Policy) AllExactNames() []string {
	return p.exactNames(func(*Rule) bool { return true })
}

func (p *Policy) exactNames(want func(*Rule) bool) []string {
	var names []string
	for _, r := range p.Rules {
		if r.Host.Name != "" && r.Action != Pass && want(r) && !slices.Contains(names, r.Host.Name) {
			names = append(names, r.Host.Name)
		}
	}
	return names
}
