package integration

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// longLived is a program that outlives its workers.
type longLived struct {
	*running
	t      *testing.T
	socket string
	worker *running
	said   int
}

// startWorker starts the next worker at the same place.
func (p *longLived) startWorker(rules string) {
	p.t.Helper()
	p.worker = wrapped{bare: true}.start(p.t, lab.tlswrap, "worker", "--socket", p.socket, "--rules", writeRules(p.t, rules))
	eventually(p.t, "the worker serves", 20*time.Second, func() bool { return strings.Contains(p.worker.stderr.String(), "serves") })
}

func (p *longLived) endWorker(how syscall.Signal) {
	p.worker.cmd.Process.Signal(how)
	<-p.worker.done
}

// says waits for the program's next line.
func (p *longLived) says() string {
	p.t.Helper()
	p.said++
	eventually(p.t, "the program says something", 30*time.Second, func() bool { return strings.Count(p.stdout.String(), "\n") >= p.said })
	return strings.Split(p.stdout.String(), "\n")[p.said-1]
}

// does has the program do something, and compares what it says.
func (p *longLived) does(command, want string) {
	p.t.Helper()
	fmt.Fprintln(p.stdin, command)
	if got := p.says(); got != want {
		p.t.Errorf("%s: the program said %q, want %q; the worker's log:\n%s", command, got, want, tail(p.worker.stderr.String()))
	}
}

// held is a program's command without the library, so that the kernel alone hands its calls over.
func held(t *testing.T, argv ...string) []string {
	t.Helper()
	return append([]string{busyboxStatic(t), "sh", "-c", `exec env -i "$@"`, "sh"}, argv...)
}

// startLongLived starts one that is preloaded, or held by the kernel alone, and returns on which port it listens.
func startLongLived(t *testing.T, s *site, rules string, preloaded bool) (p *longLived, listens string) {
	t.Helper()
	p = &longLived{t: t, socket: filepath.Join(t.TempDir(), "control", "socket")}
	p.startWorker(rules)
	argv := []string{python, testFile(t, "long_lived.py"), s.host, s.portString(), s.marker}
	if !preloaded {
		argv = held(t, argv...)
	}
	p.running = wrapped{flags: []string{"--worker", p.socket}}.start(t, argv...)
	return p, p.says()
}

// The program goes on with the worker that comes after its own, and by that one's rules: what
// passed is TLS now. In between nothing passes.
func TestProgramsGoOnWithTheNextWorker(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, "db.example.test", echo)
	passing := fmt.Sprintf("[[rule]]\nhost = %q\nport = 1\n", s.host)
	covering := fmt.Sprintf("ca_file = %q\n[[rule]]\nhost = \"127.0.0.1\"\nport = %d\nserver_name = %q\n[[rule]]\nhost = %[3]q\nport = %[2]d\n",
		lab.rootPEM, s.port, s.host)
	p, _ := startLongLived(t, s, passing, true)
	for _, how := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		p.does("pass", "passed")
		p.does("look up", "True")
		p.endWorker(how)
		p.does("pass", "ENETDOWN")
		p.startWorker(covering)
		p.does("talk to synthetic", "EHOSTUNREACH") // it was the old worker's
		p.does("talk by name", "echoed")
		p.does("talk", "echoed")
		p.endWorker(how)
		p.does("read", "ECONNRESET")
		p.startWorker(passing)
	}
	if log := p.worker.stderr.String(); strings.Contains(log, "adopted") {
		t.Errorf("a session was adopted before it was asked for: %s", log)
	}
	p.does("pass", "passed")
	eventually(t, "the log tells of the session", 10*time.Second, func() bool { return strings.Contains(p.worker.stderr.String(), "adopted") })
}

// What a program listens on by itself is not left to it by the next worker, if that has a rule.
func TestNextWorkerServesWhatTheProgramListensOn(t *testing.T) {
	t.Parallel()
	for kind, preloaded := range map[string]bool{"preloaded": true, "notified": false} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			nextWorkerServes(t, preloaded)
		})
	}
}

