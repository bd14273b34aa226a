package names

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tlswrap/proxy/wire"
)

func testIdentity(i int) Identity {
	return Identity{Name: fmt.Sprintf("host%d.test", i), IP: netip.MustParseAddr("192.0.2.1")}
}

// Runs give names in any order, and an address of one is known in the next.
func TestSyntheticAddressesAreTheSameInEveryRun(t *testing.T) {
	const count = 50
	first, second := NewTable(newTestMap(t, NewMaps(), false), time.Time{}), NewTable(newTestMap(t, NewMaps(), false), time.Time{})
	given := make(map[netip.Addr]Identity)
	for i := range count {
		for _, id := range []Identity{testIdentity(i), {testIdentity(i).Name, netip.MustParseAddr("2001:db8::1"), 0}} {
			ip, err := first.forIdentity(id)
			if err != nil || !IsSynthetic(ip) || ip.Is4() != id.IP.Is4() {
				t.Fatalf("%v got %v, %v", id, ip, err)
			}
			given[ip] = id
		}
	}
	if len(given) != 2*count {
		t.Errorf("%d identities have %d addresses", 2*count, len(given))
	}
	for ip, id := range given {
		if again, err := second.forIdentity(id); err != nil || again != ip {
			t.Errorf("%v got %v, then %v, %v", id, ip, again, err)
		}
	}
	if a, _ := first.forIdentity(Identity{Name: "a", IP: netip.IPv6LinkLocalAllNodes(), Scope: 1}); a != (netip.Addr{}) {
		if b, _ := first.forIdentity(Identity{Name: "a", IP: netip.IPv6LinkLocalAllNodes(), Scope: 2}); a == b {
			t.Error("two scopes have one address")
		}
	}
}

func TestEverySyntheticAddressIsGivenOnce(t *testing.T) {
	n := NewTable(newTestMap(t, NewMaps(), false), time.Time{})
	const count = 16
	for _, prefix := range []netip.Prefix{synthetic4, synthetic6} {
		for i := range count - 1 {
			ip := n.free(prefix, count/2, count)
			if ip == prefix.Addr() || !prefix.Contains(ip) {
				t.Errorf("number %d is %v", i, ip)
			}
			n.identity[ip] = testIdentity(i)
		}
	}
	if len(n.identity) != 2*(count-1) {
		t.Errorf("%d addresses are different", len(n.identity))
	}
	n.used4, n.used6 = wire.MapCount4-1, wire.MapCount6-1
	if ip, err := n.forIdentity(testIdentity(1)); err != errNoSynthetic {
		t.Errorf("one too many got %v, %v", ip, err)
	}
	id := testIdentity(1)
	id.IP = netip.MustParseAddr("2001:db8::1")
	if ip, err := n.forIdentity(id); err != nil || !synthetic6.Contains(ip) || netip.MustParsePrefix("2001:2::/112").Contains(ip) {
		t.Errorf("one that the map has no room for got %v, %v", ip, err)
	}
}
