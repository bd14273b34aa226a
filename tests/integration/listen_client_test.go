package integration

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// startEcho starts a server that answers each connection with its client's address and a
// line of its own, and echoes what comes after that.
func (s *served) startEcho(t *testing.T) {
	t.Helper()
	s.start(t, "/usr/bin/python3", testFile(t, "serve_echo.py"), s.portString())
}

// dial shakes hands with the server as a client that trusts the test's root.
func (s *served) dial(t *testing.T, config *tls.Config) (*tls.Conn, error) {
	t.Helper()
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	config.RootCAs = lab.root.Pool()
	if config.ServerName == "" {
		config.ServerName = s.host
	}
	tcp, err := net.DialTimeout("tcp", "127.0.0.1:"+s.portString(), 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	tcp.SetDeadline(time.Now().Add(20 * time.Second))
	conn := tls.Client(tcp, config)
	return conn, conn.Handshake()
}

// echoed reads the greeting, sends the marker and reads it back. A client that was refused
// under TLS 1.3 learns of it here.
func (s *served) echoed(conn *tls.Conn) (greeting string, err error) {
	r := bufio.NewReader(conn)
	if greeting, err = r.ReadString('\n'); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "%s\n", s.marker); err != nil {
		return "", err
	}
	line, err := r.ReadString('\n')
	if err == nil && line != s.marker+"\n" {
		err = fmt.Errorf("%q came back for %q", line, s.marker)
	}
	return greeting, err
}

func (s *served) mustServe(t *testing.T, config *tls.Config) (greeting string, conn *tls.Conn) {
	t.Helper()
	conn, err := s.dial(t, config)
	if err == nil {
		greeting, err = s.echoed(conn)
	}
	if err != nil {
		t.Fatalf("%v\nthe server said: %s", err, s.stderr)
	}
	return greeting, conn
}

func (s *served) mustRefuse(t *testing.T, config *tls.Config) {
	t.Helper()
	conn, err := s.dial(t, config)
	if err == nil {
		_, err = s.echoed(conn)
	}
	if err == nil {
		t.Error("the client was served")
	}
}

func TestServerSeesItsRealClient(t *testing.T) {
	s := serveUnder(t, "")
	s.startEcho(t)
	greeting, conn := s.mustServe(t, nil)
	want := fmt.Sprintf("%v accepted=%v peer=%v own=%v\n", "AF_INET", conn.LocalAddr(), conn.LocalAddr(), conn.RemoteAddr())
	if greeting != want {
		t.Errorf("the server sees %q, want %q", greeting, want)
	}
}

func TestServerIsNotReachedInPlaintext(t *testing.T) {
	s := serveUnder(t, "")
	s.startEcho(t)
	tcp, err := net.Dial("tcp", "127.0.0.1:"+s.portString())
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	tcp.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprint(tcp, "hello\r\n")
	if got, err := io.ReadAll(tcp); bytes.Contains(got, []byte("AF_INET")) || err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the server answered %q, %v", got, err)
	}
	s.mustServe(t, nil)
}

// certs are a client's certificate by an authority of its own, which the rules trust.
func (s *served) clientCert(t *testing.T, a *testkit.Authority, leaf testkit.Leaf) *tls.Config {
	t.Helper()
	cert, err := a.Issue(leaf)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert.TLS()}}
}

