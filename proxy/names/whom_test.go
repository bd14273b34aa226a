package names

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// resolves is a resolver's look-up that knows addrs, and that other names do not exist. A
// name with the address "" cannot be looked up.
func resolves(addrs map[string]string) func(context.Context, string, string) ([]netip.Addr, error) {
	return func(_ context.Context, _, host string) ([]netip.Addr, error) {
		switch ip, ok := addrs[host]; {
		case !ok:
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		case ip == "":
			return nil, &net.DNSError{Err: "server misbehaving", Name: host}
		default:
			return []netip.Addr{netip.MustParseAddr(ip)}, nil
		}
	}
}

func TestNamesThatARuleCoversGetAddressesOfTheirOwn(t *testing.T) {
	l := newLab(t, "[[rule]]\nhost = \"*.example\"\n[[rule]]\nhost = \"kept.test\"\naddresses = \"real\"\n")
	l.Lookup = resolves(nil)
	real := netip.MustParseAddr("192.0.2.1")
	ask := func(name string, ip netip.Addr, flags uint16) netip.Addr {
		ip, err := l.shown(name, ip, flags, -1)
		if err != nil {
			t.Fatal(err)
		}
		return ip
	}
	a, b := ask("a.example", real, 0), ask("b.example", real, 0)
	if a == b || !IsSynthetic(a) || !IsSynthetic(b) {
		t.Errorf("two names on one address got %v and %v", a, b)
	}
	if again := ask("A.Example.", real, 0); again != a {
		t.Errorf("the same name got %v, then %v", a, again)
	}
	if v6 := ask("a.example", netip.MustParseAddr("2001:db8::1"), 0); !synthetic6.Contains(v6) {
		t.Errorf("IPv6: got %v", v6)
	}
	if mapped := ask("a.example", netip.MustParseAddr("::ffff:192.0.2.1"), 0); mapped != netip.AddrFrom16(a.As16()) {
		t.Errorf("IPv4-mapped: got %v, want %v mapped", mapped, a)
	}
	for name, flags := range map[string]uint16{"other.test": 0, "192.0.2.1": 0, "kept.test": 0, "c.example": wire.FlagDatagram} {
		if got := ask(name, real, flags); got != real {
			t.Errorf("%s: got %v, want the real address", name, got)
		}
	}
}

func TestRealAddressesAreMatchedWithTheRulesOwnNames(t *testing.T) {
	l := newLab(t, `
[[rule]]
host = "db.test"
port = 5432
[[rule]]
host = "mail.test"
port = [5432, 25]
[[rule]]
host = "broken.test"
port = 99
`)
	l.Lookup = func(_ context.Context, _, host string) ([]netip.Addr, error) {
		switch host {
		case "db.test":
			return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
		case "mail.test":
			return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}, nil
		case "broken.test":
			return nil, &net.DNSError{Err: "server misbehaving", Name: host}
		}
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if got, f := l.whom("::ffff:192.0.2.1", 25); f != nil || got.Name != "mail.test" || got.Decision.Action != rules.TLS {
		t.Errorf("one candidate: got %+v, %v", got, f)
	}
	if _, f := l.whom("192.0.2.1", 5432); f == nil || f.Errno != unix.EACCES || !strings.Contains(f.Reason, "db.test and mail.test") {
		t.Errorf("two candidates: got %v", f)
	}
	if got, f := l.whom("192.0.2.9", 25); f != nil || got.Decision.Action != rules.Pass {
		t.Errorf("no candidate: got %+v, %v", got, f)
	}
	if _, f := l.whom("192.0.2.9", 99); f == nil || f.Errno != unix.EHOSTUNREACH || !strings.Contains(f.Reason, "broken.test") {
		t.Errorf("a name that cannot be looked up might be this one: got %v", f)
	}
	if _, f := l.whom("198.18.3.4", 25); f == nil || f.Errno != unix.EHOSTUNREACH {
		t.Errorf("a synthetic address of nobody's: got %v", f)
	}
}

// A name's addresses change from answer to answer, and its server may be away for a while.
func TestAddressesOnceSeenStayTheNames(t *testing.T) {
	l := newLab(t, "[[rule]]\nhost = \"db.test\"\n[[rule]]\nhost = \"new.test\"\nport = 99\n")
	again := func(name, ip string) {
		l.Lookup = resolves(map[string]string{"db.test": ip, "new.test": ""})
		l.mu.Lock()
		if known := l.known[name]; known != nil {
			known.since = time.Time{} // long ago
		}
		l.mu.Unlock()
	}
	for _, ip := range []string{"192.0.2.1", "192.0.2.2", "", ""} {
		again("db.test", ip)
		for _, old := range []string{"192.0.2.1", ip, ip} {
			if old == "" {
				continue
			}
			if got, f := l.whom(old, 80); f != nil || got.Name != "db.test" {
				t.Errorf("when the answer is %q, %s is %q, %v", ip, old, got.Name, f)
			}
		}
	}
	if _, f := l.whom("192.0.2.1", 99); f == nil || !strings.Contains(f.Reason, "new.test") {
		t.Errorf("a name never looked up with success: got %v", f)
	}
	if len(l.said) != 1 || !strings.Contains(l.said[0], "last known addresses") {
		t.Errorf("said %q", l.said)
	}
	many := make([]netip.Addr, 2*MostAddrs)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
	}
	l.Lookup = func(context.Context, string, string) ([]netip.Addr, error) { return many, nil }
	if found := l.find("many.test", false); len(found.addrs) != MostAddrs {
		t.Errorf("%d addresses are remembered", len(found.addrs))
	}
}

