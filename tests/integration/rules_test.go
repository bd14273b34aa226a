package integration

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// withRules is a run with a rules file.
func withRules(t *testing.T, format string, args ...any) wrapped {
	t.Helper()
	return wrapped{flags: []string{"--ca", lab.rootPEM, "--rules", writeRules(t, fmt.Sprintf(format, args...))}}
}

// servePlain starts a web site without TLS, and nobody watches.
func servePlain(t *testing.T, host string) (url, marker string, port uint16) {
	t.Helper()
	marker = newMarker()
	server, err := testkit.ServeHTTP(listenAddr(t, host), nil, testkit.Site(marker))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return fmt.Sprintf("http://%s:%d/fixed", host, server.Port()), marker, server.Port()
}

func TestTwoNamesOnOneAddressGetTheirOwnCertificates(t *testing.T) {
	one := serverConfig(t, testkit.Leaf{Names: []string{"one.shared.test"}})
	two := serverConfig(t, testkit.Leaf{Names: []string{"two.shared.test"}})
	config := &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return map[string]*tls.Config{"one.shared.test": one, "two.shared.test": two}[hello.ServerName], nil
	}}
	s := serveWith(t, "one.shared.test", config, func(string) func(net.Conn) { return testkit.EchoLine })
	w := withRules(t, "[[rule]]\nhost = \"one.shared.test\"\nport = %d\n[[rule]]\nhost = \"two.shared.test\"\nport = %[1]d\n", s.port)
	for _, host := range []string{"one.shared.test", "two.shared.test"} {
		e := w.run(t, compile(t, "probe.c"), "block", host, s.portString(), s.marker).must(t)
		if !strings.Contains(e.stdout, "connect=OK") {
			t.Errorf("%s: %s", host, e.stdout)
		}
	}
}

func TestAnyAddressIsTheOneThatTheKernelConnectsTo(t *testing.T) {
	listener, err := net.Listen("tcp", "[::]:0") // for IPv4 too
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	const script = `import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
s = socket.socket(family)
if sys.argv[1]: s.bind((sys.argv[1], 0))
s.connect((sys.argv[2], int(sys.argv[3])))
print(s.getpeername()[0].removeprefix("::ffff:"))`
	for _, c := range []struct{ bound, to string }{
		{"", "0.0.0.0"}, {"0.0.0.0", "0.0.0.0"}, {"127.0.0.2", "0.0.0.0"}, {"", "::ffff:0.0.0.0"}, {"::ffff:127.0.0.2", "::ffff:0.0.0.0"},
		{"", "::"}, {"::1", "::"}, {"::ffff:127.0.0.2", "::"}, {"::ffff:0.0.0.0", "::"},
	} {
		argv := []string{python, "-c", script, c.bound, c.to, fmt.Sprint(port)}
		peer := strings.TrimSpace(wrapped{bare: true}.run(t, argv...).must(t).stdout)
		for _, address := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
			e := withRules(t, "[[rule]]\nhost = %q\nport = %d\naction = \"deny\"\n", address, port).run(t, argv...)
			if denied := strings.Contains(e.stderr, "a rule denies it"); denied != (address == peer) || !denied && e.stdout != peer+"\n" {
				t.Errorf("bound to %q, connect to %q leads to %s, with a rule for %s: stdout: %q, stderr: %q", c.bound, c.to, peer, address, e.stdout, e.stderr)
			}
		}
	}
	e := withRules(t, "[[rule]]\nhost = \"192.0.2.1\"\nport = %d\n", port).run(t, python, "-c", `import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
s.connect(("0.0.0.0", int(sys.argv[1])))`, fmt.Sprint(port))
	if !strings.Contains(e.stderr, "cannot tell which address 0.0.0.0 is on a socket that is bound to a device") {
		t.Errorf("bound to a device: stdout: %q, stderr: %q", e.stdout, e.stderr)
	}
}

