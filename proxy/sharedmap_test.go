package proxy

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

func newTestMap(t *testing.T, m *sharedMaps, seen bool) *sharedMap {
	t.Helper()
	f, err := m.add(seen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	return f
}

func (f *sharedMap) isSet(port uint16) bool { return f.memory[port/8]>>(port%8)&1 != 0 }

func TestMapHoldsPortsAcrossReloads(t *testing.T) {
	m := newSharedMaps()
	f, other := newTestMap(t, m, false), newTestMap(t, m, false)
	ruled := rules.PortMap{5: 1 << 3} // port 43
	f.hold(42)
	f.hold(42)
	f.hold(43)
	m.change(&ruled, new(rules.PortMap), func() {
		if !f.isSet(43) || !other.isSet(43) {
			t.Error("new rules are in force, and their port is clear")
		}
	})
	if !f.isSet(42) || !f.isSet(43) || f.isSet(44) {
		t.Fatal("a held port was cleared by new rules, or another set")
	}
	if other.isSet(42) {
		t.Error("a port is held for another session")
	}
	f.release(42)
	f.release(43)
	if !f.isSet(42) {
		t.Error("a port that is held twice was cleared by one release")
	}
	if !f.isSet(43) {
		t.Error("a port that a rule is about was cleared")
	}
	f.release(42)
	if f.isSet(42) || len(f.held) != 0 {
		t.Error("a released port stayed set")
	}
	m.change(new(rules.PortMap), new(rules.PortMap), func() {
		if !f.isSet(43) {
			t.Error("old rules are in force, and their port is clear")
		}
	})
	if f.isSet(43) || newTestMap(t, m, false).isSet(43) {
		t.Error("a port that no rule is about any more stayed set")
	}
}

func TestMapOfASessionThatIsSeenPassesNothing(t *testing.T) {
	m := newSharedMaps()
	f := newTestMap(t, m, true)
	f.hold(42)
	f.release(42)
	m.change(new(rules.PortMap), new(rules.PortMap), func() {})
	for port := range 1 << 16 {
		if !f.isSet(uint16(port)) {
			t.Fatalf("port %d passes unseen", port)
		}
	}
	if f.memory[wire.MapPorts] != 0 {
		t.Error("ports to listen on are set too")
	}
}

func TestMapTellsWhatAddressesStandFor(t *testing.T) {
	f := newTestMap(t, newSharedMaps(), false)
	n := newNames(f, time.Time{})
	show := func(id identity) netip.Addr {
		ip, err := n.forIdentity(id)
		if err != nil {
			t.Fatal(err)
		}
		return ip
	}
	four := show(identity{name: "a.example.test", ip: netip.MustParseAddr("192.0.2.1")})
	six := show(identity{name: "a.example.test", ip: netip.MustParseAddr("fe80::1"), scope: 7})
	b := four.As4()
	entry := f.memory[wire.MapReal4+4*(int(b[1]&1)<<16|int(b[2])<<8|int(b[3])):]
	if got := netip.AddrFrom4([4]byte(entry)).String(); got != "192.0.2.1" {
		t.Errorf("%v stands for %s", four, got)
	}
	c := six.As16()
	entry = f.memory[wire.MapReal6+wire.MapLen6*(int(c[14])<<8|int(c[15])):]
	if got := netip.AddrFrom16([16]byte(entry)).String(); got != "fe80::1" || entry[16] != 7 || entry[20] != 1 {
		t.Errorf("%v stands for %s with scope and mark %v", six, got, entry[16:24])
	}
	f.publish(netip.MustParseAddr("2001:2::1:0"), identity{ip: netip.IPv6Loopback()}) // one too many
}

// A session may end while others still hold it.
func TestClosedMapTakesNothing(t *testing.T) {
	f, err := newSharedMaps().add(false)
	if err != nil {
		t.Fatal(err)
	}
	f.close()
	f.hold(42)
	f.release(42)
	f.publish(netip.MustParseAddr("198.18.0.1"), identity{ip: netip.IPv6Loopback()})
	f.close()
}

// What programs get they can read, and not change.
func TestMapFileIsSealed(t *testing.T) {
	f := newTestMap(t, newSharedMaps(), false)
	if _, err := unix.Write(f.fd, []byte{1}); err != unix.EPERM {
		t.Errorf("write: %v", err)
	}
	if err := unix.Ftruncate(f.fd, 0); err != unix.EPERM {
		t.Errorf("ftruncate: %v", err)
	}
	if _, err := unix.Mmap(f.fd, 0, wire.MapSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != unix.EPERM {
		t.Errorf("mmap: %v", err)
	}
}
