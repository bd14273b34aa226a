package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// workersOf finds the live workers whose command line has word; a zombie is not alive.
func workersOf(t *testing.T, word string) []int {
	t.Helper()
	var pids []int
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		line, err := os.ReadFile(file) // a zombie's is empty
		if err != nil || !bytes.HasPrefix(line, []byte("goressl")) || !bytes.Contains(line, []byte(word)) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		pids = append(pids, pid)
	}
	return pids
}

// workerOf waits for the one worker of a run whose rules have word.
func workerOf(t *testing.T, word string) int {
	t.Helper()
	var pids []int
	eventually(t, "the worker runs", 20*time.Second, func() bool {
		pids = workersOf(t, word)
		return len(pids) == 1
	})
	return pids[0]
}

// workerTime is how long a worker may outlive its last program.
const workerTime = 5 * time.Second

func mustEnd(t *testing.T, word string) {
	t.Helper()
	eventually(t, "the worker ends", workerTime, func() bool { return len(workersOf(t, word)) == 0 })
}

func TestWorkerEndsAfterTheProgram(t *testing.T) {
	s := serveSite(t, "db.example.test")
	s.wrapped().run(t, quietCurl(s.url("/fixed"))...).must(t)
	mustEnd(t, s.hostport())
}

func TestWorkerEndsAfterAProgramThatNeverConnected(t *testing.T) {
	const host = "never.example.test:1"
	wrapped{flags: []string{"--tls", host}}.run(t, "true").must(t)
	mustEnd(t, host)
}

func TestWorkerEndsAfterTheProgramWasKilled(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	r := s.wrapped().start(t, python, "-c", `import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(b"x\n")
print(s.recv(10), flush=True)
s.recv(10)`, s.host, s.portString())
	eventually(t, "the program is connected", 20*time.Second, func() bool { return r.stdout.String() != "" })
	workerOf(t, s.hostport())
	r.cmd.Process.Kill()
	<-r.done
	mustEnd(t, s.hostport())
}

func TestWorkerStaysWhileAChildOfTheProgramLives(t *testing.T) {
	s := serveSite(t, "db.example.test")
	file := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	// The child outlives the program, waits for a word, and connects only then.
	script := `(read -t 60 -r word <>"$1"; shift; exec "$@" >"$word" 2>&1) </dev/null >/dev/null 2>&1 &`
	argv := append([]string{"bash", "-c", script, "bash", file}, quietCurl(s.url("/fixed"))...)
	argv = append(append([]string{lab.tlswrap}, s.flags()...), argv...)
	wrapped{bare: true}.run(t, append([]string{"sh", "-c", `exec "$@" 2>/dev/null`, "sh"}, argv...)...).must(t)
	worker := workerOf(t, s.hostport())
	time.Sleep(2 * time.Second) // longer than a worker lingers: nothing shows that it stays but time
	out := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(file, []byte(out+"\n"), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the child is done", 20*time.Second, func() bool {
		got, _ := os.ReadFile(out)
		return string(got) == s.marker+"\n"
	})
	if pids := workersOf(t, s.hostport()); len(pids) == 1 && pids[0] != worker {
		t.Errorf("another worker runs: %v, not %d", pids, worker)
	}
	mustEnd(t, s.hostport())
}

func TestWorkerThatDiedResetsConnectionsAndRefusesNewOnes(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	r := s.wrapped().start(t, python, "-u", "-c", `import errno, socket, sys
def dial():
    return socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
def say(f):
    try: print(f())
    except OSError as e: print(errno.errorcode.get(e.errno, e))
s = dial()
s.sendall(b"x\n")
print(s.recv(10))
synthetic = s.getpeername()[0]
sys.stdin.readline()
say(lambda: s.recv(10))
say(lambda: socket.socket().connect((synthetic, int(sys.argv[2]))))
say(lambda: socket.socket().connect(("127.0.0.1", int(sys.argv[2]))))`, s.host, s.portString())
	eventually(t, "the program is connected", 20*time.Second, func() bool { return r.stdout.String() == "b'x\\n'\n" })
	syscall.Kill(workerOf(t, s.hostport()), syscall.SIGKILL)
	mustEnd(t, s.hostport())
	fmt.Fprintln(r.stdin)
	<-r.done
	if got := r.stdout.String(); got != "b'x\\n'\nECONNRESET\nENETDOWN\nENETDOWN\n" {
		t.Errorf("the program saw %q: %s", got, r.stderr)
	}
}

