package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// serveStranger starts a server whose certificate is for another name.
func serveStranger(t *testing.T) *site {
	t.Helper()
	return serveWith(t, "wrong.example.test", serverConfig(t, forDB), func(string) func(net.Conn) { return testkit.EchoLine })
}

func TestFailureIsOneLineOnStandardErrorAndNothingOnStandardOutput(t *testing.T) {
	for kind, flags := range kinds {
		s := serveStranger(t)
		e := s.wrapped().run(t, compile(t, "probe.c", flags...), "block", s.host, s.portString(), s.marker)
		want := fmt.Sprintf("tlswrap: %s: certificate is for db.example.test, not wrong.example.test (--tls %[1]s)\n", s.hostport())
		if e.stdout != "connect=EKEYREJECTED\n" || e.stderr != want {
			t.Errorf("%s: stdout: %q, stderr: %q, want %q", kind, e.stdout, e.stderr, want)
		}
	}
}

// Programs with tables of errnos get one that is in all of them; the person is told the same.
func TestPlainErrnosAreThoseOfConnect(t *testing.T) {
	certificate := serveStranger(t)
	plaintext := serveWith(t, "plain.example.test", nil, func(string) func(net.Conn) { return testkit.Say("220 hello\r\n") })
	for kind, flags := range kinds {
		probe := compile(t, "probe.c", flags...)
		for _, test := range []struct {
			s    *site
			says string
		}{
			{certificate, "certificate is for db.example.test, not wrong.example.test"},
			{plaintext, "the server does not speak TLS on this port"},
		} {
			byFlag := test.s.wrapped()
			byFlag.flags = append(byFlag.flags, "--errno", "plain")
			rule := fmt.Sprintf("[[rule]]\nhost = %q\nport = %d\nerrno = \"plain\"\n", test.s.host, test.s.port)
			byRule := wrapped{flags: []string{"--rules", writeRules(t, rule), "--errno", "precise"}}
			for _, w := range []wrapped{byFlag, byRule} {
				for _, mode := range []string{"block", "poll", "epoll"} {
					e := w.run(t, probe, mode, test.s.host, test.s.portString(), test.s.marker)
					if e.stdout != "connect=ECONNREFUSED\n" || !strings.Contains(e.stderr, test.says) {
						t.Errorf("%s, %s, %v: stdout: %q, stderr: %q", kind, mode, w.flags, e.stdout, e.stderr)
					}
				}
			}
		}
	}
}

func TestQuietSaysNothing(t *testing.T) {
	s := serveStranger(t)
	w := s.wrapped()
	w.flags = append(w.flags, "-q")
	e := w.run(t, compile(t, "probe.c"), "block", s.host, s.portString(), s.marker)
	if e.stdout != "connect=EKEYREJECTED\n" || e.stderr != "" {
		t.Errorf("stdout: %q, stderr: %q", e.stdout, e.stderr)
	}
}

func TestVerboseSaysALineForEachConnection(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	w := s.wrapped()
	w.flags = append(w.flags, "-v")
	e := w.run(t, "bash", "-c", `for i in 1 2; do exec 5<>/dev/tcp/$1/$2; done`, "bash", s.host, s.portString())
	for _, line := range lines(e.stderr) {
		if !strings.HasPrefix(line, "tlswrap: "+s.hostport()+": verified, TLS 1.3, ") {
			t.Errorf("stderr: %q", line)
		}
	}
	if len(lines(e.stderr)) != 2 {
		t.Errorf("stderr: %q, want two lines", e.stderr)
	}
}

// Who asks for a line each is told the way in all of them, and who does not in none.
func TestVerboseSaysTheWayOfFailuresToo(t *testing.T) {
	stranger := serveStranger(t)
	unverified := serveWith(t, "db.example.test", serverConfig(t, forDB), func(string) func(net.Conn) { return testkit.EchoLine })
	closed := closedPort(t)
	rules := writeRules(t, fmt.Sprintf("[[rule]]\nhost = \"wrong.example.test\"\nport = %d\n[[rule]]\nhost = \"dual.example.test\"\n"+
		"[[rule]]\nhost = \"db.example.test\"\nport = %d\nverify = \"none\"\n[[rule]]\nhost = \"192.0.2.9\"\naction = \"deny\"\n", stranger.port, unverified.port))
	for kind, flags := range kinds {
		probe := compile(t, "probe.c", flags...)
		for _, c := range []struct{ host, port, says string }{
			{stranger.host, stranger.portString(), "certificate is for db.example.test, not wrong.example.test"},
			{"192.0.2.9", "80", "refused: a rule denies it"},
			{unverified.host, unverified.portString(), "warning: chain and name are NOT verified"},
			{"127.0.0.6", closed, "connecting to 127.0.0.6"},
		} {
			for _, verbose := range []bool{true, false} {
				w := wrapped{flags: []string{"--ca", lab.rootPEM, "--rules", rules}}
				end := ")\n"
				if verbose {
					w.flags = append(w.flags, "-v")
					end = "), by " + ways[kind] + "\n"
				}
				e := w.run(t, probe, "block", c.host, c.port, stranger.marker)
				if !strings.Contains(e.stderr, c.says) || !strings.HasSuffix(e.stderr, end) || strings.Count(e.stderr, "\n") != 1 {
					t.Errorf("%s, %s, verbose %t: stderr: %q, want %q and %q", kind, c.host, verbose, e.stderr, c.says, end)
				}
			}
		}
	}
}

