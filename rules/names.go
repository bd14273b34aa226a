package rules

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// maxName is the longest host name (RFC 1035, section 2.3.4, without the final dot).
const maxName = 253

// NormalizeName returns a host name as rules compare it: A-labels (RFC 5891), lower
// case, no trailing dot. Underscores are let through, since host names in use have
// them.
func NormalizeName(s string) (string, error) {
	name := strings.TrimSuffix(s, ".")
	profile := idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false))
	ascii, err := profile.ToASCII(name)
	if err == nil {
		// What is an A-label must be one of a name that exists.
		_, err = profile.ToASCII(ascii)
	}
	if err != nil {
		return "", fmt.Errorf("%q is no host name: %w", s, err)
	}
	if ascii == "" || len(ascii) > maxName {
		return "", fmt.Errorf("%q is no host name: it has %d characters, expected 1 to %d", s, len(ascii), maxName)
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if err := checkLabel(label); err != nil {
			return "", fmt.Errorf("%q is no host name: %w", s, err)
		}
	}
	return ascii, nil
}

func checkLabel(label string) error {
	const maxLabel = 63
	if label == "" || len(label) > maxLabel {
		return fmt.Errorf("a label has %d characters, expected 1 to %d", len(label), maxLabel)
	}
	for _, c := range []byte(label) {
		letter := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !letter && c != '-' && c != '_' {
			return fmt.Errorf("it has the character %q", c)
		}
	}
	return nil
}

// IsNumericHost reports whether getaddrinfo takes s for an address without a look-up:
// a literal with or without scope, or one of inet_aton(3)'s short forms.
func IsNumericHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return false
	}
	for _, p := range parts {
		if !isNumber(p) {
			return false
		}
	}
	return true
}

// isNumber reports whether s is a number as C writes it.
func isNumber(s string) bool {
	digits := "0123456789"
	if hex, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		s, digits = hex, "0123456789abcdef"
	}
	return s != "" && strings.Trim(strings.ToLower(s), digits) == ""
}

// HostPattern is what a rule's host says: exactly one of its kinds.
type HostPattern struct {
	All    bool         // *
	Name   string       // an exact name
	Suffix string       // ".example.com", of *.example.com
	Prefix netip.Prefix // an address or a CIDR
}

var errPattern = errors.New(`expected a name, "*.example.com", an IP address, a CIDR such as "10.0.0.0/8", or "*"`)

// ParseHost reads a host pattern. The error has a hint where it can be seen what was meant.
func ParseHost(s string) (HostPattern, error) {
	h, err := parseHost(s)
	if errors.Is(err, errPattern) {
		err = fmt.Errorf("%w%s", err, meantHost(s))
	}
	return h, err
}

func parseHost(s string) (HostPattern, error) {
	if s == "*" {
		return HostPattern{All: true}, nil
	}
	if ip, err := netip.ParseAddr(s); err == nil {
		if ip.Zone() != "" {
			return HostPattern{}, fmt.Errorf("host is %q: an address in a rule has no zone", s)
		}
		ip = ip.Unmap()
		return HostPattern{Prefix: netip.PrefixFrom(ip, ip.BitLen())}, nil
	}
	if network, ok := addressRange(s); ok {
		return HostPattern{}, fmt.Errorf("host is %q, a range of addresses; expected a CIDR such as %q, which has all of it", s, network)
	}
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return HostPattern{}, fmt.Errorf("host is %q, %w", s, errPattern)
		}
		if p.Addr().Is4In6() {
			if p.Bits() < 96 {
				return HostPattern{}, fmt.Errorf("host is %q: an IPv4-mapped CIDR has at least 96 bits", s)
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p != p.Masked() {
			return HostPattern{}, fmt.Errorf("host is %q: the address has bits beyond the prefix, expected %q", s, p.Masked())
		}
		return HostPattern{Prefix: p}, nil
	}
	base, wildcard := strings.CutPrefix(s, "*.")
	name, err := NormalizeName(base)
	if err != nil || IsNumericHost(base) {
		return HostPattern{}, fmt.Errorf("host is %q, %w", s, errPattern)
	}
	if wildcard {
		return HostPattern{Suffix: "." + name}, nil
	}
	return HostPattern{Name: name}, nil
}

// Matches reports whether the pattern covers a host by its name, which is normalised or
// empty, or by its address, which may be invalid for unknown. *.example.com covers every
// name below example.com, of any depth, and not example.com itself.
func (h HostPattern) Matches(name string, addr netip.Addr) bool {
	switch {
	case h.All:
		return true
	case h.Name != "":
		return h.Name == name
	case h.Suffix != "":
		return strings.HasSuffix(name, h.Suffix) && len(name) > len(h.Suffix)
	}
	return addr.IsValid() && h.Prefix.Contains(addr.Unmap().WithZone(""))
}

// covers reports whether whatever other matches is matched by h too.
func (h HostPattern) covers(other HostPattern) bool {
	switch {
	case h.All:
		return true
	case h.Name != "":
		return h.Name == other.Name
	case h.Suffix != "":
		return other.Name != "" && h.Matches(other.Name, netip.Addr{}) ||
			other.Suffix != "" && strings.HasSuffix(other.Suffix, h.Suffix)
	}
	return other.Prefix.IsValid() && h.Prefix.Bits() <= other.Prefix.Bits() && h.Prefix.Contains(other.Prefix.Addr())
}

func (h HostPattern) String() string {
	switch {
	case h.All:
		return "*"
	case h.Name != "":
		return h.Name
	case h.Suffix != "":
		return "*" + h.Suffix
	case h.Prefix.IsSingleIP():
		return h.Prefix.Addr().String()
	}
	return h.Prefix.String()
}
