package integration

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProcess1 has a command be process 1 of a PID namespace, as containers do.
func asProcess1(argv ...string) []string {
	return append([]string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}, argv...)
}

// wrappedAsProcess1 is the same for tlswrap with a program.
func wrappedAsProcess1(flags []string, argv ...string) []string {
	return asProcess1(append(append([]string{lab.tlswrap}, flags...), argv...)...)
}

// heard is a server that tells how many bytes each client has sent, or -1 where the end was not one of TLS.
func heard(t *testing.T) (s *site, clients <-chan int) {
	all := make(chan int, 100)
	s = serveTLS(t, "db.example.test", func(string) func(net.Conn) {
		return func(c net.Conn) {
			n, err := io.Copy(io.Discard, c)
			if err != nil {
				n = -1
			}
			all <- int(n)
		}
	})
	return s, all
}

func TestLastWordsUnderProcess1Arrive(t *testing.T) {
	s, clients := heard(t)
	flags := s.flags()
	says := func(what string) []string {
		return []string{"bash", "-c", "exec 3<>/dev/tcp/" + s.host + "/" + s.portString() + "; " + what}
	}
	const small, large = "printf last-words >&3", "head -c 3000000 /dev/zero >&3"
	socket := filepath.Join(t.TempDir(), "control", "socket")
	workerInside := `t=$1 s=$2; shift 2; rm -f $s; $t worker --socket $s "$@" 2>/dev/null & shift $#; until [ -S $s ]; do sleep 0.1; done; exec $t --worker $s ` +
		"bash -c '" + says(small)[2] + "'"
	for _, c := range []struct {
		name string
		argv []string
		want int
	}{
		{"a few bytes", wrappedAsProcess1(flags, says(small)...), 10},
		{"3 MB", wrappedAsProcess1(flags, says(large)...), 3000000},
		{"killed", wrappedAsProcess1(flags, says(small+"; kill -9 $$")...), 10},
		{"a child's", wrappedAsProcess1(flags, "sh", "-c", `"$@" & while [ ! -e `+socket+`.said ]; do sleep 0.1; done`, "sh", says(small + "; touch " + socket + ".said; sleep 60")[0], "-c", says(small + "; mkdir -p " + filepath.Dir(socket) + "; touch " + socket + ".said; sleep 60")[2]), 10},
		{"a worker inside", asProcess1(append([]string{"bash", "-c", workerInside, "bash", lab.tlswrap, socket}, flags...)...), 10},
	} {
		for range 3 {
			os.Remove(socket + ".said")
			begun := time.Now()
			e := wrapped{bare: true}.run(t, c.argv...)
			if strings.Contains(e.stderr, "tlswrap:") {
				t.Errorf("%s: stderr: %q", c.name, e.stderr)
			}
			if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("%s: took %v", c.name, took)
			}
			select {
			case n := <-clients:
				if n != c.want {
					t.Errorf("%s: the server got %d bytes, want %d (-1: no close_notify)", c.name, n, c.want)
				}
			case <-time.After(10 * time.Second):
				t.Errorf("%s: the server got nothing; status %d, stderr: %q", c.name, e.status, e.stderr)
			}
		}
	}
}

func TestProgramUnderProcess1HasNoChildrenAndNoSignalsOfOurs(t *testing.T) {
	children := compile(t, "children.c")
	script := `trap "" HUP INT QUIT PIPE TERM USR1 CHLD; exec "$@"`
	ignoring := func(argv []string) []string { return append([]string{"bash", "-c", script, "bash"}, argv...) }
	adopting := func(argv []string) []string {
		// PR_SET_CHILD_SUBREAPER stays over exec.
		return append([]string{python, "-c", "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1); os.execv(sys.argv[1], sys.argv[1:])"}, argv...)
	}
	tlswrap := append(append([]string{lab.tlswrap}, anyRule().flags...), children)
	for name, c := range map[string][2][]string{
		"process 1":           {asProcess1(children), asProcess1(tlswrap...)},
		"that ignores":        {asProcess1(ignoring([]string{children})...), asProcess1(ignoring(tlswrap)...)},
		"which adopts others": {adopting([]string{children}), adopting(tlswrap)},
	} {
		want := wrapped{bare: true}.run(t, c[0]...).must(t).stdout
		got := wrapped{bare: true}.run(t, c[1]...).must(t).stdout
		if got != want || !strings.Contains(got, "wait=ECHILD") {
			t.Errorf("%s: the program saw %q, and without tlswrap %q", name, got, want)
		}
	}
}

func TestProcess1ReapsOrphans(t *testing.T) {
	e := wrapped{bare: true}.run(t, wrappedAsProcess1(anyRule().flags, "sh", "-c",
		`(true & true &) ; sleep 0.5; grep -l "^State:.Z" /proc/[0-9]*/status; echo $(ps -o comm= -p 1)`)...).must(t)
	if e.stdout != "tlswrap\n" {
		t.Errorf("orphans that have ended are still there, or process 1 is another: %q", e.stdout)
	}
}

func TestProcess1HandsOnTheStatus(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 77": 77, "kill -TERM $$": 143, "kill -KILL $$": 137, "kill -SEGV $$": 139, "exec /nonexistent": 127} {
		e := wrapped{bare: true}.run(t, wrappedAsProcess1(anyRule().flags, "sh", "-c", script)...)
		if e.status != want {
			t.Errorf("%s: status %d, want %d, stderr: %q", script, e.status, want, e.stderr)
		}
	}
	e := wrapped{bare: true}.run(t, wrappedAsProcess1(nil, "no-such-program")...)
	if e.status != 127 || strings.Count(e.stderr, "tlswrap: no-such-program: program not found\n") != 1 {
		t.Errorf("no such program: status %d, stderr: %q", e.status, e.stderr)
	}
}

