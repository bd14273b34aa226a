package integration

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tlswrap/proxy/session"
	"tlswrap/tests/testkit"
)

// A worker that does not answer is a missing one: the shim waits ten seconds.
func TestWorkerThatIsStuckIsENETDOWN(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, "db.example.test", echo)
	r := s.wrapped().start(t, python, "-u", "-c", `import errno, socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(b"x\n")
print(s.recv(10))
sys.stdin.readline()
try: socket.socket().connect(("127.0.0.1", int(sys.argv[2])))
except OSError as e: print(errno.errorcode.get(e.errno, e))`, s.host, s.portString())
	eventually(t, "the program is connected", 20*time.Second, func() bool { return r.stdout.String() == "b'x\\n'\n" })
	worker := workerOf(t, s.hostport())
	syscall.Kill(worker, syscall.SIGSTOP)
	defer syscall.Kill(worker, syscall.SIGCONT)
	fmt.Fprintln(r.stdin)
	eventually(t, "the program learns of it", 30*time.Second, func() bool { return strings.HasSuffix(r.stdout.String(), "\nENETDOWN\n") })
}

func TestWorkerThatCannotStartIsNamed(t *testing.T) {
	t.Parallel()
	e := wrapped{flags: []string{"--log", "/nonexistent/log"}}.run(t, "true")
	if e.status != 125 || e.stderr != "tlswrap: opening the log: open /nonexistent/log: no such file or directory\n" {
		t.Errorf("status %d, stderr %q", e.status, e.stderr)
	}
}

// sharedWorker starts a worker for many programs and returns its socket and process.
func sharedWorker(t *testing.T, prefix []string, flags ...string) (socket string, r *running) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "control", "socket")
	argv := append(append(prefix, lab.tlswrap, "worker", "--socket", socket), flags...)
	r = wrapped{bare: true}.start(t, argv...)
	eventually(t, "the worker serves", 20*time.Second, func() bool { return strings.Contains(r.stderr.String(), "serves") })
	return socket, r
}

func TestWorkerOutOfDescriptorsRecovers(t *testing.T) {
	t.Parallel()
	for kind, flags := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := serveTLS(t, "db.example.test", echo)
			// 40 descriptors hold about a dozen connections.
			socket, _ := sharedWorker(t, []string{"prlimit", "--nofile=40:40"}, s.flags()...)
			w := wrapped{flags: []string{"--worker", socket}}
			e := w.run(t, compile(t, "dials.c", flags...), "recovers", s.host, s.portString(), s.marker)
			if e.stdout != "some held, then none\nagain\n" {
				t.Errorf("the program saw %q, stderr %q", e.stdout, e.stderr)
			}
		})
	}
}

// What the worker remembers of connections that broke leaves descriptors for others, and they end with
// their session.
func TestBrokenConnectionsLeaveDescriptorsForOthers(t *testing.T) {
	t.Parallel()
	for kind, flags := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := serveTLS(t, "db.example.test", func(string) func(net.Conn) {
				return func(conn net.Conn) {
					testkit.EchoLine(conn)
					conn.(*tls.Conn).NetConn().Close() // without close_notify
				}
			})
			const few = 40
			socket, worker := sharedWorker(t, []string{"prlimit", fmt.Sprintf("--nofile=%d:%d", few, few)}, s.flags()...)
			before := openSockets(t, worker.cmd.Process.Pid)
			w := wrapped{flags: []string{"-q", "--worker", socket}}
			e := w.run(t, compile(t, "dials.c", flags...), "breaks", s.host, s.portString(), s.marker)
			if e.stdout != "60 broken, OK\n" {
				t.Errorf("the program saw %q, stderr %q", e.stdout, e.stderr)
			}
			eventually(t, "what is remembered goes with its session", session.KeepFailed/2, func() bool {
				return openSockets(t, worker.cmd.Process.Pid) <= before
			})
		})
	}
}

