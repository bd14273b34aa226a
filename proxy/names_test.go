package proxy

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tlswrap/proxy/wire"
)

func testIdentity(i int) identity {
	return identity{name: fmt.Sprintf("host%d.test", i), ip: netip.MustParseAddr("192.0.2.1")}
}

// Runs give names in any order, and an address of one is known in the next.
func TestSyntheticAddressesAreTheSameInEveryRun(t *testing.T) {
	const count = 50
	first, second := newNames(newTestMap(t, newSharedMaps(), false), time.Time{}), newNames(newTestMap(t, newSharedMaps(), false), time.Time{})
	given := make(map[netip.Addr]identity)
	for i := range count {
		for _, id := range []identity{testIdentity(i), {testIdentity(i).name, netip.MustParseAddr("2001:db8::1"), 0}} {
			ip, err := first.forIdentity(id)
			if err != nil || !isSynthetic(ip) || ip.Is4() != id.ip.Is4() {
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
	if a, _ := first.forIdentity(identity{name: "a", ip: netip.IPv6LinkLocalAllNodes(), scope: 1}); a != (netip.Addr{}) {
		if b, _ := first.forIdentity(identity{name: "a", ip: netip.IPv6LinkLocalAllNodes(), scope: 2}); a == b {
			t.Error("two scopes have one address")
		}
	}
}

func TestEverySyntheticAddressIsGivenOnce(t *testing.T) {
	n := newNames(newTestMap(t, newSharedMaps(), false), time.Time{})
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
	id.ip = netip.MustParseAddr("2001:db8::1")
	if ip, err := n.forIdentity(id); err != nil || !synthetic6.Contains(ip) || netip.MustParsePrefix("2001:2::/112").Contains(ip) {
		t.Errorf("one that the map has no room for got %v, %v", ip, err)
	}
}

// An answer may hold what a look-up before it was shown. Anybody's DNS can hold it too: then
// it leads to nobody else.
func TestSyntheticAddressesInAnswers(t *testing.T) {
	w, address := startWorker(t, "[[rule]]\nhost = \"a.test\"\n[[rule]]\nhost = \"b.test\"\n")
	w.resolver.lookup = resolves(nil)
	token, _ := greet(t, address)
	s := w.session(token)
	ask := func(name string, ip netip.Addr) netip.Addr {
		return w.resolveNames(s, wire.Request{Name: name, Addrs: []wire.Addr{{IP: ip}}}, -1).Addrs[0].IP
	}
	a := ask("a.test", netip.MustParseAddr("192.0.2.1"))
	if again := ask("a.test", a); again != a {
		t.Errorf("%v became %v", a, again)
	}
	b := ask("b.test", a)
	if id, _ := s.names.lookup(b); b == a || id.name != "b.test" {
		t.Errorf("another name got %v of %v", b, id)
	}
}
