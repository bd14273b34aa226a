package integration

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// closedPort is a port of 127.0.0.1 that nobody listens on.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

func TestRefusedConnectionKeepsItsErrno(t *testing.T) {
	for kind, flags := range kinds {
		probe := compile(t, "probe.c", flags...)
		for _, mode := range []string{"block", "poll", "epoll"} {
			t.Run(kind+"/"+mode, func(t *testing.T) {
				port := closedPort(t)
				w := wrapped{flags: []string{"--ca", lab.rootPEM, "--tls", "db.example.test:" + port}}
				e := w.run(t, probe, mode, "db.example.test", port, "secret")
				if e.stdout != "connect=ECONNREFUSED\n" {
					t.Errorf("the program saw %q", e.stdout)
				}
				want := fmt.Sprintf("tlswrap: db.example.test:%s: connecting to 127.0.0.1:%s: connection refused", port, port)
				if !strings.HasPrefix(e.stderr, want) {
					t.Errorf("stderr: %q, want %q", e.stderr, want)
				}
			})
		}
	}
}

func TestUnknownNameIsUnknownUnderTlswrapToo(t *testing.T) {
	probe := compile(t, "probe.c")
	w := wrapped{flags: []string{"--ca", lab.rootPEM, "--tls", "nowhere.example.test:443"}}
	got := w.run(t, probe, "block", "nowhere.example.test", "443", "secret")
	want := wrapped{bare: true}.run(t, probe, "block", "nowhere.example.test", "443", "secret")
	if got.stdout != want.stdout || !strings.HasPrefix(got.stdout, "lookup=") {
		t.Errorf("the program saw %q, and without tlswrap %q", got.stdout, want.stdout)
	}
}

func TestSendtoWithFastOpenConnectsThroughTheChannel(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	script := `import socket, sys
line = sys.argv[3].encode() + b"\n"
for _ in range(2):  # the second would carry its data in the SYN
    to = socket.getaddrinfo(sys.argv[1], int(sys.argv[2]), type=socket.SOCK_STREAM)[0][4]
    with socket.socket() as s:
        s.sendto(line, socket.MSG_FASTOPEN, to)
        assert s.makefile("rb").readline() == line
print("intact")`
	mustSayIntact(t, s.wrapped(), python, "-c", script, s.host, s.portString(), s.marker)
}

func TestManySmallWritesFlow(t *testing.T) {
	s := serveTLS(t, "db.example.test", func(string) func(net.Conn) { return testkit.EchoLine })
	for range 3 {
		mustSayIntact(t, s.wrapped(), python, testFile(t, "small_writes.py"), s.host, s.portString(), s.marker)
	}
}