func TestServerDemandsClientCertificates(t *testing.T) {
	clients, err := testkit.NewAuthority("clients")
	if err != nil {
		t.Fatal(err)
	}
	spiffe, err := url.Parse("spiffe://example.test/backup")
	if err != nil {
		t.Fatal(err)
	}
	alice := testkit.Leaf{CommonName: "alice"}
	bob := testkit.Leaf{CommonName: "bob", Names: []string{"bob.example.test"}}
	backup := testkit.Leaf{URIs: []*url.URL{spiffe}}
	for name, c := range map[string]struct {
		rules   string
		served  []testkit.Leaf
		refused []testkit.Leaf
		nobody  bool // one without a certificate is served
	}{
		"required":  {`client_auth = "require"`, []testkit.Leaf{alice, bob, backup}, nil, false},
		"optional":  {`client_auth = "optional"`, []testkit.Leaf{alice}, nil, true},
		"by name":   {"client_auth = \"require\"\nallow = [\"alice\", \"bob.example.test\"]", []testkit.Leaf{alice, bob}, []testkit.Leaf{backup}, false},
		"by SPIFFE": {"client_auth = \"require\"\nallow = [\"spiffe://example.test/backup\"]", []testkit.Leaf{backup}, []testkit.Leaf{alice}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveUnder(t, "client_ca_file = \"clients.pem\"\n"+c.rules+"\n")
			if err := clients.WriteFile(filepath.Join(s.dir, "clients.pem")); err != nil {
				t.Fatal(err)
			}
			s.startEcho(t)
			for _, leaf := range c.served {
				s.mustServe(t, s.clientCert(t, clients, leaf))
			}
			for _, leaf := range c.refused {
				s.mustRefuse(t, s.clientCert(t, clients, leaf))
			}
			if c.nobody {
				s.mustServe(t, nil)
				return
			}
			s.mustRefuse(t, nil)
			s.mustRefuse(t, s.clientCert(t, lab.root, alice)) // of an authority that is not trusted for this
		})
	}
}

