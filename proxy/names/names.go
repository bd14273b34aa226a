// Package names knows whom a program means by an address. It gives out the synthetic addresses that stand
// for names, and knows the real ones that a program was shown, the names that others are short for, and
// what the rules' own names look up to. It also has the map in memory that spares programs most
// questions. It asks the system's resolver and reads the /etc/hosts that it is given; it connects to
// nothing, and what a rule means for a connection is not decided here. A session has a Table and a Map;
// the worker has one Resolver. It is larger than others because an address is found out to mean a name in several ways.
//
// What counts is the name that a program means, which is not always the one that it looks up. A name
// that no rule mentions stands for a name R that a rule covers where R is the name, a dot and something
// more, and the two share an address: a search domain, a CNAME or /etc/hosts has completed it. Or both
// stand on one line of /etc/hosts, and the name has that line's address. Then the synthetic address is
// R's, and so are the rule and the name on the certificate. Where R cannot be looked up, or there are
// two with different rules, the look-up fails. A short name that /etc/hosts itself answers was not
// completed by a search domain, so that a wildcard's look-up may fail there.
//
// Sharing an address, or a CNAME to it, means nothing by itself: the names of others could otherwise
// drag a connection under a rule, or out of one. A name without a rule that shares its address with one
// that has a rule gets a synthetic address as well, since its connections would otherwise be taken for
// the other's. Every loopback address counts as one of localhost (RFC 6761, section 6.3), because some
// programs do not look that name up.
package names

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tlswrap/proxy/wire"
)

// The ranges that synthetic addresses come from (RFC 2544, RFC 5180): nothing on the
// Internet answers there, so a connection that slips past the shim goes nowhere.
var (
	synthetic4 = netip.MustParsePrefix("198.18.0.0/15")
	synthetic6 = netip.MustParsePrefix("2001:2::/48")
)

func IsSynthetic(ip netip.Addr) bool {
	return synthetic4.Contains(ip) || synthetic6.Contains(ip)
}

// Identity is what a synthetic address stands for.
type Identity struct {
	Name  string
	IP    netip.Addr
	Scope uint32
}

// Table are the addresses that one session's programs were shown. An address is
// never given to a second identity: a program may hold it for as long as it runs.
type Table struct {
	Shared  *Map
	adopted time.Time // when the session was taken over from another worker; zero where it was not

	mu        sync.Mutex
	synthetic map[Identity]netip.Addr
	identity  map[netip.Addr]Identity
	used4     int
	used6     int
	shown     map[netip.Addr][]string // names whose real address was shown
	addresses map[string][]netip.Addr // real ones, of names that were shown in either way

	shownCount int
}

var errNoSynthetic = errors.New("this run has used up its 131,071 synthetic IPv4 addresses")

func NewTable(shared *Map, adopted time.Time) *Table {
	return &Table{
		Shared:    shared,
		adopted:   adopted,
		synthetic: make(map[Identity]netip.Addr),
		identity:  make(map[netip.Addr]Identity),
		shown:     make(map[netip.Addr][]string),
		addresses: make(map[string][]netip.Addr),
	}
}

// isAdopted reports whether another worker may have shown names that are not known here.
func (n *Table) isAdopted() bool { return !n.adopted.IsZero() }

// KeepData is how long data connections are expected that a server has announced, once its control
// connection has ended.
const KeepData = time.Minute

// forgotAnnounced reports whether another worker may have known of data connections that are
// still to come.
func (n *Table) forgotAnnounced() bool { return n.isAdopted() && time.Since(n.adopted) < KeepData }

// forIdentity returns the synthetic address for id, of the same family. It comes from a
// hash: programs keep addresses for longer than a run, in files and in other processes, and
// in the next run such an address is to be the same host's, or nobody's.
func (n *Table) forIdentity(id Identity) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ip, ok := n.synthetic[id]; ok {
		return ip, nil
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %v %d", id.Name, id.IP, id.Scope)
	start := binary.BigEndian.Uint64(h.Sum(nil))
	var ip netip.Addr
	switch {
	case id.IP.Is4():
		if n.used4 == wire.MapCount4-1 {
			return ip, errNoSynthetic
		}
		n.used4++
		ip = n.free(synthetic4, start%wire.MapCount4, wire.MapCount4)
	case n.used6 < wire.MapCount6-1:
		n.used6++
		ip = n.free(synthetic6, start%wire.MapCount6, wire.MapCount6)
	default: // those that programs ask the worker about
		ip = n.free(synthetic6, start|wire.MapCount6, 0)
	}
	n.synthetic[id] = ip
	n.identity[ip] = id
	n.note(id.Name, id.IP)
	n.Shared.publish(ip, id)
	return ip, nil
}

// free returns the first address from prefix's i-th that stands for nothing yet, of the
// first count or, for 0, of all whose last eight bytes count. The very first is never one.
func (n *Table) free(prefix netip.Prefix, i, count uint64) netip.Addr {
	for ; ; i++ {
		if count > 0 {
			i %= count
		}
		ip := nth(prefix, i)
		if _, taken := n.identity[ip]; !taken && ip != prefix.Addr() {
			return ip
		}
	}
}

// nth returns prefix's i-th address.
func nth(prefix netip.Prefix, i uint64) netip.Addr {
	if prefix.Addr().Is4() {
		ip := prefix.Addr().As4()
		first := binary.BigEndian.Uint32(ip[:])
		binary.BigEndian.PutUint32(ip[:], first+uint32(i))
		return netip.AddrFrom4(ip)
	}
	ip := prefix.Addr().As16()
	binary.BigEndian.PutUint64(ip[8:], i)
	return netip.AddrFrom16(ip)
}

// Lookup tells what a synthetic address stands for.
func (n *Table) Lookup(ip netip.Addr) (Identity, bool) {
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
func (n *Table) show(ip netip.Addr, name string) error {
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
	n.note(name, ip)
	return nil
}

// note remembers an address of a name.
func (n *Table) note(name string, ip netip.Addr) {
	if known := n.addresses[name]; !slices.Contains(known, ip) {
		n.addresses[name] = append(known[:len(known):len(known)], ip)
	}
}

// Addresses are the real addresses of a name that programs were shown, synthetic ones for them too. Nobody
// may change what is returned.
func (n *Table) Addresses(name string) []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addresses[name]
}

// shownAs returns the names whose real address ip was shown.
func (n *Table) shownAs(ip netip.Addr) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.shown[ip]
}
