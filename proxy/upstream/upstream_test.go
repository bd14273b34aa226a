package upstream

import (
	"testing"
	"unique"

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

// Where a connection begins is the same for like sockets, and another for one that is bound.
func TestOriginsTellSocketsApartThatLeadElsewhere(t *testing.T) {
	origin := func(change func(fd int) error) unique.Handle[Origin] {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := change(fd); err != nil {
			t.Fatal(err)
		}
		like, failure := LikenessOf(fd)
		if failure != nil {
			t.Fatal(failure)
		}
		return like.Origin()
	}
	bind := func(fd int) error { return unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 2}}) }
	keepAlive := func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1) }
	device := func(fd int) error { return unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "lo") }
	plain := origin(func(int) error { return nil })
	bound, onDevice := origin(bind), origin(device)
	if origin(keepAlive) != plain || origin(bind) != bound {
		t.Error("like sockets begin elsewhere")
	}
	if bound == plain || onDevice == plain || bound == onDevice {
		t.Error("one that is bound begins where another does")
	}
}
