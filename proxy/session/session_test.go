package session

import (
	"log/slog"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/names"
	"tlswrap/proxy/report"
	"tlswrap/proxy/wire"
	"tlswrap/tests/testkit"
)

// startProcess starts one, and returns it with a descriptor for it.
func startProcess(t *testing.T) (*exec.Cmd, int) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, fd
}

func TestPidfdsAreKnownAndNumberTheirProcesses(t *testing.T) {
	_, a := startProcess(t)
	defer unix.Close(a)
	_, b := startProcess(t)
	defer unix.Close(b)
	if !wire.IsPidfd(a) || wire.IsPidfd(-1) {
		t.Error("a pidfd is not taken for one, or nothing is")
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	if _, ok := pidfdInode(pipe[0]); ok || wire.IsPidfd(pipe[0]) {
		t.Error("a pipe is taken for a pidfd")
	}
	first, ok := pidfdInode(a)
	if !ok {
		testkit.KernelLacks(t, "it does not number pidfds")
	}
	if second, _ := pidfdInode(b); first == second {
		t.Error("two processes have one number")
	}
}

// newTestSession makes a session, and a channel that is closed when it has ended.
func newTestSession(t *testing.T) (*Session, <-chan struct{}) {
	t.Helper()
	shared, err := names.NewMaps().Add(false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shared.Close)
	ended, nothing := make(chan struct{}), func() {}
	return New(Config{
		User: NewUser(NewFailed()), Names: names.NewTable(shared, time.Time{}),
		Reporter: &report.Reporter{Log: slog.New(slog.DiscardHandler), Voice: report.NewVoice(nil, false, true)},
		Owner:    Owner{Opened: nothing, Closed: nothing, Freed: nothing, Left: nothing, Passed: func(*Session, []wire.Notice) {}, Ended: func(*Session) { close(ended) }},
	}), ended
}

func hasEnded(ended <-chan struct{}) bool {
	select {
	case <-ended:
		return true
	default:
		return false
	}
}

func mustEnd(t *testing.T, ended <-chan struct{}) {
	t.Helper()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}

func TestSessionLivesAsLongAsAnyProcessOfAnotherNamespace(t *testing.T) {
	s, ended := newTestSession(t)
	parent, a := startProcess(t)
	child, b := startProcess(t)
	s.enter(process{0, 1}, a)
	s.enter(process{0, 2}, b)
	s.leave(process{pid: int32(unix.Getpid())})
	parent.Process.Kill()
	time.Sleep(2 * linger)
	if hasEnded(ended) {
		t.Fatal("it ended with the first")
	}
	child.Process.Kill()
	mustEnd(t, ended)
}

func TestSessionOfProcessesThatCannotBeSeenEndsSomeTimeAfterTheLastRequest(t *testing.T) {
	old := unwatched
	unwatched = 2 * time.Second
	defer func() { unwatched = old }()
	s, ended := newTestSession(t)
	for range 3 {
		s.heard()
		s.Opened()
		s.Closed()
		time.Sleep(1200 * time.Millisecond)
		if hasEnded(ended) {
			t.Fatal("it ended while it was used")
		}
	}
	mustEnd(t, ended)
}
