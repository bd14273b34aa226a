package integration

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// serveTalk starts a server without TLS that answers each thing that a client says with
// the next of talk, and watches that the marker does not go over the wire.
func serveTalk(t *testing.T, talk []string) *site {
	t.Helper()
	const host = "db.example.test"
	marker := newMarker()
	server, err := testkit.Serve(listenAddr(t, host), nil, func(c net.Conn) {
		b := make([]byte, 4096)
		for _, words := range talk {
			if _, err := c.Read(b); err != nil {
				return
			}
			c.Write([]byte(words))
		}
		testkit.Silent(c)
	})
	if err != nil {
		t.Fatal(err)
	}
	watch := lab.sniffer.Watch([]byte(marker), server.Port())
	t.Cleanup(func() {
		server.Close()
		if report, err := watch.Stop(); err != nil || len(report.Leaks) > 0 {
			t.Errorf("the secret crossed the wire in plaintext: %v %v", report.Leaks, err)
		}
	})
	return &site{host: host, port: server.Port(), marker: marker}
}

// startInspircd starts an IRC server that knows STARTTLS and lets in who gives the
// password, which is the marker.
func startInspircd(t *testing.T, certifiedHost string) *site {
	t.Helper()
	dir, marker, port := openDir(t), newMarker(), closedPort(t)
	certFile, keyFile := certificateFor(t, dir, certifiedHost)
	conf := fileIn(t, dir, "inspircd.conf", fmt.Sprintf(`
<server name="irc.example.test" description="test" network="test">
<admin name="a" nick="a" email="a@example.test">
<bind address="127.0.0.1" port="%[2]s" type="clients">
<path configdir="%[1]s" datadir="%[1]s" logdir="%[1]s" moduledir="/usr/lib/inspircd/modules">
<module name="ssl_gnutls">
<module name="starttls">
<sslprofile name="default" provider="gnutls" certfile="%[3]s" keyfile="%[4]s">
<starttls provider="default">
<connect allow="*" password="%[5]s" resolvehostnames="no" timeout="60" recvq="65536" softsendq="1048576" hardsendq="1048576" threshold="1000000" commandrate="1000000" fakelag="no">
<class name="none" commands="">
<dns server="127.0.0.1" timeout="1">
<pid file="%[1]s/pid">
<options announcets="no">
`, dir, port, certFile, keyFile, marker))
	startServer(t, dir, "127.0.0.1:"+port, "/usr/sbin/inspircd", "--nofork", "--runasroot", "--config="+conf)
	return watchServer(t, "db.example.test", port, marker)
}

func TestIRCClientsWithoutTLSLogIn(t *testing.T) {
	s := startInspircd(t, "db.example.test")
	w := starttlsRule(t, s, "irc")
	w.stdin = strings.NewReader(fmt.Sprintf(`
import socket
s = socket.create_connection((%q, %d))
f = s.makefile("rw", newline="\r\n")
def say(*lines):
    for line in lines: f.write(line + "\r\n")
    f.flush()
def until(word):
    for line in f:
        if line.startswith("PING"): say("PONG" + line[4:].rstrip())
        if word in line: return line
        if line.startswith("ERROR"): print(line)
say("PASS %[3]s", "NICK one", "STARTTLS", "USER one 0 * :one")
print(until(" 691 ").split()[1])
until(" 001 ")
for i in range(40): # a server cuts off who is far ahead of it
    say(*["PRIVMSG one :%%d-%%d %[3]s" %% (i, j) + " x" * 150 for j in range(100)])
    if not until(" :%%d-99 " %% i): break
say("QUIT")
print(until("ERROR").split()[0])
`, s.host, s.port, s.marker))
	if e := w.run(t, "/usr/bin/python3", "-").must(t); e.stdout != "691\nERROR\n" {
		t.Errorf("stdout: %s", e.stdout)
	}
}

// irssi wants a terminal, which script(1) makes.
func TestIrssiLogsIn(t *testing.T) {
	s := startInspircd(t, "db.example.test")
	home := t.TempDir()
	w := starttlsRule(t, s, "irc")
	w.env = []string{"TERM=vt100"}
	r := w.start(t, "script", "-qfc", fmt.Sprintf("irssi --home=%s -n two -c %s -p %d -w %s", home, s.host, s.port, s.marker), "/dev/null")
	eventually(t, "irssi is welcomed", 20*time.Second, func() bool { return strings.Contains(r.stdout.String(), "Welcome to the test IRC Network") })
	fmt.Fprint(r.stdin, "/quit\r")
	select {
	case <-r.done:
	case <-time.After(20 * time.Second):
		t.Errorf("irssi did not end: %s", tail(r.stdout.String()))
	}
	if words := r.stdout.String(); strings.Contains(words, "tlswrap:") {
		t.Errorf("somebody complained: %s", tail(words))
	}
}

func TestIRCServerWithAWrongCertificateIsRefused(t *testing.T) {
	s := startInspircd(t, "other.example.test")
	e := starttlsRule(t, s, "irc").run(t, "curl", "-sS", "http://"+s.hostport()+"/"+s.marker)
	if e.status == 0 || !strings.Contains(e.stderr, "certificate is for other.example.test, not db.example.test") {
		t.Errorf("status %d, stderr: %s", e.status, e.stderr)
	}
}

func TestIRCServerWithoutTLSIsRefused(t *testing.T) {
	const notice = ":irc NOTICE * :*** Looking up your hostname...\r\n"
	for name, test := range map[string]struct{ answer, want string }{
		"unknown":       {notice + ":irc 421 * STARTTLS :Unknown command\r\n", `did not send the go-ahead for TLS: it said ":irc 421 * STARTTLS :Unknown command"`},
		"refused":       {notice + ":irc 691 * :STARTTLS failed\r\n", `the server refused TLS: it said ":irc 691 * :STARTTLS failed"`},
		"said too much": {notice + ":irc 670 * :go\r\n" + notice, "the server said more than it may before TLS: \":irc NOTICE"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveTalk(t, []string{test.answer})
			e := starttlsRule(t, s, "irc").run(t, "curl", "-sS", "http://"+s.hostport()+"/"+s.marker)
			if e.status == 0 || !strings.Contains(e.stderr, test.want) {
				t.Errorf("status %d, stderr: %s", e.status, e.stderr)
			}
		})
	}
}
