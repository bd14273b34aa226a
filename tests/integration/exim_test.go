package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// exim is a mail server that takes letters of those who log in, and passwords under TLS
// alone. The marker is that of its user "u".
type exim struct {
	*site
	inbox string // the file that all letters come to
}

func startExim(t *testing.T, certifiedHost string, tls bool) exim {
	t.Helper()
	testkit.Need(t, "exim4")
	dir, marker, port := openDir(t), newMarker(), closedPort(t)
	certFile, keyFile := certificateFor(t, dir, certifiedHost)
	advertised := map[bool]string{true: "*", false: ""}[tls]
	conf := fileIn(t, dir, "exim.conf", fmt.Sprintf(`
primary_hostname = db.example.test
spool_directory = %[1]s/spool
log_file_path = %[1]s/log-%%slog
pid_file_path = %[1]s/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = %[2]s
tls_advertise_hosts = %[3]s
tls_certificate = %[4]s
tls_privatekey = %[5]s
auth_advertise_hosts = ${if eq{$tls_in_cipher}{}{}{*}}
acl_smtp_rcpt = who_logged_in
deliver_drop_privilege
keep_environment =
begin acl
who_logged_in:
  accept authenticated = *
begin routers
all:
  driver = accept
  transport = inbox
begin transports
inbox:
  driver = appendfile
  file = %[1]s/inbox
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{u}}{eq{$auth3}{%[6]s}}}}
  server_set_id = u
`, dir, port, advertised, certFile, keyFile, marker))
	if out, err := exec.Command("chown", "Debian-exim", dir, keyFile).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	startServer(t, dir, "127.0.0.1:"+port, "exim4", "-bdf", "-C", conf)
	return exim{&site{host: "db.example.test", port: number(t, port), marker: marker}, filepath.Join(dir, "inbox")}
}

const letterLines = 60000

// letter is one of megabytes.
func (s *site) letter() string {
	return "Subject: big\r\n\r\n" + strings.Repeat(s.marker+"\r\n", letterLines)
}

// mustArrive waits for so many letters.
func (m exim) mustArrive(t *testing.T, letters int) {
	t.Helper()
	eventually(t, "the letter is delivered", 20*time.Second, func() bool {
		inbox, _ := os.ReadFile(m.inbox)
		return strings.Count(string(inbox), "\n"+m.marker) == letters*letterLines
	})
}

const smtpJob = `
import smtplib, sys
with smtplib.SMTP(%[1]q, %[2]d) as s:
    s.login("u", %[3]q)
    assert "starttls" not in s.esmtp_features
    s.sendmail("a@example.test", ["b@db.example.test"], sys.stdin.read())
`

// mailers are programs that send the letter on their standard input.
func (s *site) mailers() map[string][]string {
	return map[string][]string{
		"smtplib": {python, "-c", fmt.Sprintf(smtpJob, s.host, s.port, s.marker)},
		"curl": quietCurl("smtp://"+s.hostport(), "--mail-from", "a@example.test", "--mail-rcpt", "b@db.example.test",
			"-T", "-", "-u", "u:"+s.marker),
		"swaks": {"swaks", "--silent", "2", "--server", s.host, "--port", s.portString(), "--from", "a@example.test",
			"--to", "b@db.example.test", "--auth", "PLAIN", "--auth-user", "u", "--auth-password", s.marker, "--data", "-"},
		"msmtp": {"msmtp", "--host=" + s.host, "--port=" + s.portString(), "--tls=off", "--auth=plain", "--user=u",
			"--passwordeval=echo " + s.marker, "--from=a@example.test", "b@db.example.test"},
	}
}

func TestMailProgramsWithoutTLSSubmitLetters(t *testing.T) {
	m := startExim(t, "db.example.test", true)
	letters := 0
	for _, protocol := range []string{"submission", "smtp"} {
		for name, argv := range m.mailers() {
			t.Run(protocol+" "+name, func(t *testing.T) {
				watchPort(t, m.host, m.port, m.marker)
				m.keepSecret(t)
				w := starttlsRule(t, m.site, protocol)
				w.stdin = strings.NewReader(m.letter())
				w.run(t, argv...).must(t)
				letters++
				m.mustArrive(t, letters)
			})
		}
	}
}

// The server does not offer STARTTLS under TLS: a program that would like to have it goes on
// without, and one that has to have it says so.
func TestMailProgramThatAsksForTLSIsAnsweredByTheServer(t *testing.T) {
	m := startExim(t, "db.example.test", true)
	watchPort(t, m.host, m.port, m.marker)
	run := func(argv ...string) ended {
		w := starttlsRule(t, m.site, "submission")
		w.stdin = strings.NewReader(m.letter())
		return w.run(t, argv...)
	}
	curl, msmtp := m.mailers()["curl"], m.mailers()["msmtp"]
	run(append(curl, "--ssl")...).must(t)
	m.mustArrive(t, 1)
	if e := run(append(curl, "--ssl-reqd")...); e.status != 64 || !strings.Contains(e.stderr, "STARTTLS not supported") {
		t.Errorf("curl --ssl-reqd: status %d, stderr %s", e.status, e.stderr)
	}
	if e := run(append(msmtp[:len(msmtp)-1:len(msmtp)-1], "--tls=on", msmtp[len(msmtp)-1])...); e.status == 0 || !strings.Contains(e.stderr, "does not support TLS via the STARTTLS command") {
		t.Errorf("msmtp --tls=on: status %d, stderr %s", e.status, e.stderr)
	}
}

func TestSubmissionProgramIsToldWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		host string
		tls  bool
		want string
	}{
		"wrong name": {"other.example.test", true, "certificate is for other.example.test, not db.example.test"},
		"no TLS":     {"db.example.test", false, "the server does not offer STARTTLS: it said"},
	} {
		t.Run(name, func(t *testing.T) {
			m := startExim(t, c.host, c.tls)
			m.keepSecret(t)
			for name, argv := range m.mailers() {
				w := starttlsRule(t, m.site, "submission")
				w.stdin = strings.NewReader(m.letter())
				if e := w.run(t, argv...); e.status == 0 || !strings.Contains(e.stderr, c.want) {
					t.Errorf("%s: status %d, stderr %s, want %s", name, e.status, e.stderr, c.want)
				}
			}
			if _, err := os.Stat(m.inbox); err == nil {
				t.Error("a letter was delivered")
			}
		})
	}
}