func TestNameThatSharesItsAddressIsNotTakenForTheOther(t *testing.T) {
	s := serveTLS(t, "one.shared.test", echo)
	w := withRules(t, "[[rule]]\nhost = \"*.shared.test\"\nport = %d\n", s.port)
	// getaddrinfo of both names first: the connection is told apart by its address alone.
	script := `import socket, sys
port = int(sys.argv[1])
addresses = [socket.getaddrinfo(n, port, type=socket.SOCK_STREAM)[0][4] for n in ("one.shared.test", "two.shared.test")]
for a in addresses:
    try: socket.create_connection(a[:2]); print("OK")
    except OSError as e: print(e.errno)`
	e := w.run(t, python, "-c", script, s.portString())
	if e.stdout != "OK\n129\n" || !strings.Contains(e.stderr, "certificate is for one.shared.test, not two.shared.test") {
		t.Errorf("stdout: %q, stderr: %q", e.stdout, e.stderr)
	}
}

func TestFirstRuleThatMatchesWins(t *testing.T) {
	s := serveSite(t, "db.example.test")
	w := withRules(t, `
[[rule]]
host = "*.example.test"
port = %d
[[rule]]
host = "db.example.test"
action = "deny"
`, s.port)
	w.run(t, quietCurl(s.url("/fixed"))...).must(t)
}

func TestDeniedConnectionIsEACCES(t *testing.T) {
	_, _, port := servePlain(t, "db.example.test")
	w := withRules(t, "[[rule]]\nhost = \"db.example.test\"\naction = \"deny\"\n")
	marker := newMarker()
	watch := lab.sniffer.Watch([]byte(marker), port)
	for kind, flags := range kinds {
		for _, mode := range []string{"block", "poll", "epoll"} {
			e := w.run(t, compile(t, "probe.c", flags...), mode, "db.example.test", fmt.Sprint(port), marker)
			if e.stdout != "connect=EACCES\n" || !strings.HasPrefix(e.stderr, fmt.Sprintf("tlswrap: db.example.test:%d: ", port)) {
				t.Errorf("%s, %s: stdout: %q, stderr: %q", kind, mode, e.stdout, e.stderr)
			}
		}
	}
	if report, err := watch.Stop(); err != nil || report.Bytes > 0 || len(report.Leaks) > 0 {
		t.Errorf("something was sent: %+v, %v", report, err)
	}
}

func TestDefaultDenyDeniesWhatNoRuleNames(t *testing.T) {
	s := serveSite(t, "db.example.test")
	url, _, _ := servePlain(t, "plain.example.test")
	w := withRules(t, "default = \"deny\"\n[[rule]]\nhost = \"db.example.test\"\nport = %d\n", s.port)
	w.run(t, quietCurl(s.url("/fixed"))...).must(t)
	const couldNotConnect = 7
	if e := w.run(t, quietCurl(url)...); e.status != couldNotConnect || !strings.Contains(e.stderr, "tlswrap: plain.example.test:") {
		t.Errorf("status %d, stderr: %q", e.status, e.stderr)
	}
}

func TestUpstreamOnAnotherPort(t *testing.T) {
	s := serveSite(t, "db.example.test")
	w := withRules(t, "[[rule]]\nhost = \"db.example.test\"\nport = 80\nupstream = \":%d\"\n", s.port)
	if got := w.run(t, quietCurl("http://db.example.test/fixed?"+s.marker)...).must(t).stdout; got != s.marker+"\n" {
		t.Errorf("curl got %q", got)
	}
}

func TestUpstreamOnAnotherHostIsVerifiedByTheNameTheProgramAskedFor(t *testing.T) {
	config := serverConfig(t, testkit.Leaf{Names: []string{"db.example.test"}})
	marker := newMarker()
	server, err := testkit.ServeHTTP("127.0.0.2:0", config, testkit.Site(marker))
	s := watched(t, "db.example.test", marker, server, err)
	w := withRules(t, "[[rule]]\nhost = \"db.example.test\"\nport = 80\nupstream = \"other.example.test:%d\"\n", s.port)
	if got := w.run(t, quietCurl("http://db.example.test/fixed?"+s.marker)...).must(t).stdout; got != marker+"\n" {
		t.Errorf("curl got %q", got)
	}
}

