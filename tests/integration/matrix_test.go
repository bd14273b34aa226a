package integration

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// verdictCase is a server, a rule for it, and what a program under tlswrap sees.
type verdictCase struct {
	name   string
	host   string // "" is db.example.test
	config *tls.Config
	handle func(net.Conn) // nil is testkit.EchoLine
	plain  bool           // the server speaks no TLS, or does not get that far
	rule   string         // beside host and port
	want   string         // what the probe prints; N is the length of the marker's line
	early  string         // what it may print as well
	says   string         // the sentence, without host and rule; "" where there is none
}

const talked = "connect=OK bytes=N end=EOF"

func TestVerdicts(t *testing.T) {
	cases := append(validCases(t), certificateCases(t)...)
	cases = append(cases, chainCases(t)...)
	cases = append(cases, clientCertificateCases(t)...)
	cases = append(cases, pinCases(t)...)
	cases = append(cases, protocolCases(t)...)
	cases = append(cases, legacyCases(t)...)
	cases = append(cases, demandCases(t)...)
	cases = append(cases, stapleCases(t)...)
	for kind, flags := range kinds {
		probe := compile(t, "probe.c", flags...)
		for _, c := range cases {
			for _, mode := range []string{"block", "poll", "epoll"} {
				t.Run(strings.ReplaceAll(c.name, " ", "_")+"/"+kind+"/"+mode, func(t *testing.T) {
					t.Parallel()
					c.check(t, probe, mode)
				})
			}
		}
	}
}

func (c verdictCase) check(t *testing.T, probe, mode string) {
	if c.host == "" {
		c.host = "db.example.test"
	}
	if c.handle == nil {
		c.handle = testkit.EchoLine
	}
	if c.plain {
		c.config = nil
	}
	s := serveWith(t, c.host, c.config, func(string) func(net.Conn) { return c.handle })
	rules := writeRules(t, fmt.Sprintf("\n[[rule]]\nhost = %q\nport = %d\n%s\n", c.host, s.port, c.rule))
	w := wrapped{flags: []string{"--ca", lab.rootPEM, "--rules", rules}}
	e := w.run(t, probe, mode, c.host, s.portString(), s.marker)
	want := strings.ReplaceAll(c.want, "=N", fmt.Sprint("=", len(s.marker)+1)) + "\n"
	if e.stdout != want && (c.early == "" || e.stdout != c.early+"\n") {
		t.Errorf("the program saw %q, want %q", e.stdout, want)
	}
	if c.says == "" {
		if e.stderr != "" {
			t.Errorf("stderr: %s", e.stderr)
		}
		return
	}
	begin, end := fmt.Sprintf("tlswrap: %s: ", s.hostport()), fmt.Sprintf(" (rule 1, %s:2)\n", rules)
	if strings.Count(e.stderr, "\n") != 1 || !strings.HasPrefix(e.stderr, begin) ||
		!strings.HasSuffix(e.stderr, end) || !strings.Contains(e.stderr, c.says) {
		t.Errorf("stderr: %q, want %q", e.stderr, begin+c.says+end)
	}
}

// config makes a server's configuration from what makes a certificate.
func config(t *testing.T, cert *testkit.Certificate, err error) *tls.Config {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert.TLS()}}
}

// forDB is a good certificate's content.
var forDB = testkit.Leaf{CommonName: "db.example.test", Names: []string{"db.example.test"}}

func validCases(t *testing.T) []verdictCase {
	good := serverConfig(t, forDB)
	tls12 := good.Clone()
	tls12.MaxVersion = tls.VersionTLS12
	address := netip.MustParseAddr("127.0.0.2")
	address6 := netip.MustParseAddr("fd00:77::1")
	wild := serverConfig(t, testkit.Leaf{Names: []string{"*.wild.test"}})
	return []verdictCase{
		{name: "valid", config: good, want: talked},
		{name: "valid with TLS 1.2", config: tls12, want: talked},
		{name: "address in the certificate", host: "127.0.0.2", want: talked,
			config: serverConfig(t, testkit.Leaf{IPs: []netip.Addr{address}})},
		{name: "IPv6 address in the certificate", host: "fd00:77::1", want: talked,
			config: serverConfig(t, testkit.Leaf{IPs: []netip.Addr{address6}})},
		{name: "wildcard", host: "a.wild.test", config: wild, want: talked},
		{name: "server_name", host: "wrong.example.test", config: good, want: talked,
			rule: `server_name = "db.example.test"`},
	}
}

