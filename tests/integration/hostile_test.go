package integration

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tlswrap/rules"
	"tlswrap/tests/testkit"
)

// keepSecret fails the test if the site's marker is readable on the wire before its end,
// as it is or in the base64 of a login.
func (s *site) keepSecret(t *testing.T) {
	t.Helper()
	whole := len(s.marker) / 3 * 3 // what comes behind may be in the last digit
	for _, secret := range []string{s.marker, base64.StdEncoding.EncodeToString([]byte(s.marker[:whole]))} {
		watch := lab.sniffer.Watch([]byte(secret), s.port)
		t.Cleanup(func() {
			if report, err := watch.Stop(); err != nil || len(report.Leaks) > 0 {
				t.Errorf("the secret crossed the wire in plaintext: %v %v", report.Leaks, err)
			}
		})
	}
}

// without changes what is said so that word is not said.
func without(word string) func([]byte) []byte {
	return func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(word), bytes.Repeat([]byte("X"), len(word))) }
}

// serveStripped starts a way to the server of s on which somebody changes what is said.
func serveStripped(t *testing.T, s *site, change func([]byte) []byte) *site {
	t.Helper()
	server, err := testkit.Serve(listenAddr(t, s.host), nil, func(c net.Conn) {
		up, err := net.Dial("tcp", "127.0.0.1:"+s.portString())
		if err != nil {
			return
		}
		defer up.Close()
		strip := func(to, from net.Conn) {
			b := make([]byte, 1<<16)
			for {
				n, err := from.Read(b)
				if err != nil {
					return
				}
				to.Write(change(b[:n]))
			}
		}
		go strip(c, up)
		strip(up, c)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return &site{host: s.host, port: server.Port(), marker: s.marker}
}

// A program writes nothing to a server whose offer of TLS somebody has taken out.
func TestStrippedOfferOfTLSIsAFailure(t *testing.T) {
	const noGo = "the server did not send the go-ahead for TLS: it said "
	starttls := without("STARTTLS")
	d, m := startDovecot(t, "db.example.test", "required"), startExim(t, "db.example.test", true)
	for _, c := range []struct {
		protocol string
		*site
		change func([]byte) []byte
		want   string
	}{
		{"imap", d.imap, starttls, noGo + `"tlswrap BAD`},
		{"pop3", d.pop3, without("STLS"), noGo + `"-ERR`},
		{"sieve", d.sieve, starttls, "the server does not offer STARTTLS"},
		{"submission", m.site, starttls, "the server does not offer STARTTLS"},
		{"smtp", m.site, starttls, "the server does not offer STARTTLS"},
		{"lmtp", d.lmtp, starttls, "the server does not offer STARTTLS"},
		{"nntp", startINN(t, "db.example.test", true), starttls, noGo + `"500`},
		{"ldap", startSlapd(t, "db.example.test", true), without("1.3.6.1.4.1.1466.20037"), "the server refused TLS: result 2, \"unsupported extended operation\""},
		{"postgres", startPostgres(t, "db.example.test", true), without("\x04\xd2\x16\x2f"), "the server refused TLS: it said "},
		{"mysql", startMariaDB(t, "db.example.test", true), withoutMySQLsTLS, "the server does not offer TLS"},
	} {
		t.Run(c.protocol, func(t *testing.T) {
			s := serveStripped(t, c.site, c.change)
			s.keepSecret(t)
			e := starttlsRule(t, s, c.protocol).run(t, quietCurl("telnet://"+s.hostport(), "-T", writeFile(t, "words", s.marker))...)
			if e.status == 0 || !strings.Contains(e.stderr, c.want) {
				t.Errorf("status %d, stderr %s, want %s", e.status, e.stderr, c.want)
			}
		})
	}
}

// What a server says that never comes to an end, by the way it begins.
var endless = map[string]string{
	"ldap":        "0\x84\x7f\xff\xff\xff",
	"postgres":    "E\x7f\xff\xff\xff",
	"xmpp":        "<",
	"xmpp-server": "<",
	"via http":    "HTTP/1.1 200 OK",
	"via socks5":  "\x05\x00\x05\x00\x00\x03",
}

// talkTo is a program that connects to ports at once, and says how each connection ended
// and after how many seconds. Then it waits for the end of its input.
const talkTo = `
import errno, socket, sys, threading, time
def talk(port):
    began, how = time.monotonic(), "an end"
    try:
        s = socket.create_connection((sys.argv[1], port))
        while s.recv(65536): pass
    except OSError as e: how = errno.errorcode[e.errno]
    print(port, how, int(time.monotonic() - began), flush=True)
threads = [threading.Thread(target=talk, args=(int(p),)) for p in sys.argv[2:]]
for t in threads: t.start()
for t in threads: t.join()
print("done", flush=True)
sys.stdin.read()
`

// endure starts a server for every dialogue, which begins to say what a good one might and
// goes on with more, and runs talkTo against all. It returns what that said.
func endure(t *testing.T, timeout string, more func(c net.Conn)) (said string, peakKiB int) {
	t.Helper()
	const host = "db.example.test"
	var (
		text  strings.Builder
		ports []string
	)
	for _, protocol := range append([]string{"via http", "via socks5"}, rules.StartTLSProtocols...) {
		server, err := testkit.Serve(listenAddr(t, host), nil, func(c net.Conn) {
			go io.Copy(io.Discard, c)
			io.WriteString(c, endless[protocol])
			more(c)
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Close)
		how := fmt.Sprintf("starttls = %q", protocol)
		if scheme, ok := strings.CutPrefix(protocol, "via "); ok {
			how = fmt.Sprintf("via = \"%s://%s:%d\"", scheme, host, server.Port())
		}
		fmt.Fprintf(&text, "[[rule]]\nhost = %q\nport = %d\ntimeout = %q\n%s\n", host, server.Port(), timeout, how)
		ports = append(ports, fmt.Sprint(server.Port()))
	}
	file := writeRules(t, text.String())
	w := wrapped{flags: []string{"--rules", file}}
	r := w.start(t, append([]string{python, "-c", talkTo, host}, ports...)...)
	eventually(t, "every connection ends", commandTime, func() bool { return strings.HasSuffix(r.stdout.String(), "done\n") })
	peakKiB = peakMemory(t, workerOf(t, file))
	r.stdin.Close()
	<-r.done
	for _, port := range ports {
		if !strings.Contains(r.stdout.String(), port+" E") {
			t.Errorf("port %s is missing in\n%s", port, r.stdout)
		}
	}
	if n := strings.Count(r.stderr.String(), "tlswrap: "); n != len(ports) {
		t.Errorf("%d of %d failures were told:\n%s", n, len(ports), r.stderr)
	}
	return r.stdout.String(), peakKiB
}

// peakMemory is VmHWM of proc_pid_status(5).
func peakMemory(t *testing.T, pid int) (kiB int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(rest, &kiB); err != nil {
		t.Fatal(err)
	}
	return kiB
}

func TestServerThatSaysOneBytePerSecondIsGivenUp(t *testing.T) {
	t.Parallel()
	said, _ := endure(t, "3s", func(c net.Conn) {
		for {
			if _, err := io.WriteString(c, "2"); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	})
	for line := range strings.Lines(said) {
		var (
			port, seconds int
			how           string
		)
		if fmt.Sscan(line, &port, &how, &seconds); seconds > 20 {
			t.Errorf("the rule's time was 3 s: %s", line)
		}
	}
}

func TestServerThatSaysALineWithoutAnEndCostsLittle(t *testing.T) {
	t.Parallel()
	const each, most = 100 << 20, 64 << 10
	var taken atomic.Int64
	_, peak := endure(t, "60s", func(c net.Conn) {
		b := bytes.Repeat([]byte("2"), 1<<20)
		for range each / len(b) {
			n, err := c.Write(b)
			taken.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	t.Logf("%d KiB of memory, %d bytes sent", peak, taken.Load())
	if peak > most {
		t.Errorf("the worker had %d KiB of memory", peak)
	}
}
