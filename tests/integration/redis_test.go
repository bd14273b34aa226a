package integration

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// startRedis starts a redis server that speaks nothing but TLS, and watches its port.
func startRedis(t *testing.T, host string) *site {
	t.Helper()
	dir := t.TempDir()
	cert, err := lab.root.Issue(testkit.Leaf{Names: []string{host}})
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := cert.WriteFiles(dir, "redis")
	if err != nil {
		t.Fatal(err)
	}
	port := closedPort(t)
	r := wrapped{bare: true, dir: dir}.start(t, "redis-server", "--port", "0", "--tls-port", port, "--bind", "127.0.0.1",
		"--tls-cert-file", certFile, "--tls-key-file", keyFile, "--tls-ca-cert-file", lab.rootPEM,
		"--tls-auth-clients", "no", "--save", "", "--appendonly", "no", "--dir", dir,
		"--unixsocket", filepath.Join(dir, "socket"))
	eventually(t, "redis-server listens", 20*time.Second, func() bool {
		select {
		case <-r.done:
			t.Fatalf("redis-server ended: %s%s", r.stdout, r.stderr)
		default:
		}
		c, err := net.Dial("unix", filepath.Join(dir, "socket"))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	var n uint16
	fmt.Sscan(port, &n)
	return watchPort(t, host, n, newMarker())
}

func TestRedisClientTalksToATLSPort(t *testing.T) {
	s := startRedis(t, "db.example.test")
	w := s.wrapped()
	w.stdin = strings.NewReader(fmt.Sprintf("SET key %s\nGET key\nSTRLEN key\n", s.marker))
	e := w.run(t, "redis-cli", "-h", s.host, "-p", s.portString()).must(t)
	if want := fmt.Sprintf("OK\n%s\n%d\n", s.marker, len(s.marker)); e.stdout != want {
		t.Errorf("redis-cli said %q, want %q", e.stdout, want)
	}
}

func TestRedisClientPipelines(t *testing.T) {
	s := startRedis(t, "db.example.test")
	var commands strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&commands, "SET key:%d %s\n", i, s.marker)
	}
	w := s.wrapped()
	w.stdin = strings.NewReader(commands.String())
	e := w.run(t, "redis-cli", "-h", s.host, "-p", s.portString(), "--pipe").must(t)
	if !strings.Contains(e.stdout, "errors: 0, replies: 20000") {
		t.Errorf("redis-cli said %q", e.stdout)
	}
}

func TestRedisClientNamesTheFailure(t *testing.T) {
	s := startRedis(t, "db.example.test")
	wrong := *s
	wrong.host = "wrong.example.test"
	e := wrong.wrapped().run(t, "redis-cli", "-h", wrong.host, "-p", s.portString(), "PING")
	if e.status == 0 || !strings.Contains(e.stderr, "Key was rejected by service") {
		t.Errorf("status %d, stdout: %q, stderr: %q", e.status, e.stdout, e.stderr)
	}
}
