package integration

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// unruly is a static program that does, while it connects, what gets in the way of a tracer.
func unruly(t *testing.T, s *site, how string) []string {
	t.Helper()
	testkit.Need(t, "gcc")
	return []string{buildWith(t, []string{"gcc"}, "unruly.c", "-static", "-pthread"), how, "127.0.0.1", s.portString()}
}

// untidy is a machine on which a tracer does all that it can.
func untidy(s *site) wrapped {
	s.mayBeSilent = true
	w := s.wrapped()
	w.refused = tracing["neither"]
	return w
}

// A stop that comes while the tracer has the thread do something is over when SIGCONT comes.
func TestTracedProgramThatIsStoppedAndContinuedGoesOn(t *testing.T) {
	s := serveSite(t, "db.example.test")
	r := untidy(s).start(t, unruly(t, s, "lines")...)
	for i := range 200 {
		fmt.Fprintln(r.stdin)
		for range 10 {
			time.Sleep(time.Duration(i) * time.Microsecond) // at different moments of the connect
			syscall.Kill(r.cmd.Process.Pid, syscall.SIGSTOP)
			time.Sleep(time.Duration(i) * time.Microsecond)
			syscall.Kill(r.cmd.Process.Pid, syscall.SIGCONT)
		}
		eventually(t, fmt.Sprint("connect ", i, " ends"), 10*time.Second, func() bool { return strings.Count(r.stdout.String(), "\n") == i+1 })
	}
	if got := strings.Count(r.stdout.String(), "ok\n"); got != 200 {
		t.Errorf("%d connects are good of 200, stderr %q: %q", got, r.stderr, r.stdout)
	}
}

// What the tracer puts into a program for a moment another thread of it may close.
func TestTracedProgramWhoseDescriptorsAreClosedDoesNotHang(t *testing.T) {
	for _, how := range []string{"closes", "opens"} {
		t.Run(how, func(t *testing.T) {
			s := serveSite(t, "db.example.test")
			w := untidy(s)
			w.dir = openDir(t)
			r := w.start(t, unruly(t, s, how)...)
			endsSoon(t, r)
			if got := status(r.cmd); got != 0 || r.stdout.String() != "connected\n" {
				t.Errorf("status %d, stdout %q, stderr %q", got, r.stdout, r.stderr)
			}
		})
	}
}

// The thread that executes a program gets the number of its process's first one, whose call ends there.
func TestTracedProgramExecutesAnotherInAnyThread(t *testing.T) {
	for after := 0; after < 3000; after += 150 {
		s := serveSite(t, "db.example.test")
		w := untidy(s)
		w.env = []string{fmt.Sprint("AFTER=", after)}
		if e := w.run(t, unruly(t, s, "executes")...).must(t); e.stdout != "executed\n" {
			t.Errorf("after %d µs: status %d, stdout %q, stderr %q", after, e.status, e.stdout, e.stderr)
		}
	}
}

// A thread that may not pause waits all the same.
func TestTracedProgramWhoseFilterForbidsPauseConnects(t *testing.T) {
	for machine, refused := range tracing {
		t.Run(strings.ReplaceAll(machine, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := serveSite(t, "db.example.test")
			w := untidy(s)
			w.refused = refused
			if e := w.run(t, unruly(t, s, "cannot")...).must(t); e.stdout != "ok\n" {
				t.Errorf("stdout %q, stderr %q", e.stdout, e.stderr)
			}
		})
	}
}
