package rules

import (
	"fmt"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func mustParse(t *testing.T, text string) *Policy {
	t.Helper()
	p, err := Parse("/etc/tlswrap/rules.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMistakesAreReportedWithTheirPlace(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown key", "[[rule]]\nhost = \"a\"\nprot = 1\n", `f:3:1: unknown key "prot"; did you mean "port"?`},
		{"mis-cased key", "[[rule]]\nHost = \"a\"\n", "f:1:3: rule without host, expected a name, \"*.example.com\", an IP address, a CIDR such as \"10.0.0.0/8\", or \"*\"\nf:2:1: unknown key \"Host\"; did you mean \"host\"?"},
		{"empty", "# nothing\n", "f:1:1: no rule, expected at least one [[rule]] or [[listen]], or default"},
		{"unknown table", "[rules]\nx = 1\n", "f:1:2: unexpected table [rules], expected [[rule]]"},
		{"mis-cased table", "[[Rule]]\nhost = \"a\"\n", `f:1:3: unexpected table [[Rule]]; did you mean "rule"?, expected [[rule]]`},
		{"single rule table", "[rule]\nhost = \"a\"\n", "f:1:2: unexpected table [rule], expected [[rule]]"},
		{"twice", "[[rule]]\nhost = \"a\"\n host = \"b\"\n", `f:3:2: key "host" is given twice`},
		{"tls_port alone", "[[rule]]\nhost = \"a\"\ntls_port = 993\n", `f:3:1: tls_port without starttls: for a server that has TLS alone use upstream = ":993"`},
		{"tls_port of FTP", "[[rule]]\nhost = \"a\"\nstarttls = \"ftp\"\ntls_port = 990\n", `f:4:1: tls_port has no meaning with starttls = "ftp", whose words are needed under TLS too`},
		{"client_tls of a server that greets", "[[rule]]\nhost = \"a\"\nstarttls = \"imap\"\nclient_tls = \"pass\"\n", `f:4:1: client_tls = "pass" has no meaning with starttls = "imap": the program is greeted before it says anything`},
		{"errno of no kind", "[[rule]]\nhost = \"a\"\nerrno = \"posix\"\n", `f:3:1: errno is "posix", expected "precise" or "plain"`},
		{"errno of what is passed", "[[rule]]\nhost = \"a\"\naction = \"pass\"\nerrno = \"plain\"\n", `f:4:1: errno has no meaning with action = "pass"`},
		{"client_tls with a proxy", "[[rule]]\nhost = \"a\"\nvia = \"http://p:1\"\nclient_tls = \"pass\"\n", `f:4:1: client_tls = "pass" would go round the proxy of via`},
		{"bad tls_port", "[[rule]]\nhost = \"a\"\nstarttls = \"imap\"\ntls_port = \"993\"\n", `f:4:1: tls_port is the string "993", expected a number from 1 to 65535`},
		{"dotted key", "[[rule]]\nhost = \"a\"\nport.first = 1\n", `f:3:1: unknown key "port.first"`},
		{"wrong type", "[[rule]]\nhost = 3\n", "f:2:1: host is 3, expected a string"},
		{"inline table", "[[rule]]\nhost = {a = 1}\n", "f:2:1: host is a table, expected a string"},
		{"bad default", "default = \"maybe\"\n", `f:1:1: default is "maybe", expected "pass" or "deny"`},
		{"bad action", "[[rule]]\nhost = \"a\"\naction = \"TLS\"\n", `f:3:1: action is "TLS", expected "tls", "pass" or "deny"`},
		{"bad port", "[[rule]]\nhost = \"a\"\nport = 70000\n", `f:3:1: port is 70000, expected a number from 1 to 65535, a range such as "8000-8999", or a list of them`},
		{"bad range", "[[rule]]\nhost = \"a\"\nport = [1, \"9-2\"]\n", `f:3:1: port is the string "9-2", expected a number from 1 to 65535, a range such as "8000-8999", or a list of them`},
		{"bad upstream", "[[rule]]\nhost = \"a\"\nupstream = \"b\"\n", `f:3:1: upstream is "b", expected "host:port", "[v6]:port" or ":port"`},
		{"bad pin", "[[rule]]\nhost = \"a\"\npins = [\"sha1/xx\"]\n", `pin is "sha1/xx", expected sha256/ and the base64 of 32 bytes`},
		{"no pins", "[[rule]]\nhost = \"a\"\npins = []\n", "f:3:1: pins is an empty list, expected at least one pin"},
		{"half a key pair", "[[rule]]\nhost = \"a\"\ncert_file = \"c\"\n", "f:3:1: cert_file without key_file, expected both"},
		{"meaningless", "[[rule]]\nhost = \"a\"\naction = \"pass\"\nverify = \"none\"\n", `f:4:1: verify has no meaning with action = "pass"`},
		{"bad timeout", "[[rule]]\nhost = \"a\"\ntimeout = \"1ms\"\n", `f:3:1: timeout is "1ms", expected a duration from 100ms to 10m0s such as "10s"`},
		{"bad CIDR", "[[rule]]\nhost = \"10.0.0.1/8\"\n", `f:2:1: host is "10.0.0.1/8": the address has bits beyond the prefix, expected "10.0.0.0/8"`},
		{"bad host", "[[rule]]\nhost = \"a*b\"\n", `f:2:1: host is "a*b", expected a name, "*.example.com", an IP address, a CIDR such as "10.0.0.0/8", or "*"`},
		{"all of them", "x = 1\n[[rule]]\nhost = \"a\"\nport = 0\nfoo = 1\n", "f:1:1: unknown key \"x\"\nf:4:1: port is 0, expected a number from 1 to 65535, a range such as \"8000-8999\", or a list of them\nf:5:1: unknown key \"foo\""},
		{"not TOML", "[[rule]]\nhost = \n", "f:2:"},
		{"unclosed", "[[rule]]\nhost = \"a", "f:2:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f", []byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestEveryKeyIsUnderstood(t *testing.T) {
	p := mustParse(t, `
default = "deny"
ca_file = "roots.pem"
kernel_tls = true
[[rule]]
host = "DB.Bücher.example."
port = [5432, "8000-8999", "99"]
upstream = "other.example:443"
server_name = "Real.example"
ca_file = "/abs/ca.pem"
pins = ["sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE="]
cert_file = "c.pem"
key_file = "k.pem"
min_version = "1.3"
alpn = ["h2", "http/1.1"]
addresses = "real"
timeout = "2s"
allow_truncation = true
verify = "none"
`)
	r := p.Rules[0]
	got := fmt.Sprintln(p.Default, p.CAFile, p.KernelTLS, r.Host, r.Ports, r.Upstream, r.ServerName, r.CAFile, len(r.Pins), r.CertFile, r.KeyFile, r.MinVersion, r.ALPN, r.RealAddresses, r.Timeout, r.AllowTruncation, r.VerifyNone, r)
	want := fmt.Sprintln(Deny, "/etc/tlswrap/roots.pem", true, "db.xn--bcher-kva.example", []PortRange{{5432, 5432}, {8000, 8999}, {99, 99}}, "other.example:443", "real.example", "/abs/ca.pem", 2,
		"/etc/tlswrap/c.pem", "/etc/tlswrap/k.pem", 0x0304, []string{"h2", "http/1.1"}, true, 2*time.Second, true, true, "rule 1, /etc/tlswrap/rules.toml:5")
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPinsWithASlashInFront(t *testing.T) {
	const digits = "/W8FoU8MqATFnCo8tRumjWZd9hKkESwG4XaIC2zD/wk="
	one, ok1 := parsePin("sha256/" + digits)
	two, ok2 := parsePin("sha256//" + digits)
	if !ok1 || !ok2 || one != two {
		t.Errorf("got %x, %v and %x, %v", one, ok1, two, ok2)
	}
}

func TestFirstMatchWins(t *testing.T) {
	p := mustParse(t, `
[[rule]]
host = "10.0.0.5"
action = "pass"
[[rule]]
host = "db.example.com"
port = 5432
[[rule]]
host = "*.example.com"
port = "5000-6000"
action = "deny"
[[rule]]
host = "2001:db8::/32"
`)
	tests := []struct {
		name, addr string
		port       uint16
		want       string
	}{
		{"db.example.com", "10.0.0.9", 5432, "tls 2"},
		{"db.example.com", "10.0.0.5", 5432, "pass 1"},
		{"db.example.com", "10.0.0.9", 5433, "deny 3"},
		{"a.b.example.com", "10.0.0.9", 5000, "deny 3"},
		{"example.com", "10.0.0.9", 5432, "pass"},
		{"", "::ffff:10.0.0.5", 1, "pass 1"},
		{"", "2001:db8::7", 1, "tls 4"},
		{"", "192.0.2.1", 5432, "pass"},
	}
	for _, tt := range tests {
		d := p.Decide(Target{tt.name, netip.MustParseAddr(tt.addr), tt.port})
		got := d.Action.String()
		if d.Rule != nil {
			got += fmt.Sprint(" ", d.Rule.Index)
		}
		if got != tt.want {
			t.Errorf("%s %s %d: got %s, want %s", tt.name, tt.addr, tt.port, got, tt.want)
		}
	}
}

func TestMayCoverLooksAtEveryPort(t *testing.T) {
	p := mustParse(t, `
[[rule]]
host = "127.0.0.0/8"
action = "pass"
[[rule]]
host = "half.example"
port = 80
action = "pass"
[[rule]]
host = "*"
port = 80
`)
	for name, want := range map[string]bool{"127.0.0.1": false, "10.0.0.1": true} {
		if got := p.MayCover("x.example", netip.MustParseAddr(name)); got != want {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if !p.MayCover("half.example", netip.MustParseAddr("10.0.0.1")) {
		t.Error("a rule for one port hid the next")
	}
}

func TestPortMapHasThePortsThatRulesAreAbout(t *testing.T) {
	set := func(text string, port int) bool { return mustParse(t, text).Ports()[port/8]>>(port%8)&1 == 1 }
	one := "[[rule]]\nhost = \"a\"\nport = [25, \"8000-8010\"]\n"
	for port, want := range map[int]bool{25: true, 24: false, 26: false, 8000: true, 8010: true, 8011: false} {
		if got := set(one, port); got != want {
			t.Errorf("port %d: got %v", port, got)
		}
	}
	for _, text := range []string{"default = \"deny\"\n", "[[rule]]\nhost = \"a\"\n", "[[rule]]\nhost = \"a\"\naction = \"deny\"\n"} {
		if !set(text, 1) || !set(text, 65535) {
			t.Errorf("%q: a port is clear", text)
		}
	}
	if set("[[rule]]\nhost = \"a\"\naction = \"pass\"\n", 80) {
		t.Error("a rule that passes needs no question")
	}
}

func TestFlag(t *testing.T) {
	for _, bad := range []string{"", "host", "host:", "host:0", "::1:80", "a b:1", "host:99999"} {
		if r, err := FromFlag(bad); err == nil {
			t.Errorf("%q: got %v, want an error", bad, r)
		}
	}
	for _, good := range []string{"host:1", "[::1]:80", "*.example.com:443", "*:6379", "10.0.0.0/8:5432"} {
		if r, err := FromFlag(good); err != nil || r.String() != "--tls "+good {
			t.Errorf("%q: got %v, %v", good, r, err)
		}
	}
}

func TestBuiltinProfile(t *testing.T) {
	if w := Builtin().Lint(); len(w) > 0 {
		t.Errorf("lint: %v", w)
	}
	decide := func(port uint16) *Rule {
		return Builtin().Decide(Target{"x.example", netip.MustParseAddr("192.0.2.1"), port}).Rule
	}
	for port, twin := range map[uint16]uint16{80: 443, 1883: 8883, 5672: 5671, 6667: 6697, 23: 992} {
		if r := decide(port); r == nil || r.Upstream.Port != twin || r.StartTLS != "" {
			t.Errorf("port %d: got %+v, want upstream port %d", port, r, twin)
		}
	}
	for port, want := range map[uint16]struct {
		twin     uint16
		starttls string
	}{
		110: {995, "pop3"}, 143: {993, "imap"}, 119: {563, "nntp"}, 389: {636, "ldap"}, 5222: {5223, "xmpp"},
		25: {0, "smtp"}, 587: {0, "submission"}, 4190: {0, "sieve"}, 21: {0, "ftp"}, 5432: {0, "postgres"}, 3306: {0, "mysql"}, 5269: {0, "xmpp-server"},
	} {
		if r := decide(port); r == nil || r.TLSPort != want.twin || r.StartTLS != want.starttls || r.Upstream.Port != 0 {
			t.Errorf("port %d: got %+v, want %v", port, r, want)
		}
	}
	if d := Builtin().Decide(Target{"localhost", netip.MustParseAddr("127.0.0.1"), 80}); d.Action != Pass {
		t.Errorf("loopback: got %v, want pass", d.Action)
	}
}

func TestLintFindsWhatIsSurelyNotMeant(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key.pem")
	if err := os.WriteFile(key, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := Parse(filepath.Join(dir, "rules.toml"), []byte(`
[[rule]]
host = "*.example.com"
[[rule]]
host = "db.example.com"
port = 5432
[[rule]]
host = "a.example"
ca_file = "missing.pem"
cert_file = "key.pem"
key_file = "key.pem"
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range p.Lint() {
		got = append(got, fmt.Sprintf("%d: %s", w.Pos.Line, w.Msg))
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{
		"4: rule 2 never matches: rule 1 (line 2)",
		"9: ca_file cannot be read", "10: cert_file " + key + " has no CERTIFICATE", "11: key_file " + key + " can be read by others (mode 0644",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("missing %q in\n%s", want, all)
		}
	}
}

// The rules are read by the command, the worker and by tests; that they cannot do
// anything but read is what makes them easy to trust.
func TestRulesKnowNothingOfSockets(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			switch path := strings.Trim(imp.Path.Value, `"`); {
			case path == "net", path == "crypto/tls", path == "os/exec", path == "net/http", strings.HasPrefix(path, "tlswrap/"):
				t.Errorf("%s imports %s: rules describe connections and make none", file, path)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(builtinText)
	f.Add("[[rule]]\nhost = \"a\"\nport = [1, \"2-3\"]\n")
	f.Add("a.b = {c = [1, 2")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse("f", []byte(text))
		if (p == nil) == (err == nil) {
			t.Errorf("got %v and %v", p, err)
		}
	})
}

func FuzzHost(f *testing.F) {
	for _, s := range []string{"*", "*.example.com", "10.0.0.0/8", "::1", "bücher.example", "a_b", "::ffff:1.2.3.4/120"} {
		f.Add(s, "db.example.com", "10.0.0.1")
	}
	f.Fuzz(func(t *testing.T, pattern, name, addr string) {
		h, err := ParseHost(pattern)
		if err != nil {
			return
		}
		again, err := ParseHost(h.String())
		if err != nil || again != h {
			t.Errorf("%q reads as %v, which reads as %v, %v", pattern, h, again, err)
		}
		ip, _ := netip.ParseAddr(addr)
		n, err := NormalizeName(name)
		if err != nil {
			return
		}
		if twice, err := NormalizeName(n); err != nil || twice != n {
			t.Errorf("%q normalises to %q and then to %q, %v", name, n, twice, err)
		}
		h.Matches(n, ip)
	})
}
