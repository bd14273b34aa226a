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

// firstThatAnswers connects to the addresses of a name one after the other, as often as it is told, and prints
// how often one answered.
const firstThatAnswers = `import socket, sys
good = 0
for _ in range(int(sys.argv[3])):
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2]))).close()
        good += 1
    except OSError: pass
print(good)`

// An address that does not answer is no failure while the program has another one of the name.
func TestAnAddressThatDoesNotAnswerIsARemark(t *testing.T) {
	config := serverConfig(t, testkit.Leaf{Names: []string{"dual.example.test"}})
	marker := newMarker()
	server, err := testkit.Serve("127.0.0.6:0", config, testkit.EchoLine)
	s := watched(t, "dual.example.test", marker, server, err)
	s.mayBeSilent = true
	closed := closedPort(t)
	const remark = "remark: one of its 2 addresses does not answer: connecting to "
	for _, c := range []struct {
		port, times, good string
		want              []string // how the lines begin, or at one of two addresses
	}{
		{s.portString(), "1", "1", []string{remark + "[::1]"}},
		{s.portString(), "2", "2", []string{remark + "[::1]", remark + "[::1]"}},
		{closed, "1", "0", []string{remark + "[::1]", "connecting to 127.0.0.6"}},
		{closed, "2", "0", []string{remark + "[::1]", "connecting to 127.0.0.6", "connecting to [::1]", "connecting to 127.0.0.6"}},
		{closed, "3", "0", []string{remark + "[::1]", "connecting to 127.0.0.6", "connecting to [::1]", "connecting to 127.0.0.6", "connecting to [::1]", "connecting to 127.0.0.6"}},
	} {
		log := filepath.Join(t.TempDir(), "log")
		w := withRules(t, "[[rule]]\nhost = \"dual.example.test\"\nport = %s\n", c.port)
		w.flags = append(w.flags, "--log", log)
		e := w.run(t, python, "-c", firstThatAnswers, "dual.example.test", c.port, c.times)
		said := lines(e.stderr)
		if e.stdout != c.good+"\n" || len(said) != len(c.want) {
			t.Errorf("port %s: stdout: %q, stderr: %q", c.port, e.stdout, e.stderr)
			continue
		}
		for i, want := range c.want {
			if want = fmt.Sprintf("tlswrap: dual.example.test:%s: %s", c.port, want); !strings.HasPrefix(said[i], want) || !strings.Contains(said[i], "connection refused") {
				t.Errorf("line %d is %q, want %q", i+1, said[i], want)
			}
		}
		text, err := os.ReadFile(log)
		if err != nil || strings.Contains(string(text), `"ERROR"`) != (c.good == "0") {
			t.Errorf("the log has (%v)\n%s", err, text)
		}
	}
}

// A program that has looked up no name has no other address to go on to, whatever rule its address comes under.
// One that was shown the name's real addresses has looked it up.
func TestABareAddressThatDoesNotAnswerIsNoRemark(t *testing.T) {
	port := closedPort(t)
	for _, c := range []struct {
		host, addresses, to string
		remark              bool
	}{
		{"localhost", "synthetic", "127.0.0.1", false},
		{"localhost", "synthetic", "::1", false},
		{"localhost", "synthetic", "localhost", true},
		{"dual.example.test", "synthetic", "127.0.0.6", false},
		{"dual.example.test", "real", "127.0.0.6", false},
		{"dual.example.test", "real", "dual.example.test", true},
	} {
		w := withRules(t, "[[rule]]\nhost = %q\nport = %s\naddresses = %q\n", c.host, port, c.addresses)
		e := w.run(t, python, "-c", firstThatAnswers, c.to, port, "1")
		said := lines(e.stderr)
		want := "tlswrap: " + c.host + ":" + port + ": connecting to "
		if e.stdout != "0\n" || !strings.HasPrefix(said[len(said)-1], want) || strings.Contains(e.stderr, "remark: one of its 2 addresses") != c.remark {
			t.Errorf("%+v: stdout: %q, stderr: %q", c, e.stdout, e.stderr)
		}
	}
}

// What one process has tried says nothing of where another goes on.
func TestARemarkIsOfOneProcess(t *testing.T) {
	port := closedPort(t)
	w := withRules(t, "[[rule]]\nhost = \"dual.example.test\"\nport = %s\n", port)
	const first = `import socket, sys
try: socket.socket(socket.AF_INET6).connect((socket.getaddrinfo(sys.argv[1], None)[0][4][0], int(sys.argv[2])))
except OSError: pass`
	e := w.run(t, "sh", "-c", `"$@"; "$@"`, "sh", python, "-c", first, "dual.example.test", port)
	if said := lines(e.stderr); len(said) != 2 || strings.Count(e.stderr, "remark: one of its 2 addresses") != 2 {
		t.Errorf("stderr: %q", e.stderr)
	}
}

