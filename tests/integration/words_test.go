package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// serveStranger starts a server whose certificate is for another name.
func serveStranger(t *testing.T) *site {
	t.Helper()
	return serveWith(t, "wrong.example.test", serverConfig(t, forDB), func(string) func(net.Conn) { return testkit.EchoLine })
}

func TestFailureIsOneLineOnStandardErrorAndNothingOnStandardOutput(t *testing.T) {
	s := serveStranger(t)
	e := s.wrapped().run(t, compile(t, "probe.c"), "block", s.host, s.portString(), s.marker)
	want := fmt.Sprintf("tlswrap: %s: certificate is for db.example.test, not wrong.example.test (--tls %[1]s)\n", s.hostport())
	if e.stdout != "connect=EKEYREJECTED\n" || e.stderr != want {
		t.Errorf("stdout: %q, stderr: %q, want %q", e.stdout, e.stderr, want)
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
