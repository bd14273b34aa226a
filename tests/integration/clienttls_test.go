package integration

import (
	"fmt"
	"strings"
	"testing"
)

// tlsRule is a run with a rule for a site, and more lines that a test wants.
func tlsRule(t *testing.T, s *site, more ...string) wrapped {
	t.Helper()
	return wrapped{flags: []string{"--rules", writeRules(t, fmt.Sprintf("[[rule]]\nhost = %q\nport = %d\nca_file = %q\n%s\n",
		s.host, s.port, lab.rootPEM, strings.Join(more, "\n")))}}
}

const passClientTLS = `client_tls = "pass"`

func TestProgramThatSpeaksTLSIsRefused(t *testing.T) {
	s := serveSite(t, "db.example.test")
	for _, argv := range [][]string{
		{"curl", "-sS", "--cacert", lab.rootPEM, "https://" + s.hostport() + "/?" + s.marker},
		{"openssl", "s_client", "-connect", s.hostport(), "-CAfile", lab.rootPEM, "-verify_return_error"},
	} {
		e := tlsRule(t, s).run(t, argv...)
		if e.status == 0 || !strings.Contains(e.stderr, "the program speaks TLS itself, and would have had TLS inside TLS: refused") {
			t.Errorf("%s: status %d, stderr: %s", argv[0], e.status, e.stderr)
		}
	}
}

func TestProgramThatSpeaksTLSIsLetThrough(t *testing.T) {
	s := serveSite(t, "db.example.test")
	e := tlsRule(t, s, passClientTLS).run(t, "curl", "-sS", "--cacert", lab.rootPEM, "https://"+s.hostport()+"/big?bytes=3000000&"+s.marker).must(t)
	if len(e.stdout) != 3000000 {
		t.Errorf("curl read %d bytes", len(e.stdout))
	}
	w := tlsRule(t, s, passClientTLS)
	w.stdin = strings.NewReader("GET /fixed?" + s.marker + " HTTP/1.0\r\n\r\n")
	e = w.run(t, "openssl", "s_client", "-connect", s.hostport(), "-CAfile", lab.rootPEM, "-verify_return_error", "-quiet", "-ign_eof")
	if e.status != 0 || !strings.Contains(e.stdout, "200 OK") {
		t.Errorf("openssl: status %d, stdout: %s, stderr: %s", e.status, e.stdout, e.stderr)
	}
	// Without TLS of its own the same program gets the worker's.
	tlsRule(t, s, passClientTLS).run(t, "curl", "-sS", s.url("/fixed")).must(t)
}

// What begins as TLS and goes on as something else does not leave.
func TestProgramThatStopsSpeakingTLSIsCutOff(t *testing.T) {
	s := serveSite(t, "db.example.test")
	w := tlsRule(t, s, passClientTLS)
	w.stdin = strings.NewReader(fmt.Sprintf(`
import socket, ssl
out, context = ssl.MemoryBIO(), ssl.create_default_context()
tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=%[1]q)
try: tls.do_handshake()
except ssl.SSLWantReadError: pass
s = socket.create_connection((%[1]q, %[2]d))
s.sendall(out.read())
print(s.recv(1)[0])
try:
    s.sendall(b"GET /%[3]s HTTP/1.1\r\n\r\n")
    while s.recv(65536): pass
    print("an end")
except ConnectionError as e: print(e.errno)
`, s.host, s.port, s.marker))
	e := w.run(t, "/usr/bin/python3", "-")
	if e.stdout != "22\n104\n" || !strings.Contains(e.stderr, "the program spoke TLS itself, and then something else: refused") {
		t.Errorf("stdout: %s, stderr: %s", e.stdout, e.stderr)
	}
}
