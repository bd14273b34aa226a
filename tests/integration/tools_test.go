package integration

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// mustEcho pipes much text through a program that connects its standard input and
// output to an echo server, and ends after the server's end of file.
func mustEcho(t *testing.T, s *site, argv ...string) {
	t.Helper()
	const size = 1 << 20
	text, err := io.ReadAll(io.LimitReader(testkit.Body(s.marker), size))
	if err != nil {
		t.Fatal(err)
	}
	w := s.wrapped()
	w.stdin = strings.NewReader(string(text))
	if got := w.run(t, argv...).must(t).stdout; got != string(text) {
		t.Errorf("%d bytes came back, and they are wrong or too few", len(got))
	}
}

func TestNetcatHalfClosesAndReadsToTheEnd(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	mustEcho(t, s, "nc.openbsd", "-N", s.host, s.portString())
}

func TestSocatHalfClosesAndReadsToTheEnd(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	mustEcho(t, s, "socat", "-t", "30", "-", fmt.Sprintf("TCP:%s:%d", s.host, s.port))
}

func TestSocatWithKeepaliveAndTimeout(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	mustEcho(t, s, "socat", "-t", "30", "-",
		fmt.Sprintf("TCP:%s:%d,nodelay,keepalive,keepidle=30,connect-timeout=20", s.host, s.port))
}

func TestNetcatChecksAPortWithoutSendingAnything(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	if e := s.wrapped().run(t, "nc.openbsd", "-z", s.host, s.portString()); e.status != 0 {
		t.Errorf("status %d, stderr: %s", e.status, e.stderr)
	}
}
