package rules

import (
	"net/netip"
	"slices"
	"strings"
)

// Mentions reports whether some rule is about name by its name, exact or below a
// wildcard. Such a name means itself, whatever else it may be short for.
func (p *Policy) Mentions(name string) bool {
	return slices.ContainsFunc(p.Rules, func(r *Rule) bool { return r.Host.mentions(name) })
}

// mentions is Matches for the patterns that are about some names and not all.
func (h HostPattern) mentions(name string) bool {
	return (h.Name != "" || h.Suffix != "") && h.Matches(name, netip.Addr{})
}

// Covers reports whether a rule that does more than pass mentions name, and is not
// behind one that passes all of its ports.
func (p *Policy) Covers(name string) bool {
	for _, r := range p.Rules {
		switch {
		case !r.Host.mentions(name):
		case r.Action != Pass:
			return true
		case r.Ports == nil:
			return false
		}
	}
	return false
}

// Completions returns the names with rules that name is the beginning of: those of exact
// rules, and what the domain of a wildcard rule, or one of domains below it, makes of it.
func (p *Policy) Completions(name string, domains []string) (exact, below []string) {
	add := func(list *[]string, long string) {
		if len(long) <= maxName && p.Covers(long) && !slices.Contains(exact, long) && !slices.Contains(below, long) {
			*list = append(*list, long)
		}
	}
	for _, r := range p.Rules {
		if r.Action == Pass {
			continue
		}
		if strings.HasPrefix(r.Host.Name, name+".") {
			add(&exact, r.Host.Name)
		}
		if r.Host.Suffix != "" {
			add(&below, name+r.Host.Suffix)
		}
	}
	for _, d := range domains {
		add(&below, name+"."+d)
	}
	return exact, below
}

// SameRules reports whether two names are the same to all rules that go by names.
func (p *Policy) SameRules(a, b string) bool {
	return !slices.ContainsFunc(p.Rules, func(r *Rule) bool { return r.Host.mentions(a) != r.Host.mentions(b) })
}
