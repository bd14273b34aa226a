package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"tlswrap/proxy/guard"
	"tlswrap/tests/testkit"
)

const wild = "[[rule]]\nhost = \"*.wild.test\"\n"

// standsFor is what an address is for the session.
func (l *lab) standsFor(ip netip.Addr) string {
	id, ok := l.table.Lookup(ip)
	if !ok {
		return ip.String()
	}
	return id.Name + " at " + id.IP.String()
}

func (l *lab) standFor(ips []netip.Addr) string {
	var all []string
	for _, ip := range ips {
		all = append(all, l.standsFor(ip.Unmap()))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// Names mean for programs with resolvers of their own what they mean for others.
func TestLookUpsPastLibc(t *testing.T) {
	l := newLab(t, wild+"[[rule]]\nhost = \"exact.test\"\n[[rule]]\nhost = \"kept.test\"\naddresses = \"real\"\n")
	servers := []string{server4, "::ffff:" + server4}
	if l.sixToo(t) {
		servers = append(servers, server6)
	}
	for _, server := range servers {
		for name, want := range map[string]string{
			"a.wild.test.": "a.wild.test at 192.0.2.1, a.wild.test at 2001:db8::1",
			"A.Wild.TEST.": "a.wild.test at 192.0.2.1, a.wild.test at 2001:db8::1",
			"b.wild.test.": "b.wild.test at 192.0.2.1", // the same host
			"plain.test.":  "192.0.2.2, 2001:db8::2",
			"exact.test.":  "exact.test at 192.0.2.3",
			"sharer.test.": "sharer.test at 192.0.2.3", // one that has a rule lives there, too
			"kept.test.":   "192.0.2.4",                // and is known
			"alias.test.":  "192.0.2.1, 2001:db8::1",   // a CNAME alone means nothing
			"nick.test.":   "nick.test at 192.0.2.3",
			"name.":        "name.wild.test at 192.0.2.5", // which it is short for
		} {
			ips, err := l.program(server).LookupNetIP(t.Context(), "ip", name)
			if err != nil {
				t.Errorf("%s, by %s: %v", name, server, err)
			} else if got := l.standFor(ips); got != want {
				t.Errorf("%s, by %s: got %s, want %s", name, server, got, want)
			}
		}
	}
	if words, err := l.program(server4).LookupTXT(t.Context(), "text.test."); err != nil || !slices.Equal(words, []string{"some words"}) {
		t.Errorf("text: %q, %v", words, err)
	}
	var missing *net.DNSError
	if _, err := l.program(server4).LookupHost(t.Context(), "nobody.test."); !errors.As(err, &missing) || !missing.IsNotFound {
		t.Errorf("a name that does not exist: %v", err)
	}
	for _, q := range l.questions() {
		if q != "udp "+server4 && q != "udp "+server6 {
			t.Errorf("asked by %s", q)
		}
	}
}

func TestAnswerThatCannotBeToldFails(t *testing.T) {
	l := newLab(t, wild)
	ips, err := l.program(server4).LookupHost(t.Context(), "unclear.")
	if err == nil {
		t.Errorf("got %v", ips)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.said) == 0 || !strings.Contains(l.said[0], "unclear: cannot tell whether it is short for unclear.wild.test") {
		t.Errorf("it says %q", l.said)
	}
}

// ask sends a question on a socket that is not connected, as musl's resolver does, and checks who answers.
func (l *lab) ask(t *testing.T, question []byte, server string) []byte {
	t.Helper()
	domain, to := sockaddr(server)
	fd, err := l.Socket(domain, unix.SOCK_DGRAM)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval((5 * time.Second).Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendto(fd, question, 0, to); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, mostMessage)
	n, from, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		t.Fatalf("%s does not answer: %v", server, err)
	}
	if fmt.Sprint(address(from)) != fmt.Sprint(address(to)) {
		t.Errorf("%v was asked, and %v answers", address(to), address(from))
	}
	return answer[:n]
}

func address(sa unix.Sockaddr) netip.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(sa.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(sa.Addr)
	}
	return netip.Addr{}
}

