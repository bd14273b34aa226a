package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
