package channel

import (
	"testing"

	"golang.org/x/sys/unix"
)

// A program that closes and leaves bytes unread has reset its connection, whatever the worker is about: one that
// is being written to as well, where the kernel tells the writer of the reset, and nobody a second time.
func TestAProgramThatIsWrittenToAndClosesWithBytesUnreadHasReset(t *testing.T) {
	for i := range 5000 {
		pr, p, err := New("", true)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			poll := []unix.PollFd{{Fd: int32(p), Events: unix.POLLIN}}
			for _, e := unix.Poll(poll, 10_000); e == unix.EINTR; {
				_, e = unix.Poll(poll, 10_000)
			}
			unix.Close(p)
		}()
		for err == nil {
			err = pr.SendAll([][]byte{make([]byte, 16<<10), make([]byte, 16<<10), make([]byte, 16<<10), make([]byte, 16<<10)})
		}
		if end := pr.Gone(); end != unix.ECONNRESET {
			t.Errorf("round %d: after %v it has ended with %v", i, err, end)
		}
		pr.Close()
	}
}