// query makes a question. size is EDNS's, 0 is none.
func query(t *testing.T, name string, typ dnsmessage.Type, size int) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 0x1234, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}},
	}
	if size > 0 {
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(size, dnsmessage.RCodeSuccess, false); err != nil {
			t.Fatal(err)
		}
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t *testing.T, answer []byte) (m dnsmessage.Message) {
	t.Helper()
	if err := m.Unpack(answer); err != nil {
		t.Fatalf("%x: %v", answer, err)
	}
	return m
}

func TestAnswersComeFromWhoWasAsked(t *testing.T) {
	l := newLab(t, wild)
	servers := []string{server4, "127.0.0.53", "::ffff:" + server4}
	if l.sixToo(t) {
		servers = append(servers, server6, "::1")
	}
	for _, server := range servers {
		m := parse(t, l.ask(t, query(t, "a.wild.test.", dnsmessage.TypeA, 0), server))
		if m.ID != 0x1234 || len(m.Answers) != 1 || m.Answers[0].Header.TTL > shownTTL {
			t.Errorf("%s: got %+v", server, m)
		}
	}
}

func TestEDNSIsKept(t *testing.T) {
	l := newLab(t, wild)
	for size, whole := range map[int]bool{0: false, 600: false, 4096: true} { // dnsmasq leaves EDNS out where it cuts
		answer := l.ask(t, query(t, "many.wild.test.", dnsmessage.TypeA, size), server4)
		m := parse(t, answer)
		if m.Truncated == whole || whole && len(m.Answers) != 60 || len(answer) > max(size, 512) {
			t.Errorf("with room for %d: %d bytes, cut: %v, %d addresses", size, len(answer), m.Truncated, len(m.Answers))
		}
		if has := slices.ContainsFunc(m.Additionals, func(r dnsmessage.Resource) bool { return r.Header.Type == dnsmessage.TypeOPT }); has != whole {
			t.Errorf("with room for %d: an answer with EDNS: %v", size, has)
		}
		for _, r := range m.Answers {
			if got := l.standsFor(addressOf(r.Body)); !strings.HasPrefix(got, "many.wild.test at 192.0.2.1") {
				t.Errorf("got %s", got)
			}
		}
	}
}

// What is too long comes by TCP.
func TestLongAnswersComeByTCP(t *testing.T) {
	l := newLab(t, wild)
	conn, err := l.connect("tcp", server4)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	for range 2 { // one after the other on one connection
		q := query(t, "many.wild.test.", dnsmessage.TypeA, 0)
		if _, err := conn.Write(append([]byte{0, byte(len(q))}, q...)); err != nil {
			t.Fatal(err)
		}
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, int(size[0])<<8|int(size[1]))
		if _, err := io.ReadFull(conn, answer); err != nil {
			t.Fatal(err)
		}
		m := parse(t, answer)
		if len(m.Answers) != 60 || !strings.HasPrefix(l.standsFor(addressOf(m.Answers[0].Body)), "many.wild.test at ") {
			t.Errorf("got %+v", m)
		}
	}
	if got := l.questions(); !slices.Equal(got, []string{"tcp " + server4}) {
		t.Errorf("asked by %v", got)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the last question: %d bytes, %v", n, err)
	}
	ips, err := l.program(server4).LookupNetIP(t.Context(), "ip4", "many.wild.test.")
	if err != nil || len(ips) != 60 {
		t.Errorf("Go's resolver finds %d addresses, %v", len(ips), err)
	}
}

