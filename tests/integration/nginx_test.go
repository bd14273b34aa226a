package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// startNginx starts nginx under tlswrap as a reverse proxy of s, which it takes for an
// HTTP server, and returns the unix socket that it listens on.
func startNginx(t *testing.T, s *site) (front string, r *running) {
	t.Helper()
	text, err := os.ReadFile(testFile(t, "nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // its workers are nobody
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	conf := strings.NewReplacer("DIR", dir, "UPSTREAM", s.hostport()).Replace(string(text))
	file := writeFile(t, "nginx.conf", conf)
	front = filepath.Join(dir, "front")
	r = s.wrapped().start(t, "nginx", "-c", file)
	eventually(t, "nginx listens", 20*time.Second, func() bool {
		select {
		case <-r.done:
			t.Fatalf("nginx ended: %s", r.stderr)
		default:
		}
		e := wrapped{bare: true}.run(t, quietCurl("-o", "/dev/null", "--unix-socket", front, "http://front/fixed")...)
		return e.status == 0 || e.status == 22 // curl: cannot connect is 7, an HTTP error 22
	})
	return front, r
}

func TestNginxProxiesToATLSUpstream(t *testing.T) {
	s := serveSite(t, "db.example.test")
	front, r := startNginx(t, s)
	const size = 5 << 20
	file := filepath.Join(t.TempDir(), "#1")
	wrapped{bare: true}.run(t, quietCurl("-Z", "-o", file, "--unix-socket", front,
		fmt.Sprintf("http://front/big?bytes=%d&n=[1-8]&%s", size, s.marker))...).must(t)
	for n := 1; n <= 8; n++ {
		got := fileSum(t, filepath.Join(filepath.Dir(file), fmt.Sprint(n)))
		if want := testkit.BodySum(s.marker, size); got != want {
			t.Errorf("download %d has the sum %s, want %s", n, got, want)
		}
	}
	if strings.Contains(r.stderr.String(), "[error]") {
		t.Errorf("nginx said: %s", r.stderr)
	}
}

func TestNginxUploadsToATLSUpstream(t *testing.T) {
	s := serveSite(t, "db.example.test")
	front, r := startNginx(t, s)
	const size = 5 << 20
	file := bodyFile(t, s.marker, size)
	got := wrapped{bare: true}.run(t, quietCurl("-T", file, "--unix-socket", front, "http://front/upload?"+s.marker)...).must(t).stdout
	if want := fmt.Sprintf("%s %d\n", fileSum(t, file), size); got != want {
		t.Errorf("the server got %q, want %q\nnginx said: %s", got, want, r.stderr)
	}
}

func TestNginxAnswersBadGatewayWhereTheCertificateIsWrong(t *testing.T) {
	marker := newMarker()
	server, err := testkit.ServeHTTP(listenAddr(t, "wrong.example.test"), serverConfig(t, forDB), testkit.Site(marker))
	s := watched(t, "wrong.example.test", marker, server, err)
	front, r := startNginx(t, s)
	e := wrapped{bare: true}.run(t, curl, "-q", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", front,
		"http://front/"+s.marker)
	if e.stdout != "502" {
		t.Errorf("nginx answered %q", e.stdout)
	}
	for _, want := range []string{"(129: Key was rejected by service) while connecting to upstream",
		"tlswrap: " + s.hostport() + ": certificate is for db.example.test, not wrong.example.test"} {
		if !strings.Contains(r.stderr.String(), want) {
			t.Errorf("%q is missing in: %s", want, r.stderr)
		}
	}
}