func TestVerifyNoneConnectsAndWarns(t *testing.T) {
	s := serveWith(t, "wrong.example.test", serverConfig(t, forDB), echo)
	w := withRules(t, "[[rule]]\nhost = \"wrong.example.test\"\nport = %d\nverify = \"none\"\n", s.port)
	script := `exec 5<>/dev/tcp/$1/$2; echo "$3" >&5; read -r line <&5; echo "$line"`
	e := w.run(t, "bash", "-c", script, "bash", s.host, s.portString(), s.marker)
	if e.stdout != s.marker+"\n" {
		t.Errorf("bash got %q", e.stdout)
	}
	if strings.Count(e.stderr, "\n") != 1 || !strings.Contains(e.stderr, "NOT verified") {
		t.Errorf("stderr: %q", e.stderr)
	}
}

func TestSyntheticAddressesAreShownByDefault(t *testing.T) {
	for rule, want := range map[string]string{"": "198.1", "addresses = \"real\"\n": "127.0.0.1"} {
		s := serveTLS(t, "db.example.test", echo)
		w := withRules(t, "[[rule]]\nhost = \"db.example.test\"\nport = %d\n%s", s.port, rule)
		script := `import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(sys.argv[3].encode() + b"\n")
assert s.makefile().readline() == sys.argv[3] + "\n"
print(socket.gethostbyname(sys.argv[1]))`
		got := w.run(t, python, "-c", script, s.host, s.portString(), s.marker).must(t).stdout
		if !strings.HasPrefix(got, want) {
			t.Errorf("%q shows the program %s, want %s", rule, got, want)
		}
	}
}

func TestRuleByAddressRange(t *testing.T) {
	config := serverConfig(t, testkit.Leaf{Names: []string{"other.example.test"}})
	s := serveWith(t, "other.example.test", config, echo)
	w := withRules(t, "[[rule]]\nhost = \"127.0.0.0/29\"\nport = [1, \"%d-%[1]d\"]\nserver_name = \"other.example.test\"\n", s.port)
	script := `exec 5<>/dev/tcp/$1/$2; echo "$3" >&5; read -r line <&5; [ "$line" = "$3" ] && echo intact`
	mustSayIntact(t, w, "bash", "-c", script, "bash", "127.0.0.2", s.portString(), s.marker)
}

func TestAddressOfARulesNameIsVerifiedByThatName(t *testing.T) {
	s := serveTLS(t, "other.example.test", echo) // has an address of its own
	script := `exec 5<>/dev/tcp/$1/$2; echo "$3" >&5; read -r line <&5; [ "$line" = "$3" ] && echo intact`
	mustSayIntact(t, s.wrapped(), "bash", "-c", script, "bash", "127.0.0.2", s.portString(), s.marker)
}

func TestNameWithoutARuleStaysPlaintext(t *testing.T) {
	s := serveSite(t, "db.example.test")
	url, marker, _ := servePlain(t, "plain.example.test")
	e := s.wrapped().run(t, quietCurl(s.url("/fixed"), url)...).must(t)
	if want := s.marker + "\n" + marker + "\n"; e.stdout != want {
		t.Errorf("curl got %q, want %q", e.stdout, want)
	}
}

func TestLoopbackPassesInTheBuiltInProfile(t *testing.T) {
	url, marker, _ := servePlain(t, "localhost")
	if got := (wrapped{}).run(t, quietCurl(url)...).must(t).stdout; got != marker+"\n" {
		t.Errorf("curl got %q", got)
	}
}

func TestBuiltInProfileTurnsPort80IntoTLSOn443(t *testing.T) {
	marker := newMarker()
	config := serverConfig(t, testkit.Leaf{Names: []string{"lan4.example.test"}})
	server, err := testkit.ServeHTTP("10.77.0.1:443", config, testkit.Site(marker))
	s := watched(t, "lan4.example.test", marker, server, err)
	w := wrapped{flags: []string{"--ca", lab.rootPEM}}
	if got := w.run(t, quietCurl("http://lan4.example.test/fixed?"+s.marker)...).must(t).stdout; got != s.marker+"\n" {
		t.Errorf("curl got %q", got)
	}
}

