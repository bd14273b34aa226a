package channel

import (
	"bytes"
	"log/slog"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/buffers"
)

// newLeavingPair is a channel that carries, and the program's end, which waits in its calls.
func newLeavingPair(t *testing.T) (*Pair, int) {
	t.Helper()
	pr, f := newTestPair(t, "")
	if err := pr.Accept(); err != nil {
		t.Fatal(err)
	}
	pr.LeaveBehind(slog.New(slog.DiscardHandler))
	p, err := unix.Dup(int(f.Fd()))
	if err == nil {
		err = unix.SetNonblock(p, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	t.Cleanup(func() { unix.Close(p) })
	return pr, p
}

// answer is the worker's part of one message and its answer.
func answer(pr *Pair) error {
	buf, n, err := pr.Next()
	if err != nil {
		return err
	}
	defer buffers.Put(buf)
	return pr.Send((*buf)[:n])
}

// ask has a program ask so many times, and returns how often its thread has waited in the kernel.
func ask(p, times int) (waits int64, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &before); err != nil {
		return 0, err
	}
	b := []byte("how are you?")
	for range times {
		if _, err := unix.Write(p, b); err != nil {
			return 0, os.NewSyscallError("write", err)
		}
		if _, err := unix.Read(p, b); err != nil {
			return 0, os.NewSyscallError("read", err)
		}
	}
	err = unix.Getrusage(unix.RUSAGE_THREAD, &after)
	return after.Nvcsw - before.Nvcsw, err
}

func TestAProgramThatWaitsForAnAnswerIsWokenByTheAnswerOnly(t *testing.T) {
	pr, p := newLeavingPair(t)
	const times = 200
	go func() {
		for answer(pr) == nil {
		}
	}()
	var waits int64
	// On a busy machine messages come too slowly one after the other to be left.
	for range 50 {
		var err error
		if waits, err = ask(p, times); err != nil {
			t.Fatal(err)
		}
		if waits <= times*21/20 {
			return
		}
	}
	t.Errorf("a program that asked %d times has waited %d times", times, waits)
}

// leaveSome has a message left behind in the queue.
func leaveSome(t *testing.T, pr *Pair, p int, message []byte) {
	t.Helper()
	for pr.queue.stale <= 1 {
		if _, err := unix.Write(p, message); err != nil {
			t.Fatal(err)
		}
		buf, n, err := pr.Next()
		if err != nil || !bytes.Equal((*buf)[:n], message) {
			t.Fatalf("got %d bytes, %v", n, err)
		}
		buffers.Put(buf)
	}
}

func TestWhatWasReadIsNotWaiting(t *testing.T) {
	pr, p := newLeavingPair(t)
	leaveSome(t, pr, p, []byte("read"))
	if n := pr.Waiting(); n != 0 || pr.Unsent() {
		t.Errorf("%d bytes are said to wait that were read", n)
	}
	if _, err := unix.Write(p, []byte("unread")); err != nil {
		t.Fatal(err)
	}
	if n := pr.Waiting(); n != len("unread") || !pr.Unsent() {
		t.Errorf("%d bytes are said to wait", n)
	}
}

func TestEveryEndButFinishIsAResetWithMoreLeftBehind(t *testing.T) {
	pr, p := newLeavingPair(t)
	leaveSome(t, pr, p, []byte("read"))
	pr.Close()
	if _, err := unix.Read(p, make([]byte, 1)); err != unix.ECONNRESET {
		t.Errorf("read gives %v", err)
	}
}

func TestAGoodEndIsNoResetWithMoreLeftBehind(t *testing.T) {
	pr, p := newLeavingPair(t)
	leaveSome(t, pr, p, []byte("read"))
	pr.Finish()
	if err := unix.Shutdown(p, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	pr.Ended()
	if n, err := unix.Read(p, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("read gives %d, %v, expected the end", n, err)
	}
}

// However small its messages are, a program that waits for room is told of it once all were read.
func TestAProgramGetsRoomWhenItsMessagesWereRead(t *testing.T) {
	pr, p := newLeavingPair(t)
	unix.SetNonblock(p, true)
	for range 20 {
		written := 0
		for {
			if _, err := unix.Write(p, []byte("x")); err != nil {
				break
			}
			written++
		}
		for written > 0 {
			buf, n, err := pr.Next()
			if err != nil {
				t.Fatal(err)
			}
			buffers.Put(buf)
			written -= n
		}
		room := []unix.PollFd{{Fd: int32(p), Events: unix.POLLOUT}}
		if n, err := unix.Poll(room, int(10*time.Second/time.Millisecond)); n != 1 {
			t.Fatalf("poll gives %d, %v", n, err)
		}
	}
}