// What is wrong with a server is a failure, however many addresses its name has; and one address more
// does not help where a rule leads them all to one place.
func TestAWrongServerIsNoRemark(t *testing.T) {
	config := serverConfig(t, forDB)
	server, err := testkit.Serve("127.0.0.6:0", config, testkit.EchoLine)
	s := watched(t, "dual.example.test", newMarker(), server, err)
	script := `import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])))`
	e := s.wrapped().run(t, python, "-c", script, s.host, s.portString())
	if !strings.Contains(e.stderr, s.hostport()+": certificate is for db.example.test, not dual.example.test (") {
		t.Errorf("stderr: %q", e.stderr)
	}
	w := withRules(t, "[[rule]]\nhost = \"dual.example.test\"\nupstream = \"127.0.0.1:%s\"\n", closedPort(t))
	if e := w.run(t, python, "-c", script, s.host, "80"); strings.Contains(e.stderr, "remark") || !strings.Contains(e.stderr, "connecting to 127.0.0.1:") {
		t.Errorf("with an upstream: stderr: %q", e.stderr)
	}
}

// A program that tries a wrong server in a circle has one line that says why, and one that it is remembered.
func TestAVerdictThatIsRememberedIsToldOnce(t *testing.T) {
	config := serverConfig(t, forDB)
	server, err := testkit.Serve("127.0.0.1:0", config, testkit.EchoLine)
	s := watched(t, "wrong.example.test", newMarker(), server, err)
	script := `import socket, sys
for _ in range(6):
    try: socket.create_connection((sys.argv[1], int(sys.argv[2])))
    except OSError: pass`
	log := filepath.Join(t.TempDir(), "log")
	w := s.wrapped()
	w.flags = append(w.flags, "--log", log)
	e := w.run(t, python, "-c", script, s.host, s.portString())
	why := s.hostport() + ": certificate is for db.example.test, not "
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for where, said := range map[string]string{"standard error": e.stderr, "the log": string(text)} {
		failed, remembered := strings.Count(said, "certificate is for db.example.test"), strings.Count(said, "(remembered for 1s")
		if failed < 2 || failed > 3 || remembered != 1 { // a slow machine may ask the server twice
			t.Errorf("%s has %d lines, of which %d say that it is remembered:\n%s", where, failed, remembered, said)
		}
	}
	if !strings.Contains(e.stderr, why) {
		t.Errorf("stderr: %q, want %q", e.stderr, why)
	}
}

// A program that gives up leaves a line, which says how far its connection was.
func TestASetupThatTheProgramGivesUpIsInTheLog(t *testing.T) {
	server, err := testkit.Serve("127.0.0.1:0", nil, testkit.Silent)
	silent := watched(t, "db.example.test", newMarker(), server, err)
	greets, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer greets.Close() // its backlog takes the connection, and nobody says a word
	script := `import socket, sys
s = socket.socket()
s.settimeout(0.4)
try: s.connect((sys.argv[1], int(sys.argv[2])))
except TimeoutError: print("gave up")`
	_, mail, _ := net.SplitHostPort(greets.Addr().String())
	for _, c := range []struct{ port, rule, want string }{
		{silent.portString(), "", "the program gave up: the server accepted the connection but did not answer the TLS handshake within "},
		{mail, "starttls = \"imap\"\n", "the program gave up: "},
	} {
		log := filepath.Join(t.TempDir(), "log")
		w := withRules(t, "[[rule]]\nhost = \"db.example.test\"\nport = %s\n%s", c.port, c.rule)
		w.flags = append(w.flags, "--log", log, "--log-level", "warn")
		e := w.run(t, python, "-c", script, "db.example.test", c.port)
		if e.stdout != "gave up\n" || e.stderr != "" {
			t.Errorf("stdout: %q, stderr: %q", e.stdout, e.stderr)
		}
		var event struct{ Level, Msg, Target, Reason string }
		eventually(t, "a line in the log", 10*time.Second, func() bool {
			text, _ := os.ReadFile(log)
			return json.Unmarshal(text, &event) == nil
		})
		within, _ := time.ParseDuration(strings.TrimPrefix(event.Reason, c.want))
		if event.Msg != "left" || event.Level != "WARN" || event.Target != "db.example.test:"+c.port || !strings.HasPrefix(event.Reason, c.want) ||
			c.rule == "" && (within < 300*time.Millisecond || within > 20*time.Second) {
			t.Errorf("the log has %+v, want %q", event, c.want)
		}
	}
}
