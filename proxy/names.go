package proxy

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
)

// The ranges that synthetic addresses come from (RFC 2544, RFC 5180): nothing on the
// Internet answers there, so a connection that slips past the shim goes nowhere.
var (
	synthetic4 = netip.MustParsePrefix("198.18.0.0/15")
	synthetic6 = netip.MustParsePrefix("2001:2::/48")
)

func isSynthetic(ip netip.Addr) bool {
	return synthetic4.Contains(ip) || synthetic6.Contains(ip)
}

// identity is what a synthetic address stands for.
type identity struct {
	name  string
	ip    netip.Addr
	scope uint32
}

// names are the addresses that one session's programs were shown. An address is
// never given to a second identity: a program may hold it for as long as it runs.
type names struct {
	shared *sharedMap

	mu        sync.Mutex
	synthetic map[identity]netip.Addr
	identity  map[netip.Addr]identity
	last4     netip.Addr
	last6     netip.Addr
	shown     map[netip.Addr][]string // names whose real address was shown

	shownCount int
}

var errNoSynthetic = errors.New("this run has used up its 131,071 synthetic IPv4 addresses")

func newNames(shared *sharedMap) *names {
	return &names{
		shared:    shared,
		synthetic: make(map[identity]netip.Addr),
		identity:  make(map[netip.Addr]identity),
		last4:     synthetic4.Addr(),
		last6:     synthetic6.Addr(),
		shown:     make(map[netip.Addr][]string),
	}
}

// forIdentity returns the synthetic address for id, of the same family.
func (n *names) forIdentity(id identity) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ip, ok := n.synthetic[id]; ok {
		return ip, nil
	}
	last, prefix := &n.last4, synthetic4
	if id.ip.Is6() {
		last, prefix = &n.last6, synthetic6
	}
	ip := last.Next()
	if !prefix.Contains(ip) {
		return netip.Addr{}, errNoSynthetic
	}
	*last = ip
	n.synthetic[id] = ip
	n.identity[ip] = id
	n.shared.publish(ip, id)
	return ip, nil
}

// lookup tells what a synthetic address stands for.
func (n *names) lookup(ip netip.Addr) (identity, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id, ok := n.identity[ip]
	return id, ok
}

// maxShown bounds the real addresses that are remembered. Past it a look-up fails:
// one that was forgotten could not be told from an address without a rule.
const maxShown = 1 << 17

var errShownFull = errors.New("this run has looked up too many real addresses")

// show remembers that a program was shown the real address of name.
func (n *names) show(ip netip.Addr, name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	known := n.shown[ip]
	if slices.Contains(known, name) {
		return nil
	}
	if n.shownCount == maxShown {
		return errShownFull
	}
	n.shownCount++
	n.shown[ip] = append(known[:len(known):len(known)], name)
	return nil
}

// shownAs returns the names whose real address ip was shown.
func (n *names) shownAs(ip netip.Addr) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.shown[ip]
}