func TestServerAllowsAClientByItsKey(t *testing.T) {
	clients, err := testkit.NewAuthority("clients")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := clients.Issue(testkit.Leaf{CommonName: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	s := serveUnder(t, fmt.Sprintf("client_ca_file = \"clients.pem\"\nclient_auth = \"require\"\nallow = [%q]\n", cert.Pin()))
	if err := clients.WriteFile(filepath.Join(s.dir, "clients.pem")); err != nil {
		t.Fatal(err)
	}
	s.startEcho(t)
	cache := tls.NewLRUClientSessionCache(4)
	for range 2 { // a session that is resumed is still alice's
		_, conn := s.mustServe(t, &tls.Config{Certificates: []tls.Certificate{cert.TLS()}, ClientSessionCache: cache})
		conn.Close()
	}
	s.mustRefuse(t, s.clientCert(t, clients, testkit.Leaf{CommonName: "alice"}))
}

func TestServerChoosesTheCertificateBySNI(t *testing.T) {
	s := serveUnder(t, "")
	other, err := lab.root.Issue(testkit.Leaf{Names: []string{"other.example.test"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.WriteFiles(s.dir, "other"); err != nil {
		t.Fatal(err)
	}
	rewrite(t, s.rules, func(text string) string {
		text = strings.Replace(text, `"server.pem"`, `["server.pem", "other.pem"]`, 1)
		return strings.Replace(text, `"server.key"`, `["server.key", "other.key"]`, 1)
	})
	s.startEcho(t)
	for _, name := range []string{"db.example.test", "other.example.test"} {
		s.mustServe(t, &tls.Config{ServerName: name})
	}
	s.mustRefuse(t, &tls.Config{ServerName: "third.example.test"}) // it gets the first, and does not want that
}

func rewrite(t *testing.T, file string, change func(string) string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte(change(string(text))), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestServerResumesSessions(t *testing.T) {
	s := serveUnder(t, "")
	s.startEcho(t)
	config := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	for n := range 3 {
		_, conn := s.mustServe(t, config)
		if resumed := conn.ConnectionState().DidResume; resumed != (n > 0) {
			t.Errorf("connection %d: resumed is %v", n, resumed)
		}
		conn.Close()
	}
}

func TestServerGetsANewCertificateWithoutARestart(t *testing.T) {
	s := serveUnder(t, "")
	s.startEcho(t)
	_, old := s.mustServe(t, nil)
	renewed, err := lab.root.Issue(testkit.Leaf{Names: []string{"db.example.test"}})
	if err == nil {
		_, _, err = renewed.WriteFiles(s.dir, "server")
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new certificate is served", 20*time.Second, func() bool {
		_, conn := s.mustServe(t, nil)
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Equal(renewed.Leaf)
	})
	fmt.Fprintln(old, s.marker)
	if line, err := bufio.NewReader(old).ReadString('\n'); line != s.marker+"\n" {
		t.Errorf("the old connection gives %q, %v", line, err)
	}
}

func TestServerIsNotHeldUpByClientsThatSayNothing(t *testing.T) {
	s := serveUnder(t, "")
	s.startEcho(t)
	for range 1500 { // more than may shake hands at once
		c, err := net.Dial("tcp", "127.0.0.1:"+s.portString())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	s.mustServe(t, nil)
}

// A write to an AF_UNIX socket that was reset is EPIPE, a read ECONNRESET, and getpeername
// ENOTCONN.
var sawReset = regexp.MustCompile("echo ended: (Connection reset by peer|Broken pipe|Transport endpoint is not connected)")

// Most clients close without close_notify, and servers take that for an end.
func TestServerSeesAnEndWithoutCloseNotifyAsTheEnd(t *testing.T) {
	s := serveUnder(t, "")
	log := filepath.Join(t.TempDir(), "log")
	s.more = []string{"--log", log}
	s.startEcho(t)
	_, conn := s.mustServe(t, nil)
	raw := conn.NetConn()
	if err := raw.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil { // the server has closed, too, and well
		t.Errorf("the client's end: %v", err)
	}
	eventually(t, "the log tells", 10*time.Second, func() bool { return contains(log, `"truncated"`) })
	if said := s.stderr.String(); said != "" {
		t.Errorf("the server said %s", said)
	}
}

// What a client sent that was then cut off is no complete request.
func TestServerSeesTruncationAsAReset(t *testing.T) {
	s := serveUnder(t, "allow_truncation = false\n")
	s.startEcho(t)
	conn, err := s.dial(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "half a li")
	conn.NetConn().Close() // a FIN, and no close_notify
	eventually(t, "the server sees a reset", 20*time.Second, func() bool {
		return sawReset.MatchString(s.stderr.String())
	})
}

// One that was in the queue when it was cut off is seen as reset too.
func TestServerSeesTruncationBeforeItAccepts(t *testing.T) {
	s := serveUnder(t, "allow_truncation = false\n")
	s.startEcho(t)
	conn, err := s.dial(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	late, err := s.dial(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(late, "half a li")
	late.NetConn().Close()
	if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, err := s.echoed(conn); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server sees a reset", 20*time.Second, func() bool {
		return sawReset.MatchString(s.stderr.String())
	})
}

func TestServerFreesItsPort(t *testing.T) {
	s := serveUnder(t, "")
	// It listens, closes, and listens on the same port again, three times.
	s.start(t, "/usr/bin/python3", testFile(t, "serve_again.py"), s.portString())
	for range 3 {
		eventually(t, "the server serves", 20*time.Second, func() bool {
			conn, err := tls.Dial("tcp", "127.0.0.1:"+s.portString(), &tls.Config{RootCAs: lab.root.Pool(), ServerName: s.host})
			if err == nil {
				_, err = s.echoed(conn)
				conn.Close()
			}
			return err == nil
		})
	}
	eventually(t, "the server ends", 20*time.Second, func() bool {
		select {
		case <-s.done:
			return true
		default:
			return false
		}
	})
	eventually(t, "the port is free", 20*time.Second, func() bool {
		l, err := net.Listen("tcp", "127.0.0.1:"+s.portString())
		if err == nil {
			l.Close()
		}
		return err == nil
	})
	mustEnd(t, s.rules)
}

func TestKilledServerFreesItsPortAndItsWorker(t *testing.T) {
	s := serveUnder(t, "")
	s.startEcho(t)
	_, conn := s.mustServe(t, nil)
	conn.Close()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the port is free", 20*time.Second, func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+s.portString())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	mustEnd(t, s.rules)
}

// A worker of another account keeps a key that the program's account cannot read.
func TestServersKeyBelongsToAnotherAccount(t *testing.T) {
	s := serveUnder(t, "")
	socket := filepath.Join(s.dir, "socket")
	wrapped{bare: true}.start(t, lab.tlswrap, "worker", "--socket", socket, "--rules", s.rules, "--allow", "nobody")
	eventually(t, "the worker listens", 20*time.Second, func() bool {
		_, err := os.Stat(socket)
		return err == nil
	})
	s.running = wrapped{bare: true, dir: s.dir}.start(t, "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
		lab.tlswrap, "--worker", socket, "/usr/bin/python3", testFile(t, "serve_echo.py"), s.portString(), filepath.Join(s.dir, "server.key"))
	s.listens(t)
	s.mustServe(t, nil)
	if want := "server.key: Permission denied"; !strings.Contains(s.stderr.String(), want) {
		t.Errorf("%q is missing in %q", want, s.stderr)
	}
}

func TestServerIsToldByThePROXYProtocol(t *testing.T) {
	clients, err := testkit.NewAuthority("clients")
	if err != nil {
		t.Fatal(err)
	}
	s := serveUnder(t, "proxy_protocol = true\nclient_ca_file = \"clients.pem\"\nclient_auth = \"require\"\nalpn = [\"echo\"]\n")
	if err := clients.WriteFile(filepath.Join(s.dir, "clients.pem")); err != nil {
		t.Fatal(err)
	}
	s.startEcho(t)
	config := s.clientCert(t, clients, testkit.Leaf{CommonName: "alice"})
	config.NextProtos = []string{"echo"}
	conn, err := s.dial(t, config)
	if err != nil {
		t.Fatal(err)
	}
	// The server echoes the header after its greeting.
	r := bufio.NewReader(conn)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	var head [16]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatal(err)
	}
	if string(head[:14]) != "\r\n\r\n\x00\r\nQUIT\n\x21\x11" {
		t.Fatalf("the header begins with %q", head)
	}
	rest := make([]byte, binary.BigEndian.Uint16(head[14:]))
	if _, err := io.ReadFull(r, rest); err != nil {
		t.Fatal(err)
	}
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest)), binary.BigEndian.Uint16(rest[8:]))
	if from.String() != conn.LocalAddr().String() {
		t.Errorf("the header's source is %v, want %v", from, conn.LocalAddr())
	}
	for _, want := range []string{"\x01\x00\x04echo", "\x02\x00\x0fdb.example.test", "\x22\x00\x05alice", "\x21\x00\x07TLSv1.3"} {
		if !bytes.Contains(rest, []byte(want)) {
			t.Errorf("the header lacks %q: %q", want, rest)
		}
	}
}

func TestInheritedListenerIsServed(t *testing.T) {
	s := serveUnder(t, "")
	// systemd-socket-activate's work, by a shell of Python.
	s.running = wrapped{bare: true, dir: s.dir}.start(t, "/usr/bin/python3", testFile(t, "activate.py"), s.portString(),
		lab.tlswrap, "--rules", s.rules, "/usr/bin/python3", testFile(t, "serve_echo.py"), "fd:3")
	s.listens(t)
	if greeting, conn := s.mustServe(t, nil); !strings.Contains(greeting, "accepted="+conn.LocalAddr().String()) {
		t.Errorf("the server greets with %q", greeting)
	}
}

// A client that somebody else has accepted gets TLS too, by whatever descriptor it comes.
func TestInheritedClientIsServed(t *testing.T) {
	const accept = `import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client = listener.accept()[0]
    if os.fork() == 0:
        null, fds = os.open("/dev/null", os.O_RDWR), [int(fd) for fd in sys.argv[2].split(",")]
        os.dup2(client.fileno(), 9)
        for fd in [0, 1, 2]: os.dup2(null, fd)
        for fd in fds: os.dup2(9, fd)
        if 3 in fds: os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        os.closerange(4, 99)
        os.execv(sys.argv[3], sys.argv[3:])
    client.close()
`
	for fds, script := range map[string]string{"0,1": "echo $MARKER", "0,1,2": "echo $MARKER >&2", "3": "echo $MARKER >&3", "0,1,3": "echo $MARKER >&3"} {
		t.Run(fds, func(t *testing.T) {
			s := serveUnder(t, "")
			s.running = wrapped{bare: true, dir: s.dir, env: []string{"MARKER=" + s.marker}}.start(t, "/usr/bin/python3", "-c", accept,
				s.portString(), fds, lab.tlswrap, "--rules", s.rules, "sh", "-c", script)
			s.listens(t)
			conn, err := s.dial(t, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(conn); string(got) != s.marker+"\n" || err != nil {
				t.Errorf("the client read %q, %v", got, err)
			}
		})
	}
}

// cpuTicks is the processor time of a process (proc_pid_stat(5), utime and stime).
func cpuTicks(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')'):]))
	user, err1 := strconv.Atoi(fields[12])
	system, err2 := strconv.Atoi(fields[13])
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return user + system
}