// Services would lead past a rule, by other hosts and ports and by addresses.
func TestServicesLeadNowhereElse(t *testing.T) {
	l := newLab(t, wild)
	for name, want := range map[string]string{
		"plain.test.":               `[dnsmessage.SVCParam{Key: dnsmessage.SVCParamALPN, Value: []byte{2, 104, 50}}]`,
		"hintless.test.":            `[dnsmessage.SVCParam{Key: dnsmessage.SVCParamALPN, Value: []byte{2, 104, 50}}]`,
		"a.wild.test.":              "none",
		"_8443._https.a.wild.test.": "none",
	} {
		m := parse(t, l.ask(t, query(t, name, dnsmessage.TypeHTTPS, 1232), server4))
		got := "none"
		if len(m.Answers) > 0 {
			got = fmt.Sprintf("%#v", m.Answers[0].Body.(*dnsmessage.HTTPSResource).Params)
			got = strings.TrimPrefix(got, "[]dnsmessage.SVCParam")
		}
		if m.RCode != dnsmessage.RCodeSuccess || !sameWords(got, want) {
			t.Errorf("%s: got %v %s, want %s", name, m.RCode, got, want)
		}
	}
	m := parse(t, l.ask(t, query(t, "_http._tcp.test.", dnsmessage.TypeSRV, 1232), server4))
	for _, r := range m.Additionals {
		if ip := addressOf(r.Body); ip.IsValid() && !strings.HasPrefix(l.standsFor(ip), "a.wild.test at ") {
			t.Errorf("beside the answer: %v", ip)
		}
	}
	if len(m.Answers) != 1 || len(m.Additionals) < 2 {
		t.Errorf("got %+v", m)
	}
}

func sameWords(a, b string) bool { return strings.Trim(a, "[]{}") == strings.Trim(b, "[]{}") }

func TestWhatIsNoQuestion(t *testing.T) {
	l := newLab(t, wild)
	good := query(t, "plain.test.", dnsmessage.TypeA, 0)
	change := func(f func(b []byte)) []byte {
		b := slices.Clone(good)
		f(b)
		return b
	}
	for name, b := range map[string][]byte{
		"two questions":      change(func(b []byte) { b[5] = 2 }),
		"no question":        change(func(b []byte) { b[5] = 0 }),
		"a pointer":          change(func(b []byte) { b[12] = 0xc0 }),
		"cut off":            good[:len(good)-1],
		"a record is absent": change(func(b []byte) { b[11] = 1 }),
	} {
		if m := l.ask(t, b, server4); len(m) < headerLen || m[0] != 0x12 || m[3]&15 != formatError {
			t.Errorf("%s: got %x", name, m)
		}
	}
	if asked := l.questions(); len(asked) > 0 {
		t.Errorf("passed on: %v", asked)
	}
}

func TestServerThatIsNotThereIsSaidAtOnce(t *testing.T) {
	l := newLab(t, wild)
	l.port.Store(1)
	if m := parse(t, l.ask(t, query(t, "plain.test.", dnsmessage.TypeA, 0), server4)); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("got %v", m.RCode)
	}
	conn, err := l.connect("tcp", server4)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("by TCP: %d bytes", n)
	}
}

func TestClosedResolverAnswersNobody(t *testing.T) {
	l := newLab(t, wild)
	conn, err := l.connect("udp", server4)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	conn.Write(query(t, "plain.test.", dnsmessage.TypeA, 0))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("got %v", err)
	}
	if _, err := l.Socket(unix.AF_INET, unix.SOCK_DGRAM); err != net.ErrClosed {
		t.Errorf("a socket: %v", err)
	}
}

// A panic ends what it was about, and nothing else.
func TestPanics(t *testing.T) {
	l := newLab(t, wild)
	for _, c := range []struct{ what, network string }{{"look-up", "udp"}, {"look-ups", "tcp"}, {"answers", "tcp"}} {
		var panicked atomic.Bool
		first, giveUp := context.WithCancel(t.Context())
		guard.Fault(t, func(what string) {
			if what == c.what && !panicked.Swap(true) {
				giveUp()
				panic("a test's")
			}
		})
		program := l.program(server4)
		program.Dial = func(context.Context, string, string) (net.Conn, error) { return l.connect(c.network, server4) }
		program.StrictErrors = false
		program.LookupNetIP(first, "ip", "a.wild.test.")
		if ips, err := program.LookupNetIP(t.Context(), "ip4", "a.wild.test."); err != nil || l.standFor(ips) != "a.wild.test at 192.0.2.1" || !panicked.Load() {
			t.Errorf("after a panic in %s: %v, %v", c.what, ips, err)
		}
	}
	limit := time.After(5 * time.Second)
	for range mostQuestions + mostStreams {
		select {
		case l.Resolver.questions <- struct{}{}:
		case l.streams <- struct{}{}:
		case <-limit:
			t.Fatal("what had a panic still has its turn")
		}
	}
}

