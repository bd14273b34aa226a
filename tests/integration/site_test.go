package integration

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// site is a server that a test talks to, and the marker that no packet may show.
type site struct {
	host   string
	port   uint16
	marker string
	watch  *testkit.Watch

	mayBeSilent bool // perhaps nobody talks to it
}

// serveTLS starts a TLS server whose certificate is good for host, on the address that
// host has in the hosts file. When the test ends it fails if the marker was readable
// on the wire, or if nothing there was TLS.
func serveTLS(t *testing.T, host string, handle func(marker string) func(net.Conn)) *site {
	t.Helper()
	return serveWith(t, host, serverConfig(t, testkit.Leaf{Names: []string{host}}), handle)
}

// serveWith is serveTLS with a configuration of the caller's; nil makes a server that
// speaks no TLS, and may still be shown no marker.
func serveWith(t *testing.T, host string, config *tls.Config, handle func(marker string) func(net.Conn)) *site {
	t.Helper()
	marker := newMarker()
	server, err := testkit.Serve(listenAddr(t, host), config, handle(marker))
	return watched(t, host, marker, server, err)
}

// serveSite starts a web site with a good certificate; see testkit.Site.
func serveSite(t *testing.T, host string) *site {
	t.Helper()
	marker := newMarker()
	return serveHandler(t, host, marker, testkit.Site(marker))
}

func serveHandler(t *testing.T, host, marker string, handler http.Handler) *site {
	t.Helper()
	config := serverConfig(t, testkit.Leaf{Names: []string{host}})
	server, err := testkit.ServeHTTP(listenAddr(t, host), config, handler)
	return watched(t, host, marker, server, err)
}

func watched(t *testing.T, host, marker string, server *testkit.Server, err error) *site {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	s := watchPort(t, host, server.Port(), marker)
	t.Cleanup(server.Close)
	return s
}

// watchPort has the sniffer look for marker until the test ends.
func watchPort(t *testing.T, host string, port uint16, marker string) *site {
	s := &site{host: host, port: port, marker: marker, watch: lab.sniffer.Watch([]byte(marker), port)}
	t.Cleanup(func() { s.assertSecret(t) })
	return s
}

// assertSecret fails if the marker was readable on the wire. That the sniffer saw TLS
// at all shows that it was not blind.
func (s *site) assertSecret(t *testing.T) {
	t.Helper()
	report, err := s.watch.Stop()
	switch {
	case err != nil:
		t.Error(err)
	case len(report.Leaks) > 0:
		t.Errorf("the secret crossed the wire in plaintext: %s", report.Leaks[0])
	case report.Hellos == 0 && !s.mayBeSilent && !testkit.LeftOut(t):
		t.Errorf("the sniffer saw no TLS on port %d: %+v", s.port, report)
	}
}

// wrapped is a run with a rule for this site.
func (s *site) wrapped() wrapped { return wrapped{flags: s.flags()} }

func (s *site) flags() []string {
	return []string{"--ca", lab.rootPEM, "--tls", s.hostport()}
}

func (s *site) hostport() string { return net.JoinHostPort(s.host, s.portString()) }

func (s *site) portString() string { return fmt.Sprint(s.port) }

// url is a plaintext URL of the site's. The marker is in it, so that a request that
// leaks is seen too.
func (s *site) url(path string) string {
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	return "http://" + s.hostport() + path + separator + s.marker
}

// serverConfig is a TLS server's, with a certificate by the test root.
func serverConfig(t *testing.T, leaf testkit.Leaf) *tls.Config {
	t.Helper()
	cert, err := lab.root.Issue(leaf)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert.TLS()}}
}

// listenAddr is the first address that the hosts file has for host, with any port.
func listenAddr(t *testing.T, host string) string {
	t.Helper()
	if net.ParseIP(host) != nil {
		return net.JoinHostPort(host, "0")
	}
	for line := range strings.Lines(hosts) {
		words := strings.Fields(line)
		for _, name := range words[1:] {
			if name == host {
				return net.JoinHostPort(words[0], "0")
			}
		}
	}
	t.Fatalf("%s is not in the hosts file", host)
	return ""
}

// newMarker makes up what must not be seen on the wire.
func newMarker() string {
	var b [12]byte
	rand.Read(b[:])
	return "SECRET-" + hex.EncodeToString(b[:])
}

// echo is testkit.Echo, which needs no marker of its own.
func echo(string) func(net.Conn) { return testkit.Echo }

// writeRules writes a rules file and returns its name.
func writeRules(t *testing.T, text string) string {
	t.Helper()
	return writeFile(t, "rules.toml", text)
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