func TestLogHasALineOfJSONForEachConnection(t *testing.T) {
	good, wrong := serveTLS(t, "db.example.test", echo), serveStranger(t)
	file := filepath.Join(t.TempDir(), "log")
	w := wrapped{flags: append(good.flags(), "--tls", wrong.hostport(), "--log", file)}
	w.run(t, "bash", "-c", `: <>/dev/tcp/$1/$2; : <>/dev/tcp/$3/$4`, "bash", good.host, good.portString(), wrong.host, wrong.portString())
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var events []string
	for _, line := range lines(string(text)) {
		var event struct{ Msg string }
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Errorf("%v: %s", err, line)
		}
		events = append(events, event.Msg)
	}
	if got := strings.Join(events, " "); got != "connected failed" {
		t.Errorf("the log has the events %q:\n%s", got, text)
	}
}

// A debug log has each step of a connection, and neither what it carries nor what names the session.
func TestDebugLogHasTheStepsOfARefusedConnect(t *testing.T) {
	good, wrong := serveTLS(t, "db.example.test", echo), serveStranger(t)
	file := filepath.Join(t.TempDir(), "log")
	w := wrapped{flags: append(good.flags(), "--tls", wrong.hostport(), "--log", file, "--log-level", "debug")}
	e := w.run(t, "bash", "-c", `exec 5<>/dev/tcp/$1/$2; echo $5 >&5; read -u 5 answer; echo "$answer"; : <>/dev/tcp/$3/$4; echo "$TLSWRAP_CONTROL"`,
		"bash", good.host, good.portString(), wrong.host, wrong.portString(), good.marker)
	if len(lines(e.stdout)) != 2 || lines(e.stdout)[0] != good.marker {
		t.Fatalf("stdout: %q, stderr: %q", e.stdout, e.stderr)
	}
	var text []byte
	var steps, asked []string
	refused := ""
	eventually(t, "the first connection has ended", 10*time.Second, func() bool {
		var err error
		if text, err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		steps, asked = nil, nil
		for _, line := range lines(string(text)) {
			var event struct{ Msg, Target, Op, Answer, Reason, Took string }
			if err := json.Unmarshal([]byte(line), &event); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if event.Msg == "request" && (event.Op == "connect" || event.Op == "verdict") && event.Took != "" {
				asked = append(asked, event.Op+" "+event.Answer)
			}
			if event.Target == wrong.hostport() {
				steps = append(steps, event.Msg)
				refused = event.Reason
			}
		}
		return strings.Contains(string(text), "the program has closed it")
	})
	if got := strings.Join(steps, " "); got != "dialled handshake failed ended" || !strings.Contains(refused, "certificate is for db.example.test") {
		t.Errorf("the log has the steps %q, and the reason %q:\n%s", got, refused, text)
	}
	if got := strings.Join(asked, ", "); got != "connect channel, connect channel, verdict EKEYREJECTED" {
		t.Errorf("the log has the requests %q:\n%s", got, text)
	}
	token := strings.Split(lines(e.stdout)[1], ":")[2]
	for what, secret := range map[string]string{"what the program sent": good.marker, "the session's token": token} {
		if len(secret) < 16 || strings.Contains(string(text), secret) {
			t.Errorf("the log has %s, %q:\n%s", what, secret, text)
		}
	}
}

func TestLogLevelLeavesOutWhatIsLessGrave(t *testing.T) {
	good, wrong := serveTLS(t, "db.example.test", echo), serveStranger(t)
	file := filepath.Join(t.TempDir(), "log")
	w := wrapped{flags: append(good.flags(), "--tls", wrong.hostport(), "--log", file, "--log-level", "error")}
	w.run(t, "bash", "-c", `: <>/dev/tcp/$1/$2; : <>/dev/tcp/$3/$4`, "bash", good.host, good.portString(), wrong.host, wrong.portString())
	text, err := os.ReadFile(file)
	if err != nil || len(lines(string(text))) != 1 || !strings.Contains(string(text), `"failed"`) {
		t.Errorf("the log has (%v)\n%s", err, text)
	}
}

func TestLogLevelThatIsNoneIsRefused(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--log", log, "--log-level", "loud"}, `invalid value "loud" for flag -log-level: it has to be error, warn, info or debug; see tlswrap --help`},
		{[]string{"--log-level", "debug"}, "--log-level is about the file of --log, which is not given"},
		{[]string{"--worker", log, "--log-level", "info"}, "--rules, --ca, --tls, --errno, --log and --log-level are the running worker's to say, and do not go with --worker"},
	} {
		e := wrapped{flags: c.flags}.run(t, "true")
		if e.status != 125 || e.stderr != "tlswrap: "+c.want+"\n" {
			t.Errorf("%q: status %d, stderr %q", c.flags, e.status, e.stderr)
		}
	}
	e := wrapped{bare: true}.run(t, lab.tlswrap, "worker", "--socket", log, "--log-level", "loud")
	if e.status != 125 || !strings.Contains(e.stderr, `invalid value "loud"`) {
		t.Errorf("a worker: status %d, stderr %q", e.status, e.stderr)
	}
}