func TestLocalhostIsEveryLoopbackAddress(t *testing.T) {
	l := newLab(t, "[[rule]]\nhost = \"localhost\"\nport = 80\n")
	l.Lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	got, f := l.whom("::1", 80)
	if f != nil || got.Name != "localhost" {
		t.Errorf("::1 got %+v, %v", got, f)
	}
}

// An answer may hold what a look-up before it was shown. Anybody's DNS can hold it too: then
// it leads to nobody else.
func TestSyntheticAddressesInAnswers(t *testing.T) {
	l := newLab(t, "[[rule]]\nhost = \"a.test\"\n[[rule]]\nhost = \"b.test\"\n")
	l.Lookup = resolves(nil)
	ask := func(name string, ip netip.Addr) netip.Addr {
		shown, err := l.shown(name, ip, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		return shown
	}
	a := ask("a.test", netip.MustParseAddr("192.0.2.1"))
	if again := ask("a.test", a); again != a {
		t.Errorf("%v became %v", a, again)
	}
	b := ask("b.test", a)
	if id, _ := l.table.Lookup(b); b == a || id.Name != "b.test" {
		t.Errorf("another name got %v of %v", b, id)
	}
}

// What the worker before may have known is not taken for nothing.
func TestAdoptedSessionRefusesWhatItCannotTell(t *testing.T) {
	l := newLab(t, `
[[rule]]
host = "*.wild.test"
port = 25
addresses = "real"
[[rule]]
host = "ftp.test"
port = 21
starttls = "ftp"
`)
	l.Lookup = resolves(map[string]string{"ftp.test": "192.0.2.2"})
	l.table.adopted = time.Now()
	refused := func(addr string, port uint16, why string) {
		t.Helper()
		_, failure := l.whom(addr, port)
		if failure == nil || failure.Errno != unix.EHOSTUNREACH || !strings.Contains(failure.Reason, why) {
			t.Errorf("%s:%d: %v", addr, port, failure)
		}
	}
	passes := func(addr string, port uint16) {
		t.Helper()
		if got, failure := l.whom(addr, port); failure != nil || got.Decision.Action != rules.Pass {
			t.Errorf("%s:%d: %+v, %v", addr, port, got, failure)
		}
	}
	refused("198.18.0.1", 25, "did not give out")
	refused("192.0.2.1", 25, "the worker before this one showed 192.0.2.1")
	passes("192.0.2.1", 26)
	refused("192.0.2.2", 1024, "data connection")
	l.table.adopted = l.table.adopted.Add(-KeepData)
	passes("192.0.2.2", 1024)

	show := func(name, addr string) {
		t.Helper()
		if _, err := l.shown(name, netip.MustParseAddr(addr), 0, -1); err != nil {
			t.Fatal(err)
		}
	}
	show("nobody.test", "192.0.2.1") // now the program means that
	passes("192.0.2.1", 25)
	show("a.wild.test", "192.0.2.1")
	if got, failure := l.whom("192.0.2.1", 25); failure != nil || got.Name != "a.wild.test" {
		t.Errorf("a name that was shown: %+v, %v", got, failure)
	}
}

// Who looks a name up may know more addresses of it; who comes with one alone may not.
func TestWhoComesWithAnAddressAloneHasLookedUpNothing(t *testing.T) {
	l := newLab(t, "[[rule]]\nhost = \"synthetic.test\"\n[[rule]]\nhost = \"real.test\"\naddresses = \"real\"\n[[rule]]\nhost = \"localhost\"\n")
	l.Lookup = resolves(map[string]string{"synthetic.test": "192.0.2.1", "real.test": "192.0.2.2", "localhost": "::1"})
	whom := func(addr, name string, lookedUp bool) {
		t.Helper()
		if got, failure := l.whom(addr, 25); failure != nil || got.Name != name || got.LookedUp != lookedUp {
			t.Errorf("%s: %+v, %v", addr, got, failure)
		}
	}
	whom("192.0.2.2", "real.test", false)
	shown := make(map[string]netip.Addr)
	for name, addr := range map[string]string{"synthetic.test": "192.0.2.1", "real.test": "192.0.2.2"} {
		ip, err := l.shown(name, netip.MustParseAddr(addr), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		shown[name] = ip
	}
	whom(shown["synthetic.test"].String(), "synthetic.test", true)
	whom("192.0.2.1", "synthetic.test", false)
	whom("192.0.2.2", "real.test", true)
	whom("127.0.0.1", "localhost", false)
}

// Programs that read /etc/hosts by themselves come with an address, and nobody could look a wildcard's names up.
func TestRealAddressesAreMatchedWithTheWildcardsNamesInHosts(t *testing.T) {
	l := newLab(t, "[[rule]]\nhost = \"passed.wild.test\"\naction = \"pass\"\n[[rule]]\nhost = \"*.wild.test\"\nport = 25\n")
	l.Lookup = resolves(nil)
	l.file = filepath.Join(t.TempDir(), "hosts")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(l.file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("192.0.2.1 a.Wild.test. nickname\n192.0.2.2 a.wild.test b.wild.test\n192.0.2.3 stranger passed.wild.test\n2001:db8::1 a.wild.test\n")
	is := func(addr string, port uint16, name string, action rules.Action) {
		t.Helper()
		if got, failure := l.whom(addr, port); failure != nil || got.Name != name || got.Decision.Action != action {
			t.Errorf("%s:%d: %+v, %v", addr, port, got, failure)
		}
	}
	is("192.0.2.1", 25, "a.wild.test", rules.TLS)
	is("::ffff:192.0.2.1", 25, "a.wild.test", rules.TLS)
	is("2001:db8::1", 25, "a.wild.test", rules.TLS)
	is("192.0.2.1", 24, "", rules.Pass)
	is("192.0.2.3", 25, "", rules.Pass)
	is("192.0.2.4", 25, "", rules.Pass)
	if _, failure := l.whom("192.0.2.2", 25); failure == nil || failure.Errno != unix.EACCES || !strings.Contains(failure.Reason, "a.wild.test and b.wild.test") {
		t.Errorf("an address of two names: %v", failure)
	}

	// One program's look-up does not say whom another means.
	for addr, own := range map[string]bool{"192.0.2.1": true, "192.0.2.3": false, "192.0.2.4": false} {
		if ip, err := l.shown("stranger", netip.MustParseAddr(addr), 0, -1); err != nil || IsSynthetic(ip) != own {
			t.Errorf("stranger at %s is shown %v, %v", addr, ip, err)
		}
	}
	is("192.0.2.1", 25, "a.wild.test", rules.TLS)

	// A rule for all hosts is about the address.
	all := newLab(t, "[[rule]]\nhost = \"*\"\nport = 26\n[[rule]]\nhost = \"*.wild.test\"\n")
	all.file, all.Lookup = l.file, l.Lookup
	if got, failure := all.whom("192.0.2.1", 26); failure != nil || got.Name != "" || got.Decision.Action != rules.TLS {
		t.Errorf("with a rule for all hosts before: %+v, %v", got, failure)
	}

	// What cannot be told is refused.
	l.file += "/beneath a file"
	if _, failure := l.whom("192.0.2.4", 25); failure == nil || failure.Errno != unix.EHOSTUNREACH || !strings.Contains(failure.Reason, "/etc/hosts") {
		t.Errorf("with a file that cannot be opened: %v", failure)
	}
	is("192.0.2.4", 24, "", rules.Pass)
	l.file = filepath.Join(t.TempDir(), "none")
	is("192.0.2.1", 25, "", rules.Pass)
}

// lab is what names are tried with: a session's table, rules, and a resolver that asks nobody.
type lab struct {
	*Resolver
	table *Table
	rules *rules.Policy
	said  []string
}

func newLab(t *testing.T, text string) *lab {
	t.Helper()
	p, err := rules.Parse("/rules.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &lab{Resolver: NewResolver(), table: NewTable(newTestMap(t, NewMaps(), false), time.Time{}), rules: p}
}

// whom decides about addr.
func (l *lab) whom(addr string, port uint16) (Target, *verdict.Failure) {
	return l.Identify(l.table, l.rules, wire.Addr{IP: netip.MustParseAddr(addr), Port: port}, func(line string) { l.said = append(l.said, line) })
}

// shown is what a program is shown that has found ip for name. hosts is its /etc/hosts, or -1.
func (l *lab) shown(name string, ip netip.Addr, flags uint16, hosts int) (netip.Addr, error) {
	known, err := l.ReadHosts(hosts)
	if err != nil {
		return netip.Addr{}, err
	}
	addrs, err := l.Answer(l.table, l.rules, wire.Request{Name: name, Flags: flags, Addrs: []wire.Addr{{IP: ip}}}, known)
	if err != nil {
		return ip, err
	}
	return addrs[0].IP, nil
}
