package channel

import (
	"errors"
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

// A program that closes and leaves bytes unread has reset its connection, whatever the worker is about: one that
// is being written to as well, where the kernel tells whoever of the reader and the writer comes first, and nobody a
// second time. Where nobody reads, who writes is to learn of it.
func TestAProgramThatIsWrittenToAndClosesWithBytesUnreadHasReset(t *testing.T) {
	for _, reads := range []bool{false, true} {
		for i := range 5000 {
			if end := endWhileWritten(t, reads); !errors.Is(end, unix.ECONNRESET) {
				t.Errorf("round %d, and the worker reads: %v: it has ended with %v", i, reads, end)
			}
		}
	}
}

// endWhileWritten writes to a program that closes at the first bytes, and returns what the worker finds then.
func endWhileWritten(t *testing.T, reads bool) (end error) {
	pr, p, err := New("", true)
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	if err := pr.Accept(); err != nil {
		t.Fatal(err)
	}
	go func() {
		poll := []unix.PollFd{{Fd: int32(p), Events: unix.POLLIN}}
		for _, e := unix.Poll(poll, 10_000); e == unix.EINTR; {
			_, e = unix.Poll(poll, 10_000)
		}
		unix.Close(p)
	}()
	read := make(chan error, 1)
	go func() {
		err := io.EOF
		if reads {
			_, _, err = pr.Next()
		}
		if err == io.EOF {
			err = pr.Gone()
		}
		read <- err
	}()
	for err == nil {
		err = pr.SendAll([][]byte{make([]byte, 16<<10), make([]byte, 16<<10), make([]byte, 16<<10), make([]byte, 16<<10)})
	}
	return <-read
}