func TestBrokenRulesFileStopsBeforeTheProgramRuns(t *testing.T) {
	w := withRules(t, "[[rule]]\nhost = \"db.example.test\"\nprot = 5432\n")
	e := w.run(t, "echo", "ran")
	if e.status != 125 || e.stdout != "" || !strings.Contains(e.stderr, "rules.toml:3:1: ") {
		t.Errorf("status %d, stdout: %q, stderr: %q", e.status, e.stdout, e.stderr)
	}
}

// A name that rules cover has synthetic addresses. What goes to its other ports passes, to
// the real ones: the first time after a question, and then by what the worker has shared.
func TestOtherPortsOfACoveredNamePass(t *testing.T) {
	s := serveTLS(t, "six.example.test", echo)
	script := `import socket, sys
name, covered, marker = sys.argv[1], int(sys.argv[2]), sys.argv[3]
c = socket.create_connection((name, covered))
c.sendall(marker.encode() + b"\n")
print(c.makefile().readline() == marker + "\n")
def connects(family, synthetic):
    listener = socket.socket(family)
    listener.bind(("", 0))
    listener.listen()
    for i in range(3):
        c = socket.socket(family)
        c.connect((synthetic, listener.getsockname()[1]))
        peer = listener.accept()[0]
        assert c.getsockname() == peer.getpeername()
        c.sendall(b"x")
        assert peer.recv(1) == b"x"
def first(family):
    return socket.getaddrinfo(name, None, family)[0][4][0]
synthetic = first(socket.AF_INET)
print(synthetic[:5], first(socket.AF_INET6)[:7])
connects(socket.AF_INET, synthetic)
connects(socket.AF_INET6, "::ffff:" + synthetic)
connects(socket.AF_INET6, first(socket.AF_INET6))
for i in range(2):
    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind(("", 0))
    d = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    d.connect((synthetic, sink.getsockname()[1]))
    d.send(b"by connect")
    d2 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    d2.sendto(b"by sendto", (synthetic, sink.getsockname()[1]))
    assert sorted([sink.recv(99), sink.recv(99)]) == [b"by connect", b"by sendto"]
try:
    socket.create_connection(("198.19.255.1", 9))
except OSError as e:
    print(e.strerror)
`
	e := s.wrapped().run(t, python, "-c", script, s.host, s.portString(), s.marker)
	if want := "True\n198.1 2001:2:\nNo route to host\n"; e.stdout != want {
		t.Errorf("stdout: %q, want %q", e.stdout, want)
	}
	if want := "tlswrap: 198.19.255.1:9: 198.19.255.1 is a synthetic address that this run did not give out (it counts once the name has been looked up)\n"; e.stderr != want {
		t.Errorf("stderr: %q, want %q", e.stderr, want)
	}
}