// Others' programs ask, in the room itself.
func TestProgramsOfOthers(t *testing.T) {
	testkit.NeedRoot(t)
	testkit.Need(t, "dig", "host", "nsenter")
	l := newLab(t, wild)
	fd, err := l.Socket(unix.AF_INET, unix.SOCK_DGRAM)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	in, err := unix.IoctlRetInt(fd, unix.SIOCGSKNS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(in)
	ask := func(args ...string) string {
		out, err := exec.Command("nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/fd/%d", unix.Getpid(), in), "--"}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	for _, how := range [][]string{{"+notcp"}, {"+tcp"}, {"+dnssec"}, {"+noedns"}, {"+bufsize=4096"}, {"+keepopen", "+tcp"}} {
		args := append([]string{"dig", "@" + server4, "+short", "a.wild.test", "b.wild.test"}, how...)
		var got []string
		for line := range strings.FieldsSeq(ask(args...)) {
			if ip, err := netip.ParseAddr(line); err == nil {
				got = append(got, l.standsFor(ip))
			}
		}
		if want := []string{"a.wild.test at 192.0.2.1", "b.wild.test at 192.0.2.1"}; !slices.Equal(got, want) {
			t.Errorf("%v: got %v, want %v", args, got, want)
		}
	}
	if got := ask("dig", "@"+server4, "+short", "many.wild.test"); len(strings.Fields(got)) != 60 {
		t.Errorf("many addresses: %s", got)
	}
	if got := ask("host", "b.wild.test", server4); strings.Contains(got, "192.0.2.1\n") || !strings.Contains(got, "b.wild.test has address 198.18.") {
		t.Errorf("host says: %s", got)
	}
}

// A zone is not looked up by whoever connects: whoever takes it has to get what the server has.
func TestZoneTransfersAreTheServers(t *testing.T) {
	l := newLab(t, wild)
	messages := slices.Concat(answers(t, "a.wild.test.", true), answers(t, "b.wild.test.", false), answers(t, "a.wild.test.", true))
	server, err := testkit.Serve("127.0.0.1:0", nil, func(c net.Conn) {
		c.Read(make([]byte, mostMessage))
		c.Write(messages)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	l.port.Store(int32(server.Port()))
	for typ, whole := range map[dnsmessage.Type]bool{typeAXFR: true, typeIXFR: true, dnsmessage.TypeA: false} {
		conn, err := l.connect("tcp", server4)
		if err != nil {
			t.Fatal(err)
		}
		q := query(t, "a.wild.test.", typ, 0)
		if _, err := conn.Write(append([]byte{0, byte(len(q))}, q...)); err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		got, err := io.ReadAll(conn)
		conn.Close()
		if bytes.Equal(got, messages) != whole {
			t.Errorf("%v: got %x, %v", typ, got, err)
		}
	}
}

// answers is a message with an address, as it goes over TCP. Of a transfer's only the first needs the question.
func answers(t *testing.T, name string, question bool) []byte {
	t.Helper()
	m := parse(t, query(t, name, typeAXFR, 0))
	m.Response = true
	m.Answers = []dnsmessage.Resource{{Header: header(name, dnsmessage.TypeA), Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}}}
	if !question {
		m.Questions = nil
	}
	b := packed(t, m)
	return append([]byte{0, byte(len(b))}, b...)
}
