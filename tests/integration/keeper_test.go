package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tlswrap/tests/testkit"
)

// What the kernel holds outlives its worker as what is preloaded does, and a person learns why it is refused meanwhile.
func TestHeldProgramsGoOnWithTheNextWorker(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, "db.example.test", echo)
	passing := fmt.Sprintf("[[rule]]\nhost = %q\nport = 1\n", s.host)
	covering := fmt.Sprintf("ca_file = %q\n[[rule]]\nhost = \"127.0.0.1\"\nport = %d\nserver_name = %q\n", lab.rootPEM, s.port, s.host)
	p, _ := startLongLived(t, s, passing, false)
	for _, how := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		p.does("pass", "passed")
		p.endWorker(how)
		p.does("pass", "ENETDOWN")
		p.does("talk on this machine", "talked")
		p.startWorker(covering)
		p.does("talk", "echoed")
		p.endWorker(how)
		p.does("read", "ECONNRESET")
		p.startWorker(passing)
	}
	p.does("pass", "passed")
	sentence := fmt.Sprintf("refused: no worker answers at %s (tlswrap worker --socket %[1]s starts one)\n", p.socket)
	if words := p.stderr.String(); strings.Count(words, "\n") != 1 || !strings.HasSuffix(words, sentence) {
		t.Errorf("the person is told %q, want once %q", words, sentence)
	}
}

// waitsForTheKernel reports whether a process's first thread waits for a call that was handed over.
func waitsForTheKernel(t *testing.T, pid int) bool {
	t.Helper()
	where, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(where), "seccomp")
}

// What a program starts that outlives its worker is held as well, though it cannot be preloaded.
func TestStaticProgramsStartUnderTheNextWorker(t *testing.T) {
	t.Parallel()
	s := serveSite(t, "db.example.test")
	rules := fmt.Sprintf("ca_file = %q\n[[rule]]\nhost = %q\nport = %d\n", lab.rootPEM, s.host, s.port)
	p := &longLived{t: t, socket: filepath.Join(t.TempDir(), "control", "socket")}
	p.startWorker(rules)
	p.running = wrapped{flags: []string{"--worker", p.socket}}.start(t, "bash", "-c", `while read; do "$@"; done`, "bash",
		busyboxStatic(t), "wget", "-q", "-O", "-", s.url("/fixed"))
	for _, how := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		p.does("", s.marker)
		p.endWorker(how)
		p.startWorker(rules)
	}
	p.does("", s.marker)
}

// While no worker answers a thread changes what a call is about that the kernel may make by itself: nothing connects.
func TestDescriptorThatAnotherThreadChangesLeaksNothingWithoutAWorker(t *testing.T) {
	config := serverConfig(t, testkit.Leaf{Names: []string{"other.example.test"}})
	race := compile(t, "race.c", kinds["notified"]...)
	for _, what := range []string{"address", "family", "close", "dup", "unix"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			secret := newMarker()
			covered, seen := serveTapped(t, "127.0.0.2:0", secret, config)
			plain, _ := serveTapped(t, "127.0.0.3:0", secret, nil)
			p := &longLived{t: t, socket: filepath.Join(t.TempDir(), "control", "socket")}
			p.startWorker(fmt.Sprintf("[[rule]]\nhost = \"other.example.test\"\nport = %d\naction = \"deny\"\n", covered))
			p.running = wrapped{flags: []string{"-q", "--worker", p.socket}}.start(t, busyboxStatic(t), "sh", "-c", `echo; read line; exec "$@"`, "sh",
				race, what, fmt.Sprint(covered), fmt.Sprint(plain), secret, "2")
			p.says()
			p.endWorker(syscall.SIGKILL)
			fmt.Fprintln(p.stdin)
			if said := p.says(); strings.HasPrefix(said, "0 attempts") {
				t.Errorf("the program said %q, stderr %q", said, p.stderr.String())
			}
			seen.mu.Lock()
			defer seen.mu.Unlock()
			if len(seen.leaks) > 0 || seen.conns > 0 {
				t.Errorf("%d connections came, %d times with plaintext: %q", seen.conns, len(seen.leaks), seen.leaks)
			}
		})
	}
}
