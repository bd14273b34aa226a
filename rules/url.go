package rules

import (
	"net/netip"
	"slices"
	"strings"
)

// portHTTPS is where https URLs lead.
const portHTTPS = 443

// URLHosts returns the hosts that a rule makes TLS for where http URLs lead, or https URLs.
// For http that is any port but those that have a protocol of their own.
func (p *Policy) URLHosts(https bool) []HostPattern {
	var hosts []HostPattern
	var others []*Rule
	known := make(map[HostPattern]bool)
	for _, r := range p.Rules {
		if r.Action != TLS {
			others = append(others, r)
			continue
		}
		leads := r.leadsFromHTTP()
		if https {
			leads = r.matchesPort(portHTTPS)
		}
		if !leads || r.StartTLS != "" || known[r.Host] {
			continue
		}
		if !slices.ContainsFunc(others, func(earlier *Rule) bool {
			return earlier.Host.covers(r.Host) && earlier.coversPorts(r)
		}) {
			known[r.Host] = true
			hosts = append(hosts, r.Host)
		}
	}
	return hosts
}

// leadsFromHTTP reports whether the rule is about a port that http URLs may well have.
func (r *Rule) leadsFromHTTP() bool {
	return r.Ports == nil || slices.ContainsFunc(r.Ports, func(ports PortRange) bool {
		return ports.First != ports.Last || ports.First != portHTTPS && !hasOwnProtocol(ports.First)
	})
}

// hasOwnProtocol reports whether the built-in profile knows a port for something other than HTTP.
func hasOwnProtocol(port uint16) bool {
	const portHTTP = 80
	return port != portHTTP && slices.ContainsFunc(builtin().Rules, func(r *Rule) bool {
		return r.Ports != nil && r.matchesPort(port)
	})
}

// InNoProxy reports whether the value of the environment's no_proxy exempts all hosts of the
// pattern. Programs do not agree on the details: each entry is a host, with what is below it, or
// a network.
func (h HostPattern) InNoProxy(value string) bool {
	entries := strings.FieldsFunc(strings.ToLower(value), func(c rune) bool { return c == ',' || c == ' ' || c == '\t' })
	return slices.ContainsFunc(entries, func(entry string) bool {
		if entry == "*" {
			return true
		}
		if h.Prefix.IsValid() {
			network, err := ParseHost(strings.Trim(entry, "[]"))
			return err == nil && network.covers(h) && network.Prefix.IsValid()
		}
		entry = strings.Trim(strings.TrimPrefix(entry, "*"), ".")
		below := HostPattern{Suffix: "." + entry}
		return entry != "" && (h.Name == entry || below.covers(h) || below.Matches(h.Name, netip.Addr{}))
	})
}
