package upstream

import (
	"testing"

	"golang.org/x/sys/unix"
)

// What is kept of a connection that broke is its descriptor, and not the buffer of what it had read ahead.
func TestAnUpstreamThatHasRetiredHoldsNoBuffer(t *testing.T) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	u, err := New(ends[0])
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	defer unix.Close(ends[1])
	if _, err := unix.Write(ends[1], []byte("half a record")); err != nil {
		t.Fatal(err)
	}
	if err := u.Fill(); err != nil || len(u.Ahead()) == 0 {
		t.Fatal(err)
	}
	u.Retire()
	if u.in != nil {
		t.Error("it has a buffer")
	}
	if fd := u.Duplicate(); fd < 0 {
		t.Error("its descriptor is gone")
	} else {
		unix.Close(fd)
	}
}
