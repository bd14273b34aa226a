package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
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

// startWorker serves rules, given as a file's text, until the test ends.
func startWorker(t *testing.T, text string) (*Worker, string) {
	t.Helper()
	w, err := New(Config{Load: func() (*rules.Policy, error) { return rules.Parse("/rules.toml", []byte(text)) }})
	if err != nil {
		t.Fatal(err)
	}
	address := filepath.Join(t.TempDir(), "control")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: address, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	})
	return w, address
}

// anybody may run the worker.
func anybody(uint32) error { return nil }

// greet begins a session whose sentences can be read from the pipe.
func greet(t *testing.T, address string) (wire.Token, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	defer w.Close()
	var token wire.Token
	rand.Read(token[:])
	uid, err := Greet(address, anybody, token, w, false, false)
	if err != nil {
		t.Fatal(err)
	}
	if uid != uint32(os.Geteuid()) {
		t.Errorf("the worker's user is %d", uid)
	}
	return token, r
}

// ask sends one message and returns what comes back, nil for a closed connection.
func ask(t *testing.T, address string, message []byte, fd int) []byte {
	t.Helper()
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: address, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	var oob []byte
	if fd >= 0 {
		oob = unix.UnixRights(fd)
	}
	if _, _, err := conn.WriteMsgUnix(message, oob, nil); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := conn.Read(b)
	if err != nil && err != io.EOF && !errors.Is(err, unix.ECONNRESET) {
		t.Fatal(err)
	}
	return b[:n]
}

func TestGarbageIsRefusedAndTheWorkerGoesOn(t *testing.T) {
	_, address := startWorker(t, "default = \"pass\"\n")
	token, _ := greet(t, address)
	garbage := map[string][]byte{
		"one byte":        {1},
		"noise":           []byte(strings.Repeat("\xff\x00garbage", 200)),
		"stranger":        wire.Request{Op: wire.OpConnect, Token: wire.Token{1}}.Marshal(),
		"unknown request": wire.Request{Op: 99, Token: token}.Marshal(),
		"connect to nothing": wire.Request{Op: wire.OpConnect, Token: token,
			Addrs: []wire.Addr{{IP: netip.MustParseAddr("127.0.0.1"), Port: 1}}}.Marshal(),
	}
	for name, message := range garbage {
		t.Run(name, func(t *testing.T) {
			if got := ask(t, address, message, -1); len(got) != 0 {
				t.Errorf("got an answer: %q", got)
			}
		})
	}
	ok := wire.Request{Op: wire.OpNames, Token: token, Name: "x.example", Addrs: []wire.Addr{{IP: netip.MustParseAddr("192.0.2.1")}}}
	if got := ask(t, address, ok.Marshal(), -1); len(got) != wire.ReplyHeader+wire.AddrLen {
		t.Errorf("a good request got %d bytes", len(got))
	}
}

