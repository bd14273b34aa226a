package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// prosody is an XMPP server that demands TLS of clients and of servers. Its domain is
// db.example.test, and the marker the password of its user "u".
type prosody struct{ clients, servers *site }

func startProsody(t *testing.T, certifiedHost string) prosody {
	t.Helper()
	const host = "db.example.test"
	dir, marker := openDir(t), newMarker()
	certFile, keyFile := certificateFor(t, dir, certifiedHost)
	accounts := filepath.Join(dir, "data", "db%2eexample%2etest", "accounts")
	if err := os.MkdirAll(accounts, 0o755); err != nil {
		t.Fatal(err)
	}
	fileIn(t, accounts, "u.dat", fmt.Sprintf("return { [\"password\"] = %q };\n", marker))
	clients, servers := closedPort(t), closedPort(t)
	conf := fileIn(t, dir, "prosody.cfg.lua", fmt.Sprintf(`
run_as_root = true
pidfile = "%[1]s/pid"
data_path = "%[1]s/data"
certificates = "%[1]s"
modules_enabled = { "roster"; "saslauth"; "tls"; "disco"; "dialback"; "message" }
authentication = "internal_plain"
c2s_require_encryption = true
s2s_require_encryption = true
c2s_ports = { %[2]s }
s2s_ports = { %[3]s }
c2s_direct_tls_ports = { }
s2s_direct_tls_ports = { }
interfaces = { "127.0.0.1" }
log = { { levels = { min = "info" }, to = "console" } }
VirtualHost "%[4]s"
	ssl = { key = "%[6]s"; certificate = "%[5]s" }
`, dir, clients, servers, host, certFile, keyFile))
	startServer(t, dir, "127.0.0.1:"+clients, "prosody", "-F", "--config", conf)
	return prosody{&site{host: host, port: number(t, clients), marker: marker}, &site{host: host, port: number(t, servers), marker: marker}}
}

func number(t *testing.T, port string) (n uint16) {
	t.Helper()
	if _, err := fmt.Sscan(port, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// slixmppJob logs in without TLS of its own, sends itself messages that have the password
// in them, and waits for them.
func (p prosody) slixmppJob() string {
	return fmt.Sprintf(`
import asyncio, slixmpp, sys
count, body = 100, %[3]q * 500
class Client(slixmpp.ClientXMPP):
    got = 0
    def __init__(self):
        super().__init__("u@%[1]s/here", %[3]q)
        self.add_event_handler("session_start", self.start)
        self.add_event_handler("message", self.message)
        self.add_event_handler("connection_failed", lambda why: client.disconnected.set_exception(OSError(str(why))))
        self.add_event_handler("failed_auth", lambda why: sys.exit("not let in"))
        mechanisms = self.plugin["feature_mechanisms"]
        mechanisms.unencrypted_plain = mechanisms.unencrypted_scram = True
    async def start(self, event):
        self.send_presence()
        for i in range(count): self.send_message(mto=self.boundjid.full, mbody=body, mtype="chat")
    def message(self, m):
        assert m["body"] == body
        self.got += 1
        if self.got == count:
            print("got", self.got)
            self.disconnect()
client = Client()
client.default_port = %[2]d
client.connect((%[1]q, %[2]d), disable_starttls=True, force_starttls=False, use_ssl=False)
client.loop.run_until_complete(asyncio.wait_for(client.disconnected, 20))
`, p.clients.host, p.clients.port, p.clients.marker)
}

func TestXMPPClientsWithoutTLSLogIn(t *testing.T) {
	p := startProsody(t, "db.example.test")
	s := watchPort(t, p.clients.host, p.clients.port, p.clients.marker)
	t.Run("slixmpp", func(t *testing.T) {
		w := starttlsRule(t, s, "xmpp")
		w.stdin = strings.NewReader(p.slixmppJob())
		if e := w.run(t, "/usr/bin/python3", "-").must(t); e.stdout != "got 100\n" {
			t.Errorf("stdout: %s\nstderr: %s", e.stdout, e.stderr)
		}
	})
	t.Run("sendxmpp", func(t *testing.T) {
		w := starttlsRule(t, s, "xmpp")
		w.stdin = strings.NewReader(s.marker + "\n")
		e := w.run(t, "sendxmpp", "-v", "-i", "-u", "u", "-p", s.marker, "-j", s.hostport(), "someone@"+s.host).must(t)
		if !strings.Contains(e.stderr+e.stdout, "MessageSend") {
			t.Errorf("stdout: %s\nstderr: %s", e.stdout, e.stderr)
		}
	})
}

// The server does not offer STARTTLS under TLS, and refuses it.
func TestXMPPClientThatAsksForTLSIsAnsweredByTheServer(t *testing.T) {
	p := startProsody(t, "db.example.test")
	for protocol, s := range map[string]*site{"xmpp": p.clients, "xmpp-server": p.servers} {
		t.Run(protocol, func(t *testing.T) {
			content := map[string]string{"xmpp": "client", "xmpp-server": "server"}[protocol]
			s := watchPort(t, s.host, s.port, s.marker)
			w := starttlsRule(t, s, protocol)
			w.stdin = strings.NewReader(fmt.Sprintf(`
import socket
s = socket.create_connection((%q, %d))
def until(end):
    got = b""
    while end not in got:
        b = s.recv(4096)
        if not b: break
        got += b
    return got
s.sendall(b"<stream:stream to='db.example.test' id='%s' version='1.0' xmlns='jabber:%s' xmlns:stream='http://etherx.jabber.org/streams'>")
features = until(b"</stream:features>")
print("starttls" in features.decode(), "stream:features" in features.decode())
s.sendall(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
answer = until(b">")
print("proceed" in answer.decode())
`, s.host, s.port, s.marker, content))
			if e := w.run(t, "/usr/bin/python3", "-").must(t); e.stdout != "False True\nFalse\n" {
				t.Errorf("stdout: %s", e.stdout)
			}
		})
	}
}

func TestXMPPServerWithAWrongCertificateIsRefused(t *testing.T) {
	p := startProsody(t, "other.example.test")
	s := watchPort(t, p.clients.host, p.clients.port, p.clients.marker)
	w := starttlsRule(t, s, "xmpp")
	w.stdin = strings.NewReader(p.slixmppJob())
	e := w.run(t, "/usr/bin/python3", "-")
	if strings.Contains(e.stdout, "got") || !strings.Contains(e.stderr, "certificate is for other.example.test, not db.example.test") {
		t.Errorf("status %d, stdout: %s, stderr: %s", e.status, e.stdout, e.stderr)
	}
}

const xmppStream = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'>"

func TestXMPPServerWithoutTLSIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		talk []string
		want string
	}{
		"stripped": {[]string{xmppStream + "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/></stream:features>"},
			"the server does not offer STARTTLS: it said"},
		"refused": {[]string{xmppStream + "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>",
			"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>"}, "the server did not send the go-ahead for TLS: it said \"<failure"},
		"another protocol": {[]string{"HTTP/1.1 400 Bad Request\r\n\r\n<html>no</html>"}, "the server did not send a stream: it said \"HTTP/1.1 400 Bad Request\""},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveTalk(t, test.talk)
			e := starttlsRule(t, s, "xmpp").run(t, "curl", "-sS", "http://"+s.hostport()+"/"+s.marker)
			if e.status == 0 || !strings.Contains(e.stderr, test.want) {
				t.Errorf("status %d, stderr: %s", e.status, e.stderr)
			}
		})
	}
}