// A folder that may not be entered is not one without rules: the built-in profile would count
// instead of what the administrator has written there.
func TestRulesThatCannotBeReachedAreNoneOfTheirAbsence(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	hidden := filepath.Join(home, "tlswrap")
	if err := os.Mkdir(hidden, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(home), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(home, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{{lab.tlswrap, "true"}, {lab.tlswrap, "check"}, {lab.tlswrap, "explain", "127.0.0.1:80"}} {
		w := wrapped{bare: true, env: []string{"XDG_CONFIG_HOME=" + home}, dir: "/"}
		e := w.run(t, append([]string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"}, argv...)...)
		want := "tlswrap: cannot tell whether there are rules in " + hidden + "/rules.toml: permission denied (--rules FILE names others)\n"
		if e.status != 125 || e.stderr != want {
			t.Errorf("%v: status %d, stderr %q, want %q", argv[1:], e.status, e.stderr, want)
		}
	}
}

func TestExitStatusOfCheckAndExplain(t *testing.T) {
	good := writeRules(t, "[[rule]]\nhost = \"db.example.test\"\naction = \"pass\"\n")
	bad := writeRules(t, "[[rule]]\nhost = \"db.example.test\"\nport = 0\n")
	lost := writeRules(t, "[[rule]]\nhost = \"db.example.test\"\nport = 5432\n\nca_file = \"/nowhere/ca.pem\"\n")
	missing := filepath.Join(t.TempDir(), "nothere.toml")
	const target = "127.0.0.1:1"
	for _, c := range []struct {
		argv           []string
		status         int
		stdout, stderr string // how it begins
	}{
		{[]string{"check", good}, 0, good + ": 1 rule, nothing wrong\n", ""},
		{[]string{"check", bad}, 1, bad + ":3:", ""},
		{[]string{"check", lost}, 1, lost + ":5:1: ca_file cannot be read", ""},
		{[]string{"check", missing}, 125, "", "tlswrap: reading the rules: open " + missing + ": no such file"},
		{[]string{"check", "--nothing"}, 125, "", "tlswrap: flag provided"},
		{[]string{"explain", "--rules", good, target}, 0, target + "\n", ""},
		{[]string{"explain", "--rules", bad, target}, 125, "", "tlswrap: " + bad + ":3:"},
		{[]string{"explain", "--rules", missing, target}, 125, "", "tlswrap: reading the rules: open " + missing + ": no such file"},
		{[]string{"worker", "--socket", filepath.Join(t.TempDir(), "s"), "--rules", bad}, 125, "", "tlswrap: " + bad + ":3:"},
		{[]string{"worker", "--socket", filepath.Join(t.TempDir(), "s"), "--rules", missing}, 125, "", "tlswrap: reading the rules: open " + missing + ": no such file"},
		{[]string{"version"}, 0, "tlswrap ", ""},
		{[]string{"--version"}, 0, "tlswrap ", ""},
	} {
		e := wrapped{bare: true}.run(t, append([]string{lab.tlswrap}, c.argv...)...)
		if e.status != c.status || !strings.HasPrefix(e.stdout, c.stdout) || !strings.HasPrefix(e.stderr, c.stderr) || (c.stdout == "") != (e.stdout == "") || (c.stderr == "") != (e.stderr == "") {
			t.Errorf("%q: status %d, stdout: %q, stderr: %q, want status %d, stdout: %q, stderr: %q", c.argv, e.status, e.stdout, e.stderr, c.status, c.stdout, c.stderr)
		}
	}
}

// A file that is reached by a symbolic link changes where the link leads.
func TestRulesBehindALinkAreReadAnew(t *testing.T) {
	s := serveSite(t, "db.example.test")
	rule := fmt.Sprintf("ca_file = %q\n[[rule]]\nhost = %q\nport = %d\n", lab.rootPEM, s.host, s.port)
	file := writeRules(t, rule+"action = \"deny\"\n")
	link := filepath.Join(t.TempDir(), "rules.toml")
	old := time.Now().Add(-time.Hour) // what is new is read twice
	if err := errors.Join(os.Symlink(file, link), os.Chtimes(file, old, old)); err != nil {
		t.Fatal(err)
	}
	socket, worker := sharedWorker(t, nil, "--rules", link)
	w := wrapped{flags: []string{"--worker", socket}}
	if e := w.run(t, quietCurl(s.url("/fixed"))...); e.status == 0 {
		t.Fatalf("what the rules deny: %q", e.stdout)
	}
	next := file + ".next"
	if err := errors.Join(os.WriteFile(next, []byte(rule), 0o644), os.Rename(next, file)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if strings.Contains(worker.stderr.String(), "rules reloaded") {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the rules were not reloaded")
		}
	}
	if e := w.run(t, quietCurl(s.url("/fixed"))...).must(t); e.stdout != s.marker+"\n" {
		t.Errorf("got %q: %s", e.stdout, e.stderr)
	}
}