func TestNamesThatARuleCoversGetAddressesOfTheirOwn(t *testing.T) {
	w, address := startWorker(t, "[[rule]]\nhost = \"*.example\"\n[[rule]]\nhost = \"kept.test\"\naddresses = \"real\"\n")
	w.resolver.lookup = resolves(nil)
	token, _ := greet(t, address)
	real := netip.MustParseAddr("192.0.2.1")
	ask := func(name string, ip netip.Addr, flags uint16) netip.Addr {
		r := w.resolveNames(w.session(token), wire.Request{Name: name, Flags: flags, Addrs: []wire.Addr{{IP: ip}}}, -1)
		if r.Answer != wire.AnswerAddrs {
			t.Fatalf("%s: got answer %d, %v", name, r.Answer, r.Errno)
		}
		return r.Addrs[0].IP
	}
	a, b := ask("a.example", real, 0), ask("b.example", real, 0)
	if a == b || !isSynthetic(a) || !isSynthetic(b) {
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

// identifyWith decides about addr in a session that was shown names.
func identifyWith(t *testing.T, w *Worker, s *session, addr string, port uint16) (aim, *verdict.Failure) {
	t.Helper()
	return w.identify(s, w.policy.Load(), wire.Addr{IP: netip.MustParseAddr(addr), Port: port})
}

func TestRealAddressesAreMatchedWithTheRulesOwnNames(t *testing.T) {
	w, address := startWorker(t, `
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
	token, _ := greet(t, address)
	s := w.session(token)
	w.resolver.lookup = func(_ context.Context, _, host string) ([]netip.Addr, error) {
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
	if got, f := identifyWith(t, w, s, "::ffff:192.0.2.1", 25); f != nil || got.name != "mail.test" || got.decision.Action != rules.TLS {
		t.Errorf("one candidate: got %+v, %v", got, f)
	}
	if _, f := identifyWith(t, w, s, "192.0.2.1", 5432); f == nil || f.Errno != unix.EACCES || !strings.Contains(f.Reason, "db.test and mail.test") {
		t.Errorf("two candidates: got %v", f)
	}
	if got, f := identifyWith(t, w, s, "192.0.2.9", 25); f != nil || got.decision.Action != rules.Pass {
		t.Errorf("no candidate: got %+v, %v", got, f)
	}
	if _, f := identifyWith(t, w, s, "192.0.2.9", 99); f == nil || f.Errno != unix.EHOSTUNREACH || !strings.Contains(f.Reason, "broken.test") {
		t.Errorf("a name that cannot be looked up might be this one: got %v", f)
	}
	if _, f := identifyWith(t, w, s, "198.18.3.4", 25); f == nil || f.Errno != unix.EHOSTUNREACH {
		t.Errorf("a synthetic address of nobody's: got %v", f)
	}
}

// A name's addresses change from answer to answer, and its server may be away for a while.
func TestAddressesOnceSeenStayTheNames(t *testing.T) {
	w, address := startWorker(t, "[[rule]]\nhost = \"db.test\"\n[[rule]]\nhost = \"new.test\"\nport = 99\n")
	token, said := greet(t, address)
	s := w.session(token)
	again := func(name, ip string) {
		w.resolver.lookup = resolves(map[string]string{"db.test": ip, "new.test": ""})
		w.resolver.mu.Lock()
		if l := w.resolver.known[name]; l != nil {
			l.since = time.Time{} // long ago
		}
		w.resolver.mu.Unlock()
	}
	for _, ip := range []string{"192.0.2.1", "192.0.2.2", "", ""} {
		again("db.test", ip)
		for _, old := range []string{"192.0.2.1", ip, ip} {
			if old == "" {
				continue
			}
			if got, f := identifyWith(t, w, s, old, 80); f != nil || got.name != "db.test" {
				t.Errorf("when the answer is %q, %s is %q, %v", ip, old, got.name, f)
			}
		}
	}
	if _, f := identifyWith(t, w, s, "192.0.2.1", 99); f == nil || !strings.Contains(f.Reason, "new.test") {
		t.Errorf("a name never looked up with success: got %v", f)
	}
	s.Voice.hush()
	lines, err := io.ReadAll(said)
	if err != nil || strings.Count(string(lines), "last known addresses") != 1 {
		t.Errorf("said %q, %v", lines, err)
	}
	many := make([]netip.Addr, 2*mostAddrs)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
	}
	w.resolver.lookup = func(context.Context, string, string) ([]netip.Addr, error) { return many, nil }
	if l := w.resolver.find("many.test", false); len(l.addrs) != mostAddrs {
		t.Errorf("%d addresses are remembered", len(l.addrs))
	}
}

func TestLocalhostIsEveryLoopbackAddress(t *testing.T) {
	w, address := startWorker(t, "[[rule]]\nhost = \"localhost\"\nport = 80\n")
	token, _ := greet(t, address)
	w.resolver.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	got, f := identifyWith(t, w, w.session(token), "::1", 80)
	if f != nil || got.name != "localhost" {
		t.Errorf("::1 got %+v, %v", got, f)
	}
}

func TestBrokenRulesLeaveTheOldOnes(t *testing.T) {
	text := "[[rule]]\nhost = \"a.example\"\naction = \"deny\"\n"
	w, err := New(Config{Load: func() (*rules.Policy, error) { return rules.Parse("/rules.toml", []byte(text)) }})
	if err != nil {
		t.Fatal(err)
	}
	text = "[[rule]]\nhost = \"b.example\"\nca_file = \"/nonexistent\"\n"
	if err := w.Reload(); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("got %v", err)
	}
	if d := w.policy.Load().Rules.Decide(rules.Target{Name: "a.example", Port: 1}); d.Action != rules.Deny {
		t.Errorf("the old rule is gone: %v", d)
	}
}

func TestUnchangedRulesKeepTheirSessions(t *testing.T) {
	text := "[[rule]]\nhost = \"a.example\"\n[[rule]]\nhost = \"b.example\"\n"
	w, err := New(Config{Load: func() (*rules.Policy, error) { return rules.Parse("/rules.toml", []byte(text)) }})
	if err != nil {
		t.Fatal(err)
	}
	sessions := func(i int) any { p := w.policy.Load(); return p.Trust[p.Rules.Rules[i]].Sessions }
	before := sessions(0)
	text = strings.Replace(text, "\"b.example\"", "\"b.example\"\nmin_version = \"1.3\"", 1)
	if err := w.Reload(); err != nil {
		t.Fatal(err)
	}
	if sessions(0) != before {
		t.Error("a rule that did not change lost its sessions")
	}
	if sessions(1) == before {
		t.Error("a rule that changed reuses old sessions")
	}
}

// tlswrap shows its sockets to nobody but the worker that it has met.
func TestSocketsAreShownToTheWorkersUserAlone(t *testing.T) {
	_, address := startWorker(t, "default = \"pass\"\n")
	token, _ := greet(t, address)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	met := uint32(os.Geteuid())
	if _, err := Serve(address, met, token, int(f.Fd()), false); err != nil {
		t.Errorf("the worker that was met: %v", err)
	}
	if _, err := Serve(address, met+1, token, int(f.Fd()), false); err == nil || !strings.Contains(err.Error(), "has taken the worker's place") {
		t.Errorf("another: %v", err)
	}
}