// Whoever shuts the socket down that the worker accepts from leaves a worker that rests.
func TestListenerThatIsShutDownElsewhereCostsNothing(t *testing.T) {
	const script = `import os, signal, socket, sys
listener = socket.socket()
listener.bind(("127.0.0.1", int(sys.argv[1])))
if os.fork() == 0:
    sys.stdin.readline()
    listener.shutdown(socket.SHUT_RDWR)
    print("shut", flush=True)
    sys.stdin.read()
    os._exit(0)
listener.listen()
signal.pause()
`
	s := serveUnder(t, "")
	s.start(t, "/usr/bin/python3", "-c", script, s.portString())
	if _, err := s.dial(t, nil); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(s.stdin)
	eventually(t, "the socket is shut down", 20*time.Second, func() bool { return strings.Contains(s.stdout.String(), "shut") })
	worker := workerOf(t, s.rules)
	before := cpuTicks(t, worker)
	time.Sleep(time.Second) // the time in which it must do nothing
	if ticks := cpuTicks(t, worker) - before; ticks > 20 {
		t.Errorf("in a second the worker used %d ticks of a processor", ticks)
	}
}

func TestOpenSSLClientTalksToMemcached(t *testing.T) {
	s := serveUnder(t, "")
	s.start(t, "memcached", "-u", "nobody", "-l", "127.0.0.1", "-U", "0", "-p", s.portString())
	value := strings.Repeat(s.marker, 30000)
	w := wrapped{bare: true, stdin: strings.NewReader(fmt.Sprintf("set k 0 0 %d\r\n%s\r\nget k\r\nquit\r\n", len(value), value))}
	e := w.run(t, "openssl", "s_client", "-quiet", "-nocommands", "-verify_return_error", "-CAfile", lab.rootPEM,
		"-verify_hostname", s.host, "-connect", "127.0.0.1:"+s.portString())
	if !strings.Contains(e.stdout, "STORED\r\nVALUE k 0 "+fmt.Sprint(len(value))+"\r\n"+value+"\r\nEND") {
		t.Errorf("status %d, stdout %q, stderr %q", e.status, tail(e.stdout), tail(e.stderr))
	}
}

func TestRedisServerGetsTLSWithoutKnowingIt(t *testing.T) {
	s := serveUnder(t, "")
	s.start(t, "redis-server", "--port", s.portString(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.dir)
	var commands strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&commands, "SET key:%d %s\n", i, s.marker)
	}
	w := wrapped{bare: true, stdin: strings.NewReader(commands.String())}
	e := w.run(t, "redis-cli", "--tls", "--cacert", lab.rootPEM, "-h", s.host, "-p", s.portString(), "--pipe").must(t)
	if !strings.Contains(e.stdout, "errors: 0, replies: 20000") {
		t.Errorf("redis-cli said %q", e.stdout)
	}
}
