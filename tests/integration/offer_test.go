package integration

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"tlswrap/tests/testkit"
)

// changing is a TLS server that is another one from its second connection on. It keeps what it was offered.
type changing struct {
	*site
	mu     sync.Mutex
	offers []string
}

// serveChanging starts one, which is asked for TLS by ManageSieve. What it keeps of an offer is the latest version and
// the first group.
func serveChanging(t *testing.T, first, then *tls.Config) *changing {
	t.Helper()
	c := new(changing)
	config := serverConfig(t, testkit.Leaf{Names: []string{"db.example.test"}})
	for _, one := range []*tls.Config{first, then} {
		one.Certificates = config.Certificates
	}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.offers = append(c.offers, fmt.Sprint(tls.VersionName(slices.Max(hello.SupportedVersions)), " ", hello.SupportedCurves[0]))
		if len(c.offers) == 1 {
			return first, nil
		}
		return then, nil
	}
	c.site = serveWith(t, "db.example.test", nil, func(string) func(net.Conn) {
		return func(conn net.Conn) {
			io.WriteString(conn, "\"STARTTLS\"\r\nOK\r\n")
			if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil && line == "STARTTLS\r\n" {
				io.WriteString(conn, "OK\r\n")
				secure := tls.Server(conn, config)
				testkit.EchoLine(secure)
				secure.Close()
			}
		}
	})
	return c
}

const echoThrice = `import socket, sys
for _ in range(3):
    with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as s:
        s.sendall(sys.argv[3].encode() + b"\n")
        print(s.makefile().readline().strip() == sys.argv[3])`

// A program's connections work with a server that does not do any more what it did, as without us, and are no weaker.
func TestServersThatChangeAreOfferedAllAtOnce(t *testing.T) {
	const all, noShare, classical = "TLS 1.3 X25519MLKEM768", "TLS 1.2 X25519", "TLS 1.3 X25519"
	only := func(groups ...tls.CurveID) *tls.Config { return &tls.Config{CurvePreferences: groups} }
	for what, c := range map[string]struct {
		first, then *tls.Config
		offers      []string
		carried     string // what the second connection ends up with
	}{
		"TLS 1.2 stays":           {&tls.Config{MaxVersion: tls.VersionTLS12}, &tls.Config{MaxVersion: tls.VersionTLS12}, []string{all, noShare, noShare}, "TLS 1.2"},
		"TLS 1.3 comes":           {&tls.Config{MaxVersion: tls.VersionTLS12}, &tls.Config{}, []string{all, noShare, all, all}, "TLS 1.3"},
		"TLS 1.2 goes":            {&tls.Config{MaxVersion: tls.VersionTLS12}, &tls.Config{MinVersion: tls.VersionTLS13}, []string{all, noShare, all, all}, "TLS 1.3"},
		"classical groups go":     {only(tls.X25519), only(tls.X25519MLKEM768), []string{all, classical, all, all}, "TLS 1.3"},
		"the classical one stays": {only(tls.X25519), only(tls.X25519), []string{all, classical, classical}, "TLS 1.3"},
	} {
		t.Run(what, func(t *testing.T) {
			s := serveChanging(t, c.first, c.then)
			w := starttlsRule(t, s.site, "sieve")
			w.flags = append(w.flags, "-v")
			e := w.run(t, python, "-c", echoThrice, s.host, s.portString(), s.marker)
			lines := strings.Split(e.stderr, "\n")
			if e.stdout != "True\nTrue\nTrue\n" || strings.Count(e.stderr, "verified, TLS") != 3 || !strings.Contains(lines[1], "verified, "+c.carried) {
				t.Errorf("stdout: %q, stderr: %q", e.stdout, e.stderr)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if !slices.Equal(s.offers, c.offers) {
				t.Errorf("offered were %q, not %q", s.offers, c.offers)
			}
		})
	}
}
