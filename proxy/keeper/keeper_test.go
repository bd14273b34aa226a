package keeper

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/begin"
	"tlswrap/proxy/seccomp"
	"tlswrap/proxy/thread"
	"tlswrap/tests/testkit"
)

// worker stands in for one: it takes notifications, and answers none.
type worker struct {
	seccomp.Listener
	pending *seccomp.Pending
	held    begin.Held
	life    int // its own end
}

func newWorker(t *testing.T, listener seccomp.Listener) *worker {
	t.Helper()
	pending, file, err := seccomp.NewPending()
	if err != nil {
		t.Fatal(err)
	}
	life, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &worker{listener, pending, begin.Held{Life: life[0], Pending: file}, life[1]}
}

// receive takes the next notification.
func (w *worker) receive(t *testing.T) uint64 {
	t.Helper()
	n, err := w.Receive()
	if err != nil {
		t.Fatal(err)
	}
	return n.ID
}

// die ends it, as it stands.
func (w *worker) die() {
	unix.Close(w.life)
	w.pending.Close()
}

// underFilter calls f on a thread that is under a filter, whose listener it sends to listener before.
func underFilter(t *testing.T, p Program, f func(), listener chan<- seccomp.Listener) (ended <-chan struct{}) {
	t.Helper()
	done, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(done)
		thread.Run(func() {
			l, err := seccomp.Install(seccomp.Policy{Cookie: seccomp.Cookie(p.Token.Cookie())})
			failed <- err
			if err == nil {
				listener <- l
				f()
			}
		})
	}()
	switch err := <-failed; {
	case errors.Is(err, unix.EBUSY):
		testkit.KernelLacks(t, "this process is under another's filter")
	case err != nil:
		t.Fatal(err)
	}
	return done
}

// connection is a keeper's, and its other end.
func connection(t *testing.T) (ours int, theirs *net.UnixConn) {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(ends[0]) })
	f := os.NewFile(uintptr(ends[1]), "keeper")
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return ends[0], c.(*net.UnixConn)
}

func nobodyThere(t *testing.T) Program {
	return Program{Reached: begin.Reached{Address: filepath.Join(t.TempDir(), "socket"), Token: [16]byte{1}}, Quiet: true}
}

const patience = 20 * time.Second

// A worker may end before the keeper knows of it. Nobody would answer then who hands the listener over.
func TestTheListenerIsHandedOverThoughNobodyAnswers(t *testing.T) {
	p := nobodyThere(t)
	ours, theirs := connection(t)
	made, listener := make(chan *worker, 1), make(chan seccomp.Listener, 1)
	result := make(chan error, 1)
	ended := underFilter(t, p, func() {
		w := <-made
		result <- Hand(ours, p, w.Listener, w.held)
	}, listener)
	w := newWorker(t, <-listener)
	made <- w
	select {
	case err := <-result:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		unix.Close(int(w.Listener)) // the kernel fails the call then
		t.Fatal("it waits for an answer")
	}
	w.die()
	unix.Close(int(w.Listener))
	<-ended
	text, fds, err := Receive(theirs)
	if text == nil || err != nil || len(fds) != Descriptors {
		t.Errorf("the keeper got %q and %d descriptors, %v", text, len(fds), err)
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// A worker that is killed may have received a call that it has not noted yet: that does not wait for ever, and what is asked
// later is refused.
func TestACallThatADeadWorkerHasNotNotedIsAnswered(t *testing.T) {
	p := nobodyThere(t)
	ours, theirs := connection(t)
	listener := make(chan seccomp.Listener, 1)
	results := make(chan error)
	ended := underFilter(t, p, func() {
		for range 3 {
			results <- dial()
		}
	}, listener)
	w := newWorker(t, <-listener)
	if err := Hand(ours, p, w.Listener, w.held); err != nil {
		t.Fatal(err)
	}
	w.held.Close()
	kept := make(chan error, 1)
	go func() {
		text, fds, err := Receive(theirs)
		if err == nil {
			err = Keep(text, fds)
		}
		kept <- err
	}()
	expect := func(what string, want error) {
		t.Helper()
		select {
		case got := <-results:
			if got != want {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		case <-time.After(patience):
			t.Errorf("%s: it waits for ever", what)
			unix.Close(int(w.Listener))
			t.FailNow()
		}
	}

	first := w.receive(t)
	slot := w.pending.Add(first)
	w.Fail(first, unix.ETIMEDOUT)
	w.pending.Done(slot)
	expect("the call that the worker answers", unix.ETIMEDOUT)
	w.receive(t)
	w.die()
	expect("the call that it has received last", unix.ENETDOWN)
	expect("the next call", unix.ENETDOWN)
	<-ended
	if err := <-kept; err != nil {
		t.Error(err)
	}
	unix.Close(int(w.Listener))
}

func dial() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrInet4{Port: 1, Addr: [4]byte{127, 0, 0, 1}})
}
