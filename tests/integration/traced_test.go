package integration

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/tests/testkit"
)

// tracing are machines on which a tracer answers for what cannot be preloaded.
var tracing = map[string][]testkit.Refusal{
	"no listener":                   testkit.WithoutListener,
	"another's listener":            {{Call: unix.SYS_SECCOMP, Errno: unix.EBUSY}},
	"no copies of descriptors":      testkit.WithoutCopies,
	"neither":                       append(testkit.WithoutListener[:1:1], testkit.WithoutCopies...),
	"neither, nor pidfds (old one)": append(append(testkit.WithoutListener[:1:1], testkit.WithoutCopies...), testkit.Refusal{Call: unix.SYS_PIDFD_OPEN, Errno: unix.ENOSYS}),
}

// oftenTraced are fetchers that cannot be preloaded, one of each kind.
var oftenTraced = []string{"static", "static with system calls of its own", "static with a clone", "static musl", "Go", "Go with cgo",
	"busybox-static wget", "a script of a static interpreter", "an environment that a static shell has emptied"}

// The sniffer sees to it that nothing of this is readable on the wire: see serveSite.
func TestTracedProgramsGetTLS(t *testing.T) {
	for _, name := range oftenTraced {
		for machine, refused := range tracing {
			t.Run(strings.ReplaceAll(name+"/"+machine, " ", "_"), func(t *testing.T) {
				t.Parallel()
				s := serveSite(t, "db.example.test")
				w := s.wrapped()
				w.refused = refused
				if e := w.run(t, fetchers[name](t, s)...).must(t); e.stdout != s.marker+"\n" {
					t.Errorf("it got %q, stderr %q", e.stdout, e.stderr)
				}
			})
		}
	}
}

func TestTracedProgramsGetTLSAsAnOrdinaryUser(t *testing.T) {
	for _, name := range []string{"static", "Go", "busybox-static wget"} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := serveSite(t, "db.example.test")
			argv := append(append([]string{lab.tlswrap}, s.flags()...), fetchers[name](t, s)...)
			e := wrapped{bare: true, dir: "/", refused: tracing["neither"]}.run(t, as(strangersUser, argv...)...).must(t)
			if e.stdout != s.marker+"\n" {
				t.Errorf("it got %q, stderr %q", e.stdout, e.stderr)
			}
		})
	}
}

func TestTracedProgramsAreRefusedAStranger(t *testing.T) {
	for _, name := range oftenTraced {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := serveHandlerWith(t, "db.example.test", serverConfig(t, testkit.Leaf{Names: []string{"wrong.example.test"}}))
			w := s.wrapped()
			w.refused = tracing["neither"]
			e := w.run(t, fetchers[name](t, s)...)
			if strings.Contains(e.stdout, s.marker+"\n") || !strings.Contains(e.stderr, "tlswrap: "+s.hostport()+": certificate is for wrong.example.test, not db.example.test") {
				t.Errorf("status %d, it got %q, stderr %q", e.status, e.stdout, e.stderr)
			}
		})
	}
}

func TestTracedGoProgramMakesManyConnectionsAtOnce(t *testing.T) {
	const count = 100
	for machine, refused := range tracing {
		t.Run(strings.ReplaceAll(machine, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := serveSite(t, "db.example.test")
			w := s.wrapped()
			w.refused = refused
			if e := w.run(t, goProgram(t, "goclient.go", false), s.url("/fixed"), fmt.Sprint(count)).must(t); e.stdout != s.marker+"\n" {
				t.Errorf("it got %q", tail(e.stdout))
			}
		})
	}
}

// state is that of a process, as in proc_pid_stat(5).
func state(pid int) string {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(stat), ") ")
	return after[:min(1, len(after))]
}

