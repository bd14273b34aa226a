package proxy

import (
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/report"
	"tlswrap/proxy/wire"
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
		t.Skip("this kernel does not number them")
	}
	if second, _ := pidfdInode(b); first == second {
		t.Error("two processes have one number")
	}
}

func TestSessionLivesAsLongAsAnyProcessOfAnotherNamespace(t *testing.T) {
	w, address := startWorker(t, "default = \"pass\"\n")
	token, _ := greet(t, address)
	s := w.session(token)
	parent, a := startProcess(t)
	child, b := startProcess(t)
	s.enter(process{0, 1}, a)
	s.enter(process{0, 2}, b)
	s.leave(process{pid: int32(unix.Getpid())})
	parent.Process.Kill()
	time.Sleep(2 * linger)
	if w.session(token) == nil {
		t.Fatal("it ended with the first")
	}
	child.Process.Kill()
	for deadline := time.Now().Add(10 * time.Second); w.session(token) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not end with the last")
		}
	}
}

func TestSessionOfProcessesThatCannotBeSeenEndsSomeTimeAfterTheLastRequest(t *testing.T) {
	old := unwatched
	unwatched = 2 * time.Second
	w, _ := startWorker(t, "default = \"pass\"\n")
	s, err := w.newSession(wire.Token{1}, 0, report.NewVoice(nil, false, true))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { unwatched = old }()
	for range 3 {
		s.heard()
		s.channelOpened()
		s.channelClosed()
		time.Sleep(1200 * time.Millisecond)
		if w.session(s.token) == nil {
			t.Fatal("it ended while it was used")
		}
	}
	for deadline := time.Now().Add(10 * time.Second); w.session(s.token) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not end")
		}
	}
}
