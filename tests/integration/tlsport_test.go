package integration

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// greetIMAP is an IMAP server that has been given TLS and says so.
func greetIMAP(conn net.Conn) { fmt.Fprintf(conn, "* OK by TLS\r\n") }

// tlsPort starts a server that speaks TLS at once, as host.
func tlsPort(t *testing.T, host string) uint16 {
	t.Helper()
	server, err := testkit.Serve("127.0.0.1:0", serverConfig(t, testkit.Leaf{Names: []string{host}}), greetIMAP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server.Port()
}

const greetingOf = `exec 5<>/dev/tcp/$1/$2 && read -r line <&5 && echo "$line"`

// The port with TLS is tried first, and nothing need listen on the other.
func TestTLSPortComesFirst(t *testing.T) {
	plain := &site{host: "db.example.test", port: number(t, closedPort(t))}
	w := starttlsRule(t, plain, "imap", fmt.Sprintf("tls_port = %d", tlsPort(t, plain.host)))
	if e := w.run(t, "bash", "-c", greetingOf, "bash", plain.host, plain.portString()).must(t); e.stdout != "* OK by TLS\r\n" {
		t.Errorf("stdout: %q", e.stdout)
	}
}

func TestTLSIsAskedForWhereNothingListensOnTheTLSPort(t *testing.T) {
	d := startDovecot(t, "db.example.test", "required")
	watchPort(t, d.imap.host, d.imap.port, d.imap.marker)
	w := starttlsRule(t, d.imap, "imap", "tls_port = "+closedPort(t))
	e := w.run(t, python, "-c", fmt.Sprintf(imapJob, d.imap.host, d.imap.port, d.imap.marker)).must(t)
	if e.stdout != "BYE\n" {
		t.Errorf("stdout: %q", e.stdout)
	}
}

// A TLS port that answers decides: there is no way around its certificate.
func TestStrangerOnTheTLSPortIsRefused(t *testing.T) {
	d := startDovecot(t, "db.example.test", "required")
	port := tlsPort(t, "other.example.test")
	w := starttlsRule(t, d.imap, "imap", fmt.Sprintf("tls_port = %d", port))
	e := w.run(t, "bash", "-c", greetingOf, "bash", d.imap.host, d.imap.portString())
	if e.stdout != "" || !strings.Contains(e.stderr, "tlswrap: "+d.imap.hostport()+": certificate is for other.example.test, not db.example.test") {
		t.Errorf("stdout: %q, stderr: %q", e.stdout, e.stderr)
	}
}

func TestNothingOnEitherPortIsOneSentence(t *testing.T) {
	s := &site{host: "db.example.test", port: number(t, closedPort(t))}
	other := closedPort(t)
	e := starttlsRule(t, s, "imap", "tls_port = "+other).run(t, "bash", "-c", greetingOf, "bash", s.host, s.portString())
	want := fmt.Sprintf("tlswrap: %s: connecting to 127.0.0.1:%d: connection refused; nothing answers on port %s either (rule 1, ", s.hostport(), s.port, other)
	if !strings.HasPrefix(e.stderr, want) || strings.Count(e.stderr, "tlswrap:") != 1 {
		t.Errorf("stderr: %q, want %q", e.stderr, want)
	}
}

func TestExplainTriesTheTLSPort(t *testing.T) {
	s := &site{host: "db.example.test", port: number(t, closedPort(t))}
	port := tlsPort(t, s.host)
	w := starttlsRule(t, s, "imap", fmt.Sprintf("tls_port = %d", port))
	e := wrapped{bare: true}.run(t, append([]string{lab.tlswrap, "explain", s.hostport()}, w.flags...)...).must(t)
	for _, want := range []string{fmt.Sprintf("asks for TLS by imap where there is no TLS on port %d", port), fmt.Sprintf("upstream  127.0.0.1:%d\n", port), "verified: chain and name"} {
		if !strings.Contains(e.stdout, want) {
			t.Errorf("explain does not say %q:\n%s", want, e.stdout)
		}
	}
}