// The kernel would make the call that a thread has stopped at for a tracer which is no more.
func TestProgramEndsWithItsTracer(t *testing.T) {
	program := buildWith(t, []string{"gcc"}, "later.c", "-static")
	for what, asks := range map[string]bool{"at a call": true, "between calls": false} {
		t.Run(strings.ReplaceAll(what, " ", "_"), func(t *testing.T) {
			port, accepted := silentServer(t)
			to := fmt.Sprintf("127.0.0.1:%d", port)
			r := wrapped{flags: []string{"--tls", to}, refused: testkit.WithoutListener}.start(t, program, "127.0.0.1", fmt.Sprint(port), newMarker())
			eventually(t, "the program runs", 20*time.Second, func() bool { return r.stdout.String() == "begun\n" })
			worker := workerOf(t, to)
			if asks {
				syscall.Kill(worker, syscall.SIGSTOP)
				fmt.Fprintln(r.stdin)
				eventually(t, "the program waits for its tracer", 20*time.Second, func() bool { return state(r.cmd.Process.Pid) == "t" })
			}
			syscall.Kill(worker, syscall.SIGKILL)
			endsSoon(t, r)
			if got := status(r.cmd); got != 128+int(syscall.SIGKILL) || r.stdout.String() != "begun\n" {
				t.Errorf("status %d, stdout %q, stderr %q", got, r.stdout, r.stderr)
			}
			select {
			case conn := <-accepted:
				conn.Close()
				t.Error("something has connected")
			default:
			}
		})
	}
}

func endsSoon(t *testing.T, r *running) {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(20 * time.Second):
		t.Fatalf("it does not end, stdout %q, stderr %q", r.stdout, r.stderr)
	}
}

// silentServer accepts clients and answers none.
func silentServer(t *testing.T) (port int, accepted <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	all := make(chan net.Conn, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all <- conn
		}
	}()
	return l.Addr().(*net.TCPAddr).Port, all
}

// A connect that is not decided yet ends by a signal, and a program that is stopped goes on with it.
func TestSignalsReachATracedProgramThatConnects(t *testing.T) {
	for how, refused := range tracing {
		t.Run(strings.ReplaceAll(how, " ", "_"), func(t *testing.T) {
			t.Parallel()
			port, accepted := silentServer(t)
			w := wrapped{flags: []string{"--tls", fmt.Sprintf("127.0.0.1:%d", port)}, refused: refused}
			r := w.start(t, busyboxStatic(t), "nc", "127.0.0.1", fmt.Sprint(port))
			pid := r.cmd.Process.Pid
			defer (<-accepted).Close()
			eventually(t, "the program waits", 20*time.Second, func() bool { return state(pid) == "S" })
			syscall.Kill(pid, syscall.SIGSTOP)
			eventually(t, "the program has stopped", 20*time.Second, func() bool { return state(pid) == "t" || state(pid) == "T" })
			syscall.Kill(pid, syscall.SIGCONT)
			eventually(t, "the program waits on", 20*time.Second, func() bool { return state(pid) == "S" })
			syscall.Kill(pid, syscall.SIGTERM)
			endsSoon(t, r)
			if got := status(r.cmd); got != 128+int(syscall.SIGTERM) {
				t.Errorf("status %d, stderr %q", got, r.stderr)
			}
		})
	}
}

// A process has one tracer.
func TestDebuggerIsRefusedInATracedProgram(t *testing.T) {
	testkit.Need(t, "strace")
	w := anyRule()
	w.refused = testkit.WithoutListener
	e := w.run(t, busyboxStatic(t), "sh", "-c", "/usr/bin/strace -o /dev/null /bin/true; echo $?")
	if e.stdout == "0\n" || !strings.Contains(e.stderr, "Operation not permitted") {
		t.Errorf("stdout %q, stderr %q", e.stdout, e.stderr)
	}
}

func TestDoctorAndExplainSayThatProgramsAreTraced(t *testing.T) {
	s := serveSite(t, "db.example.test")
	s.mayBeSilent = true
	for machine, refused := range tracing {
		if machine == "another's listener" || strings.Contains(machine, "pidfds") {
			continue // the same as no listener, or neither
		}
		d, status := doctor(t, refused)
		if !strings.HasPrefix(d["ptrace"], "yes ") || !strings.HasPrefix(d["ways"], "preload, and ptrace for a program that cannot be preloaded: not the kernel, because the ") || status != 1 {
			t.Errorf("%s: status %d, ptrace %q, ways %q", machine, status, d["ptrace"], d["ways"])
		}
		argv := append([]string{lab.tlswrap, "explain", s.hostport()}, s.flags()...)
		e := wrapped{bare: true, refused: refused}.run(t, argv...).must(t)
		if want := "\n  way       preload, or ptrace where a program cannot be preloaded; kernel: no, because the "; !strings.Contains(e.stdout, want) {
			t.Errorf("%s: explain does not say %q:\n%s", machine, want, e.stdout)
		}
	}
}