// What the worker cannot say any more the library does, once in each process: one that has the library starts
// no program, and one that a static program starts has no network.
func TestLaterProgramsSayThatTheWorkerHasEnded(t *testing.T) {
	s := serveSite(t, "db.example.test")
	for _, shell := range [][]string{{"/bin/sh"}, {busyboxStatic(t), "sh"}} {
		r := s.wrapped().start(t, append(shell, "-c", `"$@"; read line; "$@"; echo $?`, "sh", "curl", "-sS", s.url("/fixed"))...)
		eventually(t, "the shell has started curl", 20*time.Second, func() bool { return r.stdout.String() == s.marker+"\n" })
		syscall.Kill(workerOf(t, s.hostport()), syscall.SIGKILL)
		mustEnd(t, s.hostport())
		fmt.Fprintln(r.stdin)
		<-r.done
		if got := r.stderr.String(); strings.Count(got, "tlswrap: ") != 1 || !strings.Contains(got, unreached) {
			t.Errorf("%v: a person sees %q", shell, got)
		}
		if got := strings.TrimPrefix(r.stdout.String(), s.marker+"\n"); got == "0\n" || strings.Contains(got, s.marker) {
			t.Errorf("%v: curl has got something: %q", shell, got)
		}
	}
}

func TestSharedWorkerServesManyPrograms(t *testing.T) {
	s := serveSite(t, "db.example.test")
	dir := filepath.Join(t.TempDir(), "control")
	socket := filepath.Join(dir, "socket")
	worker := wrapped{bare: true}.start(t, append([]string{lab.tlswrap, "worker", "--socket", socket}, s.flags()...)...)
	eventually(t, "the worker serves", 20*time.Second, func() bool { return strings.Contains(worker.stderr.String(), "serves") })
	w := wrapped{flags: []string{"--worker", socket}}
	for range 3 {
		if got := w.run(t, quietCurl(s.url("/fixed"))...).must(t).stdout; got != s.marker+"\n" {
			t.Errorf("curl got %q", got)
		}
	}
	worker.cmd.Process.Signal(syscall.SIGTERM)
	<-worker.done
	if e := w.run(t, "true"); e.status != 125 {
		t.Errorf("without the worker: status %d, stderr: %q", e.status, e.stderr)
	}
}

func TestDaemonDoesNotKeepWhoReadsOurStandardErrorWaiting(t *testing.T) {
	// As a daemon does, so that "program 2>&1 | cat" ends.
	ready := filepath.Join(t.TempDir(), "ready")
	script := `/usr/bin/python3 -c 'import sys, time; open(sys.argv[1], "w"); time.sleep(60)' "$1" </dev/null >/dev/null 2>&1 &
echo $!; until [ -e "$1" ]; do sleep 0.01; done`
	r := anyRule().start(t, "bash", "-c", script, "bash", ready)
	defer func() {
		if pid, err := strconv.Atoi(strings.TrimSpace(r.stdout.String())); err == nil {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}()
	eventually(t, "the daemon runs", 20*time.Second, func() bool { _, err := os.Stat(ready); return err == nil })
	select {
	case <-r.done:
	case <-time.After(5 * time.Second):
		t.Error("the program has ended, and the worker keeps its standard error open")
	}
}

func TestNonBlockingConnectDoesNotWaitLongForAStoppedWorker(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	r := s.wrapped().start(t, python, "-u", "-c", `import errno, socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
s.sendall(b"x\n")
print(s.recv(10))
sys.stdin.readline()
c = socket.socket()
c.setblocking(False)
begin = time.monotonic()
e = c.connect_ex(s.getpeername())
print(errno.errorcode.get(e, e), time.monotonic() - begin < 6)`, s.host, s.portString())
	eventually(t, "the program is connected", 20*time.Second, func() bool { return r.stdout.String() == "b'x\\n'\n" })
	worker := workerOf(t, s.hostport())
	syscall.Kill(worker, syscall.SIGSTOP)
	defer syscall.Kill(worker, syscall.SIGCONT)
	fmt.Fprintln(r.stdin)
	<-r.done
	if got := r.stdout.String(); got != "b'x\\n'\nENETDOWN True\n" {
		t.Errorf("the program saw %q: %s", got, r.stderr)
	}
}