// openSockets is how many of a process's descriptors are sockets.
func openSockets(t *testing.T, pid int) (n int) {
	t.Helper()
	all, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		if to, _ := os.Readlink(fd); strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// A worker that gets no more memory dies, as Go programs do, and one can be killed. Its connections are
// reset, and nothing goes out without it, nor does anything hang.
func TestWorkerThatDiesFailsClosed(t *testing.T) {
	t.Parallel()
	for how, command := range map[string]string{"memory": "prlimit --pid %d --as=4096:4096", "killed": "kill -9 %d"} {
		for kind, flags := range kinds {
			t.Run(how+"/"+kind, func(t *testing.T) {
				t.Parallel()
				s := serveTLS(t, "db.example.test", echo)
				socket, worker := sharedWorker(t, nil, s.flags()...)
				w := wrapped{flags: []string{"--worker", socket}}
				e := w.run(t, compile(t, "dials.c", flags...), "dies", s.host, s.portString(), s.marker,
					fmt.Sprintf(command, worker.cmd.Process.Pid))
				if want := "refused\nECONNRESET\nENETDOWN\n"; e.stdout != want {
					t.Errorf("the program saw %q, want %q, stderr %q", e.stdout, want, e.stderr)
				}
			})
		}
	}
}

// Ten thousand connections at once: two workers, since the limit of descriptors of one process is 20,000 on
// many machines, and a connection has two. Where the kernel hands calls over, a program has fewer of them: the
// worker looks through all its descriptors when it connects.
func TestTenThousandConnections(t *testing.T) {
	const workers, each = 2, 5000
	cert, err := lab.root.Issue(testkit.Leaf{Names: []string{"db.example.test"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, _, err := cert.WriteFiles(dir, "crowd"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(testFile(t, "crowd.conf"))
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t, "db.example.test")
	conf := filepath.Join(dir, "nginx.conf")
	text = []byte(strings.NewReplacer("PREFIX", dir, "LISTEN", address).Replace(string(text)))
	if err := os.WriteFile(conf, text, 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o755)
	server := wrapped{bare: true}.start(t, "nginx", "-c", conf, "-g", "user root;")
	eventually(t, "nginx serves", 20*time.Second, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	_, port, _ := net.SplitHostPort(address)
	w := wrapped{flags: []string{"--ca", lab.rootPEM, "--tls", "db.example.test:" + port}}
	for kind, flags := range kinds {
		t.Run(kind, func(t *testing.T) {
			crowd := compile(t, "crowd.c", flags...)
			programs := 1
			if kind == "notified" {
				programs = 4
			}
			command := strings.Repeat(`"$@" & `, programs) + "wait"
			want := strings.Repeat(fmt.Sprintf("%d\n", each/programs), programs)
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					e := w.run(t, "sh", "-c", command, "sh", crowd, fmt.Sprint(each/programs), "db.example.test", port)
					if e.stdout != want {
						t.Errorf("%q of %d connections answered: %s\n%s", e.stdout, each, tail(e.stderr), server.stderr)
					}
				})
			}
			wg.Wait()
		})
	}
}

// freeAddress is one on which nothing listened a moment ago.
func freeAddress(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", listenAddr(t, host))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestRulesReloadedUnderLoad(t *testing.T) {
	s := serveSite(t, "db.example.test")
	rule := fmt.Sprintf("ca_file = %q\n[[rule]]\nhost = %q\nport = %d\n", lab.rootPEM, s.host, s.port)
	file := writeRules(t, rule)
	socket, worker := sharedWorker(t, nil, "--rules", file)
	reloads := func() int { return strings.Count(worker.stderr.String(), "rules reloaded") }
	w := wrapped{flags: []string{"--worker", socket}}
	args := []string{"-Z"}
	for range 300 {
		args = append(args, s.url("/fixed"))
	}
	for n := 0; reloads() < 3; n++ {
		if n == 100 {
			t.Fatal("the rules were not reloaded")
		}
		next := file + ".next"
		if err := os.WriteFile(next, []byte(rule+strings.Repeat("# again\n", n)), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, file); err != nil {
			t.Fatal(err)
		}
		// Loads go on until the worker has found the file and read it.
		for before := reloads(); reloads() == before; {
			got := w.run(t, quietCurl(args...)...).must(t).stdout
			if got != strings.Repeat(s.marker+"\n", 300) {
				t.Fatalf("%d of 300 answers arrived", strings.Count(got, s.marker))
			}
		}
	}
}

// A file is empty for a moment where it is written in place.
func TestRulesFileThatIsBeingWrittenIsNotBelieved(t *testing.T) {
	t.Parallel()
	s := serveSite(t, "db.example.test")
	rule := fmt.Sprintf("ca_file = %q\n[[rule]]\nhost = %q\n", lab.rootPEM, s.host)
	file := writeRules(t, rule)
	socket, worker := sharedWorker(t, nil, "--rules", file)
	w := wrapped{flags: []string{"--worker", socket}}
	for _, part := range []string{"", fmt.Sprintf("ca_file = %q\n", lab.rootPEM)} {
		if err := os.WriteFile(file, []byte(part), 0o644); err != nil {
			t.Fatal(err)
		}
		before := strings.Count(worker.stderr.String(), "not reloaded")
		worker.cmd.Process.Signal(syscall.SIGHUP)
		eventually(t, "the file is refused", 20*time.Second, func() bool {
			return strings.Count(worker.stderr.String(), "not reloaded") > before
		})
		w.run(t, quietCurl(s.url("/fixed"))...).must(t)
	}
}

func TestChangedRulesFileCountsForTheNextConnection(t *testing.T) {
	t.Parallel()
	s := serveSite(t, "db.example.test")
	rule := fmt.Sprintf("ca_file = %q\n[[rule]]\nhost = %q\n", lab.rootPEM, s.host)
	file := writeRules(t, rule)
	socket, worker := sharedWorker(t, nil, "--rules", file)
	w := wrapped{flags: []string{"--worker", socket}}
	w.run(t, quietCurl(s.url("/fixed"))...).must(t)

	if err := os.WriteFile(file, []byte(rule+"prot = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the broken file is reported", 20*time.Second, func() bool {
		return strings.Contains(worker.stderr.String(), `unknown key \"prot\"`)
	})
	w.run(t, quietCurl(s.url("/fixed"))...).must(t)

	if err := os.WriteFile(file, []byte(rule+"action = \"deny\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new rule counts", 20*time.Second, func() bool {
		e := w.run(t, quietCurl(s.url("/fixed"))...)
		return e.status == 7 && strings.Contains(e.stderr, "a rule denies it")
	})
}

// hostile starts a server that answers the ClientHello with what talk writes, and
// expects the verdict of a program that connects to it.
func hostile(t *testing.T, timeout string, talk func(net.Conn), want string) {
	t.Helper()
	server, err := testkit.Serve("127.0.0.1:0", nil, func(c net.Conn) {
		c.Read(make([]byte, 4096))
		talk(c)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	rules := fmt.Sprintf("[[rule]]\nhost = \"127.0.0.1\"\nport = %d\ntimeout = %q\n", server.Port(), timeout)
	for kind, flags := range kinds {
		probe := compile(t, "probe.c", flags...)
		e := wrapped{flags: []string{"--rules", writeRules(t, rules)}}.run(t, probe, "block", "127.0.0.1", fmt.Sprint(server.Port()), "secret")
		if !strings.HasPrefix(e.stdout, "connect="+want+"\n") {
			t.Errorf("the %s program saw %q, want %s: %s", kind, e.stdout, want, e.stderr)
		}
		if strings.Count(e.stderr, "\n") != 1 {
			t.Errorf("%s: not one sentence: %q", kind, e.stderr)
		}
	}
}

func TestHostileServers(t *testing.T) {
	record := func(kind byte, n int) []byte {
		return append([]byte{kind, 3, 3, byte(n >> 8), byte(n)}, make([]byte, n)...)
	}
	t.Run("an endless handshake message", func(t *testing.T) {
		t.Parallel()
		hostile(t, "20s", func(c net.Conn) {
			first := record(22, 16384)
			copy(first[5:], []byte{2, 0xff, 0xff, 0xff}) // a ServerHello of 16 MiB
			c.Write(first)
			io.Copy(c, io.LimitReader(testkit.Body("x"), 100<<20))
		}, "EPROTO")
	})
	t.Run("a record that is too long", func(t *testing.T) {
		t.Parallel()
		hostile(t, "20s", func(c net.Conn) { c.Write(record(22, 65535)) }, "EPROTO")
	})
	t.Run("empty records without end", func(t *testing.T) {
		t.Parallel()
		hostile(t, "20s", func(c net.Conn) { c.Write(bytes.Repeat(record(22, 0), 1<<20)) }, "EPROTO")
	})
	t.Run("a byte at a time", func(t *testing.T) {
		t.Parallel()
		hostile(t, "1s", func(c net.Conn) {
			for _, b := range record(22, 16384) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		}, "ETIMEDOUT")
	})
	t.Run("terminal control characters", func(t *testing.T) {
		t.Parallel()
		hostile(t, "20s", func(c net.Conn) { io.WriteString(c, "220 \x1b[2Jmail\x07\r\n") }, "EPROTO")
	})
}
