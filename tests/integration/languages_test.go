package integration

import (
	"fmt"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

func TestNodeHTTPGetsInParallel(t *testing.T) {
	s := serveSite(t, "db.example.test")
	const size = 300000
	e := s.wrapped().run(t, "node", testFile(t, "http_get.js"), s.url(fmt.Sprintf("/big?bytes=%d", size))).must(t)
	if want := strings.Repeat(testkit.BodySum(s.marker, size)+"\n", 20); e.stdout != want {
		t.Errorf("node got %s", e.stdout)
	}
}

func TestNodeHalfClosesAndReadsToTheEnd(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	mustSayIntact(t, s.wrapped(), "node", testFile(t, "net_echo.js"), s.host, s.portString(), s.marker)
}

func TestJavaHttpURLConnectionDownloads(t *testing.T) {
	s := serveSite(t, "db.example.test")
	const size = 5 << 20
	url := s.url(fmt.Sprintf("/big?bytes=%d", size))
	got := s.wrapped().run(t, "java", testFile(t, "UrlGet.java"), url).must(t).stdout
	if want := testkit.BodySum(s.marker, size) + "\n"; got != want {
		t.Errorf("Java read the sum %q, want %q", got, want)
	}
}

func TestJavaNonBlockingChannel(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	mustSayIntact(t, s.wrapped(), "java", testFile(t, "NioEcho.java"), s.host, s.portString(), s.marker)
}

func TestPerlSocketWithTimeout(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	mustSayIntact(t, s.wrapped(), "perl", testFile(t, "inet_echo.pl"), s.host, s.portString(), s.marker)
}

func TestPerlSocketWithTimeoutNamesTheFailure(t *testing.T) {
	s := serveWith(t, "wrong.example.test", serverConfig(t, forDB), echo)
	e := s.wrapped().run(t, "perl", testFile(t, "inet_echo.pl"), s.host, s.portString(), s.marker)
	if e.status == 0 || !strings.Contains(e.stderr, "Key was rejected by service") {
		t.Errorf("status %d, stderr: %s", e.status, e.stderr)
	}
}

func TestBoostAsio(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	mustSayIntact(t, s.wrapped(), compile(t, "asio_echo.cc"), s.host, s.portString(), s.marker)
}

func TestBashDevTCP(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	script := `exec 5<>/dev/tcp/$1/$2 && echo "$3" >&5 && read -r line <&5 && [ "$line" = "$3" ] && echo intact`
	mustSayIntact(t, s.wrapped(), "bash", "-c", script, "bash", s.host, s.portString(), s.marker)
}