func nextWorkerServes(t *testing.T, preloaded bool) {
	s := serveTLS(t, "db.example.test", echo)
	connects := fmt.Sprintf("ca_file = %q\n[[rule]]\nhost = %q\nport = %d\n", lab.rootPEM, s.host, s.port)
	p, port := startLongLived(t, s, connects, preloaded)
	read := func(c net.Conn, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		got, _ := io.ReadAll(c)
		return string(got)
	}
	at := "127.0.0.1:" + port
	fmt.Fprintln(p.stdin, "accept without TLS")
	if got := read(net.Dial("tcp", at)); got != "no secret\n" {
		t.Errorf("without a rule the client read %q", got)
	}
	if got := p.says(); got != "served" {
		t.Fatalf("the program said %q", got)
	}
	p.endWorker(syscall.SIGKILL)
	p.does("accept", "ENETDOWN")

	number, _ := strconv.Atoi(port)
	watchPort(t, s.host, uint16(number), s.marker)
	cert, err := lab.root.Issue(testkit.Leaf{Names: []string{s.host}})
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := cert.WriteFiles(t.TempDir(), "server")
	if err != nil {
		t.Fatal(err)
	}
	p.startWorker(connects + fmt.Sprintf("[[listen]]\nport = %s\ncert_file = %q\nkey_file = %q\n", port, certFile, keyFile))
	fmt.Fprintln(p.stdin, "accept")
	dialer := &net.Dialer{Timeout: 20 * time.Second}
	if got := read(tls.DialWithDialer(dialer, "tcp", at, &tls.Config{RootCAs: lab.root.Pool(), ServerName: s.host})); got != s.marker+"\n" {
		t.Errorf("the client read %q", got)
	}
	if got := p.says(); got != "served" {
		t.Errorf("the program said %q", got)
	}
	p.does("talk by name", "echoed")

	// That listener was this worker's: once it has died nobody is let in, and what the kernel holds is not left waiting.
	if !preloaded {
		fmt.Fprintln(p.stdin, "accept")
		eventually(t, "the program waits for a client", 20*time.Second, func() bool { return waitsForTheKernel(t, p.cmd.Process.Pid) })
	}
	p.endWorker(syscall.SIGKILL)
	if !preloaded {
		if got := p.says(); got != "ENETDOWN" {
			t.Errorf("the program that waited for a client said %q", got)
		}
	}
	p.startWorker(connects)
	if c, err := net.Dial("tcp", at); err == nil {
		c.Close()
		t.Error("somebody listens for the worker that died")
	}
}

// Threads look at the map while another thread puts the next worker's in its place.
func TestThreadsConnectWhileWorkersComeAndGo(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, "db.example.test", echo)
	rules := fmt.Sprintf("ca_file = %q\n[[rule]]\nhost = \"127.0.0.1\"\nport = %d\nserver_name = %q\n", lab.rootPEM, s.port, s.host)
	p := &longLived{t: t, socket: filepath.Join(t.TempDir(), "control", "socket")}
	p.startWorker(rules)
	p.running = wrapped{flags: []string{"--worker", p.socket}}.start(t, python, testFile(t, "threads_connect.py"), s.portString(), s.marker)
	if got := p.says(); got != "ready" {
		t.Fatalf("the program said %q", got)
	}
	for range 4 {
		p.does("all threads connect", "connected")
		p.endWorker(syscall.SIGKILL)
		p.does("all threads fail", "failed")
		p.startWorker(rules)
	}
	p.does("all threads connect", "connected")
}

// Who has read that a worker serves may send it signals.
func TestWorkerThatServesTakesSignals(t *testing.T) {
	t.Parallel()
	for range 10 {
		socket := filepath.Join(t.TempDir(), "control", "socket")
		worker := exec.Command(lab.tlswrap, "worker", "--socket", socket, "--tls", "db.example.test:1")
		said, err := worker.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := worker.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(said)
		lines.Scan()
		worker.Process.Signal(syscall.SIGHUP)
		if !lines.Scan() || !strings.Contains(lines.Text(), "rules reloaded") {
			t.Errorf("after SIGHUP the worker said %q", lines.Text())
		}
		worker.Process.Kill()
		worker.Wait()
	}
}