// A program that becomes a daemon ends with process 1, as without tlswrap, and what it has said arrives.
func TestDaemonUnderProcess1EndsWithIt(t *testing.T) {
	s, clients := heard(t)
	script := `import os, socket, sys, time
r, w = os.pipe()
if os.fork():
    os.read(r, 1)
    os._exit(5)
os.setsid()
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
s.sendall(b"daemon")
os.write(w, b"x")
time.sleep(1000)`
	begun := time.Now()
	e := wrapped{bare: true}.run(t, wrappedAsProcess1(s.flags(), python, "-c", script, s.host, s.portString())...)
	if e.status != 5 || time.Since(begun) > 20*time.Second {
		t.Errorf("status %d after %v, stderr: %q", e.status, time.Since(begun), e.stderr)
	}
	if n := <-clients; n != len("daemon") {
		t.Errorf("the server got %d bytes", n)
	}
}

// process1 finds process 1 below unshare(1).
func process1(t *testing.T, unshare int) (pid int) {
	t.Helper()
	eventually(t, "process 1 runs", 20*time.Second, func() bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", unshare, unshare))
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return pid != 0
	})
	return pid
}

func TestProcess1HandsOnSignals(t *testing.T) {
	sent := []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGCONT,
		syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGPIPE, syscall.Signal(37), // SIGRTMIN+3
		syscall.SIGTERM,
	}
	script := `import os, signal, sys
for n in map(int, sys.argv[1:]): signal.signal(n, lambda n, _: (print(n, flush=True), n == 15 and os._exit(4)))
print("ready", flush=True)
while True: signal.pause()`
	argv := []string{python, "-c", script}
	want := "ready\n"
	for _, sig := range sent {
		argv = append(argv, strconv.Itoa(int(sig)))
		want += fmt.Sprintf("%d\n", sig)
	}
	r := wrapped{bare: true}.start(t, wrappedAsProcess1(anyRule().flags, argv...)...)
	eventually(t, "the program runs", 20*time.Second, func() bool { return r.stdout.String() == "ready\n" })
	pid := process1(t, r.cmd.Process.Pid)
	for i, sig := range sent {
		syscall.Kill(pid, sig)
		eventually(t, fmt.Sprintf("the program has signal %d", sig), 10*time.Second, func() bool { return strings.Count(r.stdout.String(), "\n") >= i+2 })
	}
	<-r.done
	if got := r.stdout.String(); got != want || status(r.cmd) != 4 {
		t.Errorf("stdout: %q, want %q; status %d, stderr: %q", got, want, status(r.cmd), r.stderr)
	}
}

// A program that is stopped from outside stays so until it is to go on.
func TestProgramUnderProcess1StopsAndContinues(t *testing.T) {
	r := wrapped{bare: true}.start(t, wrappedAsProcess1(anyRule().flags, "cat")...)
	pid := process1(t, r.cmd.Process.Pid)
	var program int
	state := func(want string) func() bool {
		return func() bool {
			threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
			for _, file := range threads {
				text, _ := os.ReadFile(file)
				for _, child := range strings.Fields(string(text)) {
					if comm, _ := os.ReadFile("/proc/" + child + "/comm"); string(comm) == "cat\n" {
						program, _ = strconv.Atoi(child)
					}
				}
			}
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", program))
			return program != 0 && strings.Contains(string(stat), ") "+want+" ")
		}
	}
	eventually(t, "the program waits", 20*time.Second, state("S"))
	syscall.Kill(pid, syscall.SIGTSTP)
	eventually(t, "the program is stopped", 10*time.Second, state("T"))
	syscall.Kill(pid, syscall.SIGCONT)
	eventually(t, "the program goes on", 10*time.Second, state("S"))
	r.stdin.Close()
	<-r.done
	if status(r.cmd) != 0 {
		t.Errorf("status %d, stderr: %q", status(r.cmd), r.stderr)
	}
}

func TestProgramUnderProcess1HasTheTerminal(t *testing.T) {
	// The handler may run within print.
	program := `import os, signal, sys, time
heard = 0
def hear(n, _):
    global heard
    heard += 1
    os.write(1, b"signal %d\n" % n)
    if heard == 2:
        time.sleep(0.3)
        os.write(1, b"end\n")
        sys.exit()
signal.signal(signal.SIGINT, hear)
print("ready", flush=True)
print("read", input(), flush=True)
while True: time.sleep(0.05)`
	for _, how := range []string{"new", "shared"} {
		argv := append(append([]string{python, testFile(t, "terminal.py"), how, lab.tlswrap}, anyRule().flags...), python, "-c", program)
		e := wrapped{bare: true}.run(t, argv...).must(t)
		if want := "[b'signal 2', b'signal 2']\n"; e.stdout != want {
			t.Errorf("%s: stdout: %q, want %q, stderr: %q", how, e.stdout, want, e.stderr)
		}
	}
}

// A service manager's sockets name the process that they are for.
func TestSocketsThatWerePassedToProcess1AreTheProgramsOwn(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	argv := append([]string{"env", "LISTEN_PID=1", "LISTEN_FDS=1", lab.tlswrap}, anyRule().flags...)
	argv = asProcess1(append(argv, "sh", "-c", `[ "$LISTEN_PID" = $$ ] && readlink /proc/self/fd/3`)...)
	r := wrapped{bare: true}.command(t.Context(), argv)
	r.ExtraFiles = []*os.File{file}
	if out, err := r.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "socket:") {
		t.Errorf("%v: %q", err, out)
	}
}