func certificateCases(t *testing.T) []verdictCase {
	const day = 24 * time.Hour
	expired, early, client, nameless := forDB, forDB, forDB, forDB
	expired.NotBefore, expired.NotAfter = time.Now().Add(-30*day), time.Now().Add(-3*day-time.Hour)
	early.NotBefore, early.NotAfter = time.Now().Add(day), time.Now().Add(2*day)
	client.ClientOnly = true
	nameless.Names = nil
	wild := serverConfig(t, testkit.Leaf{Names: []string{"*.wild.test"}})
	const rejected = "connect=EKEYREJECTED"
	return []verdictCase{
		{name: "expired", config: serverConfig(t, expired), want: "connect=EKEYEXPIRED",
			says: "certificate expired 3 days ago, on " + expired.NotAfter.UTC().Format(time.DateTime+" MST")},
		{name: "not yet valid", config: serverConfig(t, early), want: "connect=EKEYEXPIRED",
			says: "certificate is not valid before " + early.NotBefore.UTC().Format(time.DateTime+" MST")},
		{name: "wrong name", host: "wrong.example.test", config: serverConfig(t, forDB), want: rejected,
			says: "certificate is for db.example.test, not wrong.example.test"},
		{name: "common name alone", config: serverConfig(t, nameless), want: rejected,
			says: "certificate is for no host (only a common name, db.example.test, which is not enough)"},
		{name: "wildcard is for one label", host: "a.b.wild.test", config: wild, want: rejected,
			says: "certificate is for *.wild.test, not a.b.wild.test"},
		{name: "name in the certificate and not the address", host: "127.0.0.1", config: serverConfig(t, forDB),
			want: rejected, says: `certificate is for db.example.test, not 127.0.0.1; the program came with an address and no name: server_name = "db.example.test" in a rule for the address would verify that name, if it is meant`},
		{name: "wrong usage", config: serverConfig(t, client), want: rejected,
			says: "certificate is not for TLS servers (its extended key usage does not say so)"},
	}
}

func chainCases(t *testing.T) []verdictCase {
	stranger, err := testkit.NewAuthority("stranger's root")
	if err != nil {
		t.Fatal(err)
	}
	between, err := lab.root.Intermediate("issuing authority")
	if err != nil {
		t.Fatal(err)
	}
	below, err := between.Issue(forDB)
	if err != nil {
		t.Fatal(err)
	}
	self, selfErr := testkit.SelfSigned(forDB)
	unknown, unknownErr := stranger.Issue(forDB)
	file := t.TempDir() + "/stranger.pem"
	if err := stranger.WriteFile(file); err != nil {
		t.Fatal(err)
	}
	const rejected = "connect=EKEYREJECTED"
	return []verdictCase{
		{name: "intermediate", config: config(t, below, nil), want: talked},
		{name: "missing intermediate", config: config(t, below.WithoutChain(), nil), want: rejected,
			says: `certificate is issued by "CN=issuing authority", which is neither a trusted root nor sent along by the server`},
		{name: "self-signed", config: config(t, self, selfErr), want: rejected,
			says: "certificate is self-signed (CN=db.example.test) and not trusted"},
		{name: "unknown root", config: config(t, unknown, unknownErr), want: rejected,
			says: `certificate is issued by "CN=stranger's root", which is neither a trusted root nor sent along by the server`},
		{name: "the rule's ca_file", config: config(t, unknown, unknownErr), want: talked,
			rule: fmt.Sprintf("ca_file = %q", file)},
	}
}

