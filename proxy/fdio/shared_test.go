package fdio

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A program has a copy of the socket that it has made for its connection, and may put that into blocking mode.
func TestASocketThatIsPutIntoBlockingModeDoesNotBlock(t *testing.T) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ends[1])
	s, err := New(ends[0], "shared")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := unix.SetNonblock(ends[0], false); err != nil {
		t.Fatal(err)
	}
	// What blocks would keep a processor of Go's, and collecting garbage would wait for that.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0))))

	received := make(chan error, 1)
	go func() {
		_, err := Receive(ends[0], make([]byte, 1))
		received <- err
	}()
	select {
	case err := <-received:
		if err != unix.EAGAIN {
			t.Errorf("receiving what is not there: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("receiving blocks")
		unix.Write(ends[1], []byte{'x'})
		<-received
	}

	s.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	sent := make(chan error, 1)
	go func() {
		_, err := s.Write(bytes.Repeat([]byte{'x'}, 8<<20)) // more than there is room for
		sent <- err
	}()
	select {
	case err := <-sent:
		if !os.IsTimeout(err) {
			t.Errorf("sending more than there is room for: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("sending blocks")
		unix.Shutdown(ends[1], unix.SHUT_RD)
		<-sent
	}
}
