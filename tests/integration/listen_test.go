package integration

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// served is a server that runs under a listen rule, and knows nothing of TLS.
type served struct {
	*site
	*running
	dir   string   // its own, also for its files
	rules string   // the rules file
	more  []string // flags of tlswrap, beside that
	cert  *testkit.Certificate
}

// serveUnder makes the folder and the rules of a server on a free port. more is what the
// listen rule says beside its certificate.
func serveUnder(t *testing.T, more string) *served {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) { // some serve as nobody
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := lab.root.Issue(testkit.Leaf{Names: []string{"db.example.test"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := cert.WriteFiles(dir, "server"); err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(closedPort(t), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	s := &served{site: watchPort(t, "db.example.test", uint16(port), newMarker()), dir: dir, cert: cert}
	s.rules = filepath.Join(dir, "rules.toml")
	text := fmt.Sprintf("[[listen]]\nport = %d\ncert_file = \"server.pem\"\nkey_file = \"server.key\"\n%s", port, more)
	if err := os.WriteFile(s.rules, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// start starts the server, and waits until it listens.
func (s *served) start(t *testing.T, argv ...string) {
	t.Helper()
	s.running = wrapped{flags: append([]string{"--rules", s.rules}, s.more...), dir: s.dir}.start(t, argv...)
	s.listens(t)
}

func (s *served) listens(t *testing.T) {
	t.Helper()
	eventually(t, "the server listens", 20*time.Second, func() bool {
		select {
		case <-s.done:
			t.Fatalf("the server ended: %s%s", s.stdout, s.stderr)
		default:
		}
		c, err := net.Dial("tcp", "127.0.0.1:"+s.portString())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// https is a URL of the server's, with the marker in it.
func (s *served) https(path string) string {
	return "https://" + s.hostport() + path + "?" + s.marker
}

// curl is a client that is not wrapped, and trusts the test's root.
func (s *served) curl(t *testing.T, args ...string) ended {
	t.Helper()
	return wrapped{bare: true}.run(t, quietCurl(append([]string{"--cacert", lab.rootPEM}, args...)...)...)
}

// conf writes a configuration of testdata, with what is particular about this server.
func (s *served) conf(t *testing.T, name, www string) string {
	t.Helper()
	text, err := os.ReadFile(testFile(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, name, strings.NewReplacer("DIR", s.dir, "WWW", www, "PORT", s.portString()).Replace(string(text)))
}

const servedSize = 3 << 20

// www makes a folder with the file big, of which all bytes are the marker's.
func (s *served) www(t *testing.T) string {
	t.Helper()
	www := filepath.Join(s.dir, "www")
	data, err := io.ReadAll(io.LimitReader(testkit.Body(s.marker), servedSize))
	if err == nil {
		err = os.Mkdir(www, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(www, "big"), data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return www
}

// The programs that serve HTTP under tlswrap, and whether they give back what was sent.
var httpServers = map[string]struct {
	start func(t *testing.T, s *served, www string)
	post  bool
}{
	"nginx": {start: func(t *testing.T, s *served, www string) {
		if err := os.Chmod(s.dir, 0o777); err != nil {
			t.Fatal(err)
		}
		s.start(t, "nginx", "-c", s.conf(t, "nginx_serve.conf", www))
	}},
	"apache prefork": {start: func(t *testing.T, s *served, www string) {
		s.start(t, "apache2", "-DFOREGROUND", "-f", s.conf(t, "apache.conf", www))
	}},
	"python http.server": {start: func(t *testing.T, s *served, www string) {
		s.start(t, "/usr/bin/python3", "-m", "http.server", "-b", "127.0.0.1", "-d", www, s.portString())
	}},
	"python asyncio": {post: true, start: func(t *testing.T, s *served, www string) {
		s.start(t, "/usr/bin/python3", testFile(t, "serve_asyncio.py"), s.portString(), filepath.Join(www, "big"))
	}},
	"node": {post: true, start: func(t *testing.T, s *served, www string) {
		s.start(t, "node", testFile(t, "serve.js"), s.portString(), filepath.Join(www, "big"))
	}},
	"java": {post: true, start: func(t *testing.T, s *served, www string) {
		s.start(t, "java", testFile(t, "Serve.java"), s.portString(), filepath.Join(www, "big"))
	}},
	"Go": {post: true, start: func(t *testing.T, s *served, www string) {
		s.start(t, goProgram(t, "goserver.go", false), "127.0.0.1:"+s.portString(), filepath.Join(www, "big"))
	}},
	"Go with cgo": {post: true, start: func(t *testing.T, s *served, www string) {
		s.start(t, goProgram(t, "goserver.go", true), "127.0.0.1:"+s.portString(), filepath.Join(www, "big"))
	}},
	"busybox-static httpd": {start: func(t *testing.T, s *served, www string) {
		s.start(t, busyboxStatic(t), "httpd", "-f", "-p", "127.0.0.1:"+s.portString(), "-h", www)
	}},
	"caddy file-server": {start: func(t *testing.T, s *served, www string) {
		testkit.Need(t, "caddy")
		s.running = wrapped{flags: []string{"--rules", s.rules}, dir: s.dir, env: []string{"XDG_DATA_HOME=" + s.dir, "XDG_CONFIG_HOME=" + s.dir}}.start(t,
			"caddy", "run", "--adapter", "caddyfile", "--config", writeFile(t, "Caddyfile",
				fmt.Sprintf("{\nadmin off\nauto_https off\n}\nhttp://:%s {\nbind 127.0.0.1\nroot * %s\nfile_server\n}\n", s.portString(), www)))
		s.listens(t)
	}},
	"rclone serve": {start: func(t *testing.T, s *served, www string) {
		testkit.Need(t, "rclone")
		s.start(t, "rclone", "--config", "/dev/null", "serve", "http", "--addr", "127.0.0.1:"+s.portString(), www)
	}},
	"busybox httpd by inetd": {start: func(t *testing.T, s *served, www string) {
		// socat is the inetd: it accepts, and passes the socket on as standard input.
		s.running = wrapped{bare: true, dir: s.dir}.start(t, "socat",
			"TCP-LISTEN:"+s.portString()+",bind=127.0.0.1,reuseaddr,fork", fmt.Sprintf("EXEC:%s --accept-stdin --rules %s busybox httpd -i -h %s,nofork", lab.tlswrap, s.rules, www))
		s.listens(t)
	}},
}

func TestServersGetTLSWithoutKnowingIt(t *testing.T) {
	for name, server := range httpServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveUnder(t, "")
			www := s.www(t)
			server.start(t, s, www)
			out := filepath.Join(t.TempDir(), "#1")
			s.curl(t, "-Z", "-o", out, s.https("/big")+"&n=[1-4]").must(t)
			for n := range 4 {
				if got, want := fileSum(t, filepath.Join(filepath.Dir(out), strconv.Itoa(n+1))), testkit.BodySum(s.marker, servedSize); got != want {
					t.Errorf("download %d has the sum %s, want %s", n+1, got, want)
				}
			}
			if !server.post {
				return
			}
			back := filepath.Join(t.TempDir(), "back")
			head := s.curl(t, "-D", "-", "-o", back, "-H", "Expect:", "--data-binary", "@"+filepath.Join(www, "big"), s.https("/")).must(t).stdout
			if got, want := fileSum(t, back), testkit.BodySum(s.marker, servedSize); got != want {
				t.Errorf("what was sent came back with the sum %s, want %s", got, want)
			}
			if !strings.Contains(head, "X-Client: 127.0.0.1\r\n") {
				t.Errorf("the program does not see its client: %q", head)
			}
		})
	}
}

// A [[listen]] whose key cannot be read is refused to who listens there, and to nobody else: a program that only
// connects does not need the key. A worker for many programs does not start, nor does a program with its client.
func TestAListenWithoutItsKeyIsRefusedAndNothingElse(t *testing.T) {
	up := serveSite(t, "other.example.test")
	s := serveUnder(t, fmt.Sprintf("[[rule]]\nhost = %q\nport = %d\nca_file = %q\n", up.host, up.port, lab.rootPEM))
	s.mayBeSilent = true
	if err := os.Remove(filepath.Join(s.dir, "server.key")); err != nil {
		t.Fatal(err)
	}
	why := s.rules + ":4:1: key_file cannot be read: open " + filepath.Join(s.dir, "server.key") + ": no such file or directory\n"
	warning := "tlswrap: warning: a [[listen]] is of no use, and to listen there is refused: " + why
	w := wrapped{flags: []string{"--rules", s.rules}}
	e := w.run(t, quietCurl(up.url("/fixed"))...)
	if e.status != 0 || e.stdout != up.marker+"\n" || e.stderr != warning {
		t.Errorf("a client: stdout %q, stderr %q, want %q", e.stdout, e.stderr, warning)
	}
	for name, server := range map[string][]string{
		"preloaded": {"/usr/bin/python3", testFile(t, "serve_echo.py"), s.portString()},
		"notified":  {busyboxStatic(t), "httpd", "-f", "-p", "127.0.0.1:" + s.portString(), "-h", s.dir},
	} {
		e := w.run(t, server...)
		if e.status == 0 || !strings.Contains(e.stderr, "tlswrap: listening on 127.0.0.1:"+s.portString()+": refused: "+why) || !strings.Contains(e.stderr, "ermission denied") {
			t.Errorf("%s: status %d, stderr %q", name, e.status, e.stderr)
		}
	}
	// The client on standard input has a port of this machine's, too.
	_, _, plain := servePlain(t, "db.example.test")
	rewrite(t, s.rules, func(text string) string {
		return strings.Replace(text, "port = "+s.portString(), `port = "1024-65535"`, 1)
	})
	e = wrapped{bare: true}.run(t, "bash", "-c", `port=$1; shift; exec "$@" <>/dev/tcp/127.0.0.1/$port`, "bash", fmt.Sprint(plain),
		lab.tlswrap, "--accept-stdin", "--rules", s.rules, "echo", "started")
	if e.status != 125 || e.stdout != "" || !strings.Contains(e.stderr, "tlswrap: a client of 127.0.0.1:") || !strings.Contains(e.stderr, ": refused: "+why) {
		t.Errorf("--accept-stdin: status %d, stdout %q, stderr %q", e.status, e.stdout, e.stderr)
	}
	for _, argv := range [][]string{{"check", s.rules}, {"worker", "--socket", filepath.Join(t.TempDir(), "socket"), "--rules", s.rules}} {
		e := wrapped{bare: true}.run(t, append([]string{lab.tlswrap}, argv...)...)
		if e.status != map[string]int{"check": 1, "worker": 125}[argv[0]] || !strings.Contains(e.stdout+e.stderr, why) {
			t.Errorf("%s: status %d, stdout %q, stderr %q", argv[0], e.status, e.stdout, e.stderr)
		}
	}
}
