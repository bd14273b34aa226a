package names

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

func newTestMap(t *testing.T, m *Maps, seen bool) *Map {
	t.Helper()
	f, err := m.Add(seen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func TestMapHoldsPortsAcrossReloads(t *testing.T) {
	m := NewMaps()
	f, other := newTestMap(t, m, false), newTestMap(t, m, false)
	ruled := rules.PortMap{5: 1 << 3} // port 43
	f.Hold(42)
	f.Hold(42)
	f.Hold(43)
	m.Change(&ruled, new(rules.PortMap), func() {
		if !f.IsSet(43) || !other.IsSet(43) {
			t.Error("new rules are in force, and their port is clear")
		}
	})
	if !f.IsSet(42) || !f.IsSet(43) || f.IsSet(44) {
		t.Fatal("a held port was cleared by new rules, or another set")
	}
	if other.IsSet(42) {
		t.Error("a port is held for another session")
	}
	f.Release(42)
	f.Release(43)
	if !f.IsSet(42) {
		t.Error("a port that is held twice was cleared by one release")
	}
	if !f.IsSet(43) {
		t.Error("a port that a rule is about was cleared")
	}
	f.Release(42)
	if f.IsSet(42) || len(f.held) != 0 {
		t.Error("a released port stayed set")
	}
	m.Change(new(rules.PortMap), new(rules.PortMap), func() {
		if !f.IsSet(43) {
			t.Error("old rules are in force, and their port is clear")
		}
	})
	if f.IsSet(43) || newTestMap(t, m, false).IsSet(43) {
		t.Error("a port that no rule is about any more stayed set")
	}
}

func TestMapOfASessionThatIsSeenPassesNothing(t *testing.T) {
	m := NewMaps()
	f := newTestMap(t, m, true)
	f.Hold(42)
	f.Release(42)
	m.Change(new(rules.PortMap), new(rules.PortMap), func() {})
	for port := range 1 << 16 {
		if !f.IsSet(uint16(port)) {
			t.Fatalf("port %d passes unseen", port)
		}
	}
	if f.memory[wire.MapPorts] != 0 {
		t.Error("ports to listen on are set too")
	}
}

// Programs go on to connect without a question where they leave notices of it.
func TestMapOfASessionThatIsToldOfPassesTheSamePorts(t *testing.T) {
	f := newTestMap(t, NewMaps(), false)
	f.Hold(42)
	if !f.Silent(43) || f.Silent(42) {
		t.Error("a port that is held passes, or another does not")
	}
	bell := wire.Bell{Token: wire.Token{7}, Name: "\x00abcde"}
	f.Announce(bell)
	if f.IsSet(43) || !f.IsSet(42) || f.Silent(43) {
		t.Error("the ports are set differently, or nobody is to be told of one")
	}
	if !bytes.Equal(f.memory[wire.MapBell:wire.MapReal4], bell.Marshal()) {
		t.Error("the bell is not in the map")
	}
}

func TestMapTellsWhatAddressesStandFor(t *testing.T) {
	f := newTestMap(t, NewMaps(), false)
	n := NewTable(f, time.Time{})
	show := func(id Identity) netip.Addr {
		ip, err := n.forIdentity(id)
		if err != nil {
			t.Fatal(err)
		}
		return ip
	}
	four := show(Identity{Name: "a.example.test", IP: netip.MustParseAddr("192.0.2.1")})
	six := show(Identity{Name: "a.example.test", IP: netip.MustParseAddr("fe80::1"), Scope: 7})
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
	f.publish(netip.MustParseAddr("2001:2::1:0"), Identity{IP: netip.IPv6Loopback()}) // one too many
}

// A session may end while others still hold it.
func TestClosedMapTakesNothing(t *testing.T) {
	f, err := NewMaps().Add(false)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	f.Hold(42)
	f.Release(42)
	f.publish(netip.MustParseAddr("198.18.0.1"), Identity{IP: netip.IPv6Loopback()})
	f.Close()
}

// What programs get they can read, and not change.
func TestMapFileIsSealed(t *testing.T) {
	f := newTestMap(t, NewMaps(), false)
	if _, err := unix.Write(f.FD, []byte{1}); err != unix.EPERM {
		t.Errorf("write: %v", err)
	}
	if err := unix.Ftruncate(f.FD, 0); err != unix.EPERM {
		t.Errorf("ftruncate: %v", err)
	}
	if _, err := unix.Mmap(f.FD, 0, wire.MapSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != unix.EPERM {
		t.Errorf("mmap: %v", err)
	}
}

// Programs that still have the map of a session or a worker that has ended ask.
func TestMapsThatEndHaveAllPortsSet(t *testing.T) {
	m := NewMaps()
	ended, left := newTestMap(t, m, false), newTestMap(t, m, false)
	program, err := unix.Mmap(ended.FD, 0, wire.MapSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(program)
	ended.Close()
	if left.IsSet(42) || program[42/8] != 0xff || program[wire.MapPorts+42/8] != 0xff {
		t.Error("the map of a session that ended has clear ports, or another has not")
	}
	m.Shut()
	m.Change(new(rules.PortMap), new(rules.PortMap), func() {})
	if !left.IsSet(42) || left.memory[wire.MapPorts+42/8] != 0xff {
		t.Error("the map of a worker that ends has clear ports")
	}
}
