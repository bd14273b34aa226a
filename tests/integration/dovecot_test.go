package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dovecot is a mail server that takes passwords under TLS alone. The marker is that of its
// user "u".
type dovecot struct{ imap, pop3, sieve, lmtp *site }

func startDovecot(t *testing.T, certifiedHost, ssl string) dovecot {
	t.Helper()
	const host = "db.example.test"
	dir, marker := openDir(t), newMarker()
	certFile, keyFile := certificateFor(t, dir, certifiedHost)
	users := fileIn(t, dir, "users", "u:{PLAIN}"+marker+":65534:65534::"+dir+"/home\n")
	home := filepath.Join(dir, "home")
	err := os.Chmod(users, 0o644)
	if err == nil {
		err = os.Mkdir(home, 0o755)
	}
	if err == nil {
		err = os.Chown(home, 65534, 65534)
	}
	if err != nil {
		t.Fatal(err)
	}
	imap, pop3, sieve, lmtp := closedPort(t), closedPort(t), closedPort(t), closedPort(t)
	conf := fileIn(t, dir, "dovecot.conf", fmt.Sprintf(`
base_dir = %[1]s/run
state_dir = %[1]s/state
protocols = imap pop3 sieve lmtp
listen = 127.0.0.1
log_path = /dev/stderr
ssl = %[2]s
ssl_cert = <%[3]s
ssl_key = <%[4]s
disable_plaintext_auth = yes
login_trusted_networks =
auth_mechanisms = plain login
first_valid_uid = 1
mail_location = maildir:~/Maildir
passdb {
  driver = passwd-file
  args = %[5]s
}
userdb {
  driver = passwd-file
  args = %[5]s
}
service imap-login {
  inet_listener imap {
    port = %[6]s
  }
  inet_listener imaps {
    port = 0
  }
}
service pop3-login {
  inet_listener pop3 {
    port = %[7]s
  }
  inet_listener pop3s {
    port = 0
  }
}
service managesieve-login {
  inet_listener sieve {
    port = %[8]s
  }
}
service lmtp {
  inet_listener lmtp {
    port = %[9]s
  }
}
`, dir, ssl, certFile, keyFile, users, imap, pop3, sieve, lmtp))
	startServer(t, dir, "127.0.0.1:"+imap, "dovecot", "-F", "-c", conf)
	at := func(port string) *site { return &site{host: host, port: number(t, port), marker: marker} }
	return dovecot{at(imap), at(pop3), at(sieve), at(lmtp)}
}

const imapJob = `
import imaplib, sys
m = imaplib.IMAP4(%[1]q, %[2]d)
m.login("u", %[3]q)
letter = ("Subject: big\r\n\r\n" + (%[3]q + "\r\n") * 60000).encode()
assert m.append("INBOX", None, None, letter)[0] == "OK"
assert m.select()[0] == "OK"
got = m.fetch("1", "(RFC822)")[1][0][1]
assert got == letter, len(got)
print(m.logout()[0])
`

const pop3Job = `
import poplib
p = poplib.POP3(%[1]q, %[2]d)
p.user("u")
p.pass_(%[3]q)
n = len(p.list()[1])
lines = p.retr(1)[1]
assert lines.count(%[3]q.encode()) == 60000, len(lines)
print(n, p.quit().decode()[:3])
`

// The server says its capabilities once more under TLS, and the program reads those.
const sieveJob = `
import base64, socket
s = socket.create_connection((%[1]q, %[2]d)); f = s.makefile("rwb", 0)
def reply():
    lines = []
    while True:
        l = f.readline().decode().strip()
        lines.append(l)
        if l[:2] in ("OK", "NO") or not l: return lines
first = reply()
assert first[-1].startswith("OK") and not any("STARTTLS" in l for l in first), first
f.write(b'AUTHENTICATE "PLAIN" "' + base64.b64encode(b"\0u\0" + %[3]q.encode()) + b'"\r\n')
assert reply()[-1].startswith("OK")
script = ("# %[3]s\r\n" * 20000 + "keep;\r\n").encode()
f.write(b'PUTSCRIPT "s" {%%d+}\r\n' %% len(script) + script + b"\r\n")
print(reply()[-1][:2])
f.write(b"LOGOUT\r\n")
reply()
`

// LMTP has no passwords: who may connect may deliver.
const lmtpJob = `
import smtplib
with smtplib.LMTP(%[1]q, %[2]d) as l:
    l.ehlo_or_helo_if_needed()
    assert "starttls" not in l.esmtp_features
    assert l.sendmail("a@example.test", ["u"], "Subject: big\r\n\r\n" + (%[3]q + "\r\n") * 60000) == {}
    print(l.noop()[0])
`

func TestMailProgramsWithoutTLSReadTheirMail(t *testing.T) {
	d := startDovecot(t, "db.example.test", "required")
	for _, c := range []struct {
		protocol, job, want string
		*site
	}{
		{"imap", imapJob, "BYE\n", d.imap},
		{"pop3", pop3Job, "1 +OK\n", d.pop3}, // of what was put there by IMAP
		{"sieve", sieveJob, "OK\n", d.sieve},
		{"lmtp", lmtpJob, "250\n", d.lmtp},
	} {
		t.Run(c.protocol, func(t *testing.T) {
			watchPort(t, c.host, c.port, c.marker)
			w := starttlsRule(t, c.site, c.protocol)
			w.stdin = strings.NewReader(fmt.Sprintf(c.job, c.host, c.port, c.marker))
			if e := w.run(t, "/usr/bin/python3", "-").must(t); e.stdout != c.want {
				t.Errorf("stdout %q, want %q", e.stdout, c.want)
			}
		})
	}
	// By IMAP came the first letter, by LMTP the second.
	for protocol, c := range map[string]struct {
		*site
		letters []string
	}{
		"imap": {d.imap, []string{"/INBOX;UID=1", "/INBOX;UID=2"}},
		"pop3": {d.pop3, []string{"/1", "/2"}},
	} {
		t.Run("curl "+protocol, func(t *testing.T) {
			watchPort(t, c.host, c.port, c.marker)
			for _, letter := range c.letters {
				e := starttlsRule(t, c.site, protocol).run(t, quietCurl("-u", "u:"+c.marker, protocol+"://"+c.hostport()+letter)...).must(t)
				if n := strings.Count(e.stdout, c.marker); n != 60000 {
					t.Errorf("curl read %d lines of %s", n, letter)
				}
			}
		})
	}
}

func TestMailProgramIsToldWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct{ host, ssl, want string }{
		"wrong name": {"other.example.test", "required", "certificate is for other.example.test, not db.example.test"},
		"no TLS":     {"db.example.test", "no", "the server did not send the go-ahead for TLS: it said"},
	} {
		t.Run(name, func(t *testing.T) {
			d := startDovecot(t, c.host, c.ssl)
			for protocol, s := range map[string]*site{"imap": d.imap, "pop3": d.pop3} {
				w := starttlsRule(t, s, protocol)
				e := w.run(t, quietCurl("-u", "u:"+s.marker, protocol+"://"+s.hostport()+"/")...)
				if e.status == 0 || !strings.Contains(e.stderr, c.want) {
					t.Errorf("%s: status %d, stderr %s, want %s", protocol, e.status, e.stderr, c.want)
				}
			}
		})
	}
}