func clientCertificateCases(t *testing.T) []verdictCase {
	wants := serverConfig(t, forDB)
	wants.ClientAuth, wants.ClientCAs = tls.RequireAndVerifyClientCert, lab.root.Pool()
	wants12 := wants.Clone()
	wants12.MaxVersion = tls.VersionTLS12
	cert, err := lab.root.Issue(testkit.Leaf{CommonName: "a client", ClientOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := cert.WriteFiles(t.TempDir(), "client")
	if err != nil {
		t.Fatal(err)
	}
	rule := fmt.Sprintf("cert_file = %q\nkey_file = %q", certFile, keyFile)
	const says = "the server demands a client certificate, and the rule has no cert_file"
	return []verdictCase{
		// In TLS 1.3 the server refuses after the handshake, perhaps before the program has
		// looked how its connect ended.
		{name: "client certificate absent", config: wants, want: "connect=OK bytes=0 end=ECONNRESET",
			early: "connect=ECONNRESET", says: says},
		{name: "client certificate absent with TLS 1.2", config: wants12, want: "connect=EPROTO", says: says},
		{name: "client certificate", config: wants, want: talked, rule: rule},
		{name: "client certificate with TLS 1.2", config: wants12, want: talked, rule: rule},
	}
}

func pinCases(t *testing.T) []verdictCase {
	cert, err := lab.root.Issue(forDB)
	if err != nil {
		t.Fatal(err)
	}
	other, err := lab.root.Issue(forDB)
	if err != nil {
		t.Fatal(err)
	}
	pinned := config(t, cert, nil)
	return []verdictCase{
		{name: "pinned", config: pinned, want: talked, rule: fmt.Sprintf("pins = [%q]", cert.Pin())},
		{name: "one of two pins", config: pinned, want: talked,
			rule: fmt.Sprintf("pins = [%q, %q]", other.Pin(), cert.Pin())},
		{name: "pinned to another key", config: pinned, want: "connect=EKEYREJECTED",
			rule: fmt.Sprintf("pins = [%q]", other.Pin()),
			says: "the server's key is not among the rule's pins: it is " + cert.Pin()},
	}
}

func protocolCases(t *testing.T) []verdictCase {
	good := serverConfig(t, forDB)
	old := good.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	tls12 := good.Clone()
	tls12.MaxVersion = tls.VersionTLS12
	alpn := good.Clone()
	alpn.NextProtos = []string{"h2"}
	const cut = "the server ended the connection without close_notify"
	return []verdictCase{
		{name: "TLS 1.1 alone", config: old, want: "connect=EPROTO", says: "the server and this rule have no TLS version in common"},
		{name: "min_version", config: tls12, rule: `min_version = "1.3"`, want: "connect=EPROTO",
			says: "the server and this rule have no TLS version in common (the rule demands at least TLS 1.3)"},
		{name: "no ALPN in common", config: alpn, rule: `alpn = ["postgresql"]`, want: "connect=EPROTO",
			says: "the server supports none of the rule's ALPN protocols"},
		{name: "plaintext server", plain: true, handle: testkit.Say("220 mail.example.test ready\r\n"), want: "connect=EPROTO",
			says: `the server does not speak TLS on this port: it said "220 mail.example.test ready" (starttls = "smtp" in the rule would ask it for TLS)`},
		{name: "IMAP server", plain: true, handle: testkit.Say("* OK ready\r\n"), want: "connect=EPROTO",
			says: `it said "* OK ready" (starttls = "imap" in the rule would ask it for TLS)`},
		{name: "SSH server", plain: true, handle: testkit.Say("SSH-2.0-OpenSSH_9.2\r\n"), want: "connect=EPROTO",
			says: `it said "SSH-2.0-OpenSSH_9.2" (that is SSH, which encrypts by itself: action = "pass" would let it)`},
		{name: "HTTP server", plain: true, handle: testkit.Say("HTTP/1.1 400 Bad Request\r\n\r\n"), want: "connect=EPROTO",
			says: `it said "HTTP/1.1 400 Bad Request" (that is HTTP: if TLS is spoken on another port, such as 443, upstream = ":443" in the rule goes there)`},
		{name: "silent server", plain: true, handle: testkit.Silent, rule: `timeout = "1s"`, want: "connect=ETIMEDOUT",
			says: "the server accepted the connection but did not answer the TLS handshake within 1s"},
		{name: "reset", plain: true, handle: testkit.Reset, want: "connect=ECONNRESET",
			says: "during the TLS handshake: connection reset by peer"},
		{name: "closed", plain: true, handle: testkit.Hangup, want: "connect=EPROTO",
			says: "the server closed the connection during the TLS handshake"},
		{name: "cut without close_notify", config: good, handle: testkit.Cut("half a sentence"),
			want: "connect=OK bytes=15 end=ECONNRESET", says: cut},
		{name: "cut without close_notify with TLS 1.2", config: tls12, handle: testkit.Cut("half a sentence"),
			want: "connect=OK bytes=15 end=ECONNRESET", says: cut},
		{name: "cut and allowed", config: good, handle: testkit.Cut("half a sentence"), rule: "allow_truncation = true",
			want: "connect=OK bytes=15 end=EOF"},
	}
}

// legacyCases are servers that know nothing of what is offered unless a rule says so.
func legacyCases(t *testing.T) []verdictCase {
	old := forDB
	old.RSABits = 2048
	only := func(version, suite uint16) *tls.Config {
		c := serverConfig(t, old)
		c.MinVersion, c.MaxVersion, c.CipherSuites = tls.VersionTLS10, version, []uint16{suite}
		return c
	}
	rsa := only(tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256)
	tdes := only(tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA)
	cbc := only(tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256)
	oldest := only(tls.VersionTLS10, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA)
	const refused = "the server answered with an alert: handshake failure; it may know nothing of what was offered, TLS 1.2 to TLS 1.3 with ECDHE key exchange, and AES-GCM, AES-CBC with SHA-1 or ChaCha20"
	return []verdictCase{
		{name: "RSA key exchange", config: rsa, want: "connect=EPROTO",
			says: refused + ` (allow_legacy = ["rsa-key-exchange", "3des", "cbc-sha256"] in the rule would offer that of old servers); DHE alone cannot be spoken`},
		{name: "RSA key exchange and 3DES allowed", config: rsa, rule: `allow_legacy = ["3des"]`, want: "connect=EPROTO",
			says: refused + `, and 3des (allow_legacy = ["rsa-key-exchange", "cbc-sha256"] in the rule would offer that of old servers)`},
		{name: "RSA key exchange allowed", config: rsa, rule: `allow_legacy = ["rsa-key-exchange"]`, want: talked,
			says: "warning: not safe any more: rsa-key-exchange, which the rule lets in (allow_legacy)"},
		{name: "3DES allowed", config: tdes, rule: `allow_legacy = ["3des"]`, want: talked,
			says: "warning: not safe any more: 3des, which the rule lets in (allow_legacy)"},
		{name: "CBC with SHA-256 allowed", config: cbc, rule: `allow_legacy = ["cbc-sha256"]`, want: talked,
			says: "warning: not safe any more: cbc-sha256, which the rule lets in (allow_legacy)"},
		{name: "TLS 1.0 with RSA key exchange and 3DES", config: oldest, want: talked,
			rule: "min_version = \"1.0\"\nallow_legacy = [\"rsa-key-exchange\", \"3des\"]",
			says: "warning: not safe any more: TLS 1.0, rsa-key-exchange, 3des, which the rule lets in (min_version, allow_legacy)"},
		{name: "legacy allowed by another rule", config: rsa, rule: "[[rule]]\nhost = \"other.example.test\"\nallow_legacy = [\"rsa-key-exchange\"]", want: "connect=EPROTO", says: refused},
		{name: "legacy allowed and not needed", config: serverConfig(t, old), rule: `allow_legacy = ["rsa-key-exchange", "3des", "cbc-sha256"]`, want: talked},
	}
}

// demandCases are servers that speak TLS well enough, and not as it is demanded.
func demandCases(t *testing.T) []verdictCase {
	short := forDB
	short.RSABits = 1024
	weak, weak12 := serverConfig(t, short), serverConfig(t, short)
	weak12.MaxVersion = tls.VersionTLS12
	mute := serverConfig(t, forDB)
	const rejected = "connect=EKEYREJECTED"
	return []verdictCase{
		{name: "RSA key of 1024 bits", config: weak, want: rejected,
			says: "certificate has an RSA key of 1024 bits, and at least 2048 are demanded (min_rsa_bits = 1024 accepts it)"},
		{name: "RSA key of 1024 bits with TLS 1.2", config: weak12, want: rejected, says: "certificate has an RSA key of 1024 bits"},
		{name: "RSA key of 1024 bits accepted", config: weak, rule: "min_rsa_bits = 1024", want: talked},
		{name: "RSA key that is shorter than the rule's", config: serverConfig(t, testkit.Leaf{Names: forDB.Names, RSABits: 2048}), rule: "min_rsa_bits = 3072", want: rejected,
			says: "certificate has an RSA key of 2048 bits, and at least 3072 are demanded (min_rsa_bits = 2048 accepts it)"},
		{name: "no ALPN chosen", config: mute, rule: `alpn = ["h2", "http/1.1"]`, want: "connect=EPROTO",
			says: "the server chose none of the protocols that were offered by ALPN, h2, http/1.1 (allow_no_alpn = true in the rule accepts that)"},
		{name: "no ALPN chosen and accepted", config: mute, rule: "alpn = [\"h2\"]\nallow_no_alpn = true", want: talked},
	}
}

// stapleCases are servers that staple an OCSP response, or do not.
func stapleCases(t *testing.T) []verdictCase {
	demanding := forDB
	demanding.MustStaple = true
	stapled := func(leaf testkit.Leaf, by *testkit.Authority, s testkit.Staple) *tls.Config {
		cert, err := lab.root.Issue(leaf)
		if err != nil {
			t.Fatal(err)
		}
		response, err := by.Staple(cert, s)
		if err != nil {
			t.Fatal(err)
		}
		served := cert.TLS()
		served.OCSPStaple = response
		return &tls.Config{Certificates: []tls.Certificate{served}}
	}
	stranger, err := testkit.NewAuthority("tlswrap test root")
	if err != nil {
		t.Fatal(err)
	}
	good12 := stapled(demanding, lab.root, testkit.Staple{})
	good12.MaxVersion = tls.VersionTLS12
	junk := serverConfig(t, demanding)
	junk.Certificates[0].OCSPStaple = []byte("junk")
	old := testkit.Staple{Age: 2 * time.Hour}
	const rejected, demands = "connect=EKEYREJECTED", "certificate demands that the server staples an OCSP response (RFC 7633), and "
	return []verdictCase{
		{name: "stapled as demanded", config: stapled(demanding, lab.root, testkit.Staple{}), want: talked},
		{name: "stapled as demanded with TLS 1.2", config: good12, want: talked},
		{name: "staple demanded and not sent", config: serverConfig(t, demanding), want: rejected, says: demands + "it sent none"},
		{name: "staple demanded and junk", config: junk, want: rejected, says: demands + "the one that it sent cannot be read"},
		{name: "staple demanded and old", config: stapled(demanding, lab.root, old), want: rejected, says: demands + "the one that it sent is not current"},
		{name: "staple demanded and unknown", config: stapled(demanding, lab.root, testkit.Staple{Unknown: true}), want: rejected, says: demands + "the one that it sent does not know it"},
		{name: "staple demanded and a stranger's", config: stapled(demanding, stranger, testkit.Staple{}), want: rejected, says: demands + "the one that it sent is not by its issuer"},
		{name: "staple old and not demanded", config: stapled(forDB, lab.root, old), want: talked},
		{name: "staple says revoked", config: stapled(forDB, lab.root, testkit.Staple{Revoked: true}), want: rejected, says: "certificate was revoked on "},
	}
}
