package fdio

import (
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/buffers"
)

// Peek reads without taking, from behind what was peeked at before.
func Peek(fd int, b []byte) (int, error) {
	return RawCall(unix.SYS_RECVFROM, fd, b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
}

// Discard takes n bytes out of W's queue that are there, and of no more use.
func Discard(fd, n int) error {
	buf := buffers.Get()
	defer buffers.Put(buf)
	for n > 0 {
		got, err := Receive(fd, (*buf)[:min(n, len(*buf))])
		switch {
		case err != nil:
			return os.NewSyscallError("read", err)
		case got == 0:
			return io.ErrUnexpectedEOF
		}
		n -= got
	}
	return nil
}

// Unread is how much lies in a socket's queue.
func Unread(fd int) (int, error) {
	var n int32
	if _, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCINQ, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return 0, os.NewSyscallError("ioctl", errno)
	}
	return int(n), nil
}

// polled reports whether poll(2) has one of events to tell, or an end.
func polled(fd int, events int16) bool {
	told, err := poll(fd, events)
	return told != 0 || err != nil
}

// poll is poll(2) for one descriptor, without waiting.
func poll(fd int, events int16) (told int16, err error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: events}}
	err = Again(func() error { _, err := unix.Poll(p, 0); return err })
	return p[0].Revents, err
}

// HungUp tells a program that closed from one that only shut its sending side.
func HungUp(fd int) bool { return polled(fd, 0) }

// Reset tells a program that closed and left bytes unread from one that had read all. A look without the
// socket's lock may find the hang-up and not yet the error: unix_release_sock in net/unix/af_unix.c sets both under
// that lock, which getpeername takes (unix_peer_get).
func Reset(fd int) bool {
	unix.Getpeername(fd)
	told, err := poll(fd, 0)
	return told&unix.POLLERR != 0 || err != nil
}

func Leaving(fd int) bool { return polled(fd, unix.POLLRDHUP) }

// Readable reports whether a read would not wait.
func Readable(fd int) bool { return polled(fd, unix.POLLIN) }

func Disconnect(fd int) error {
	var sa unix.RawSockaddr // family 0 is AF_UNSPEC
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	if errno != 0 {
		return errno
	}
	return nil
}

func Close(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

// ReaderAt reads from anywhere in a file, and leaves its offset alone.
type ReaderAt int

func (fd ReaderAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := unix.Pread(int(fd), p, off)
	if err != nil {
		return 0, os.NewSyscallError("pread", err)
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

// Fcntl is fcntl(2) with a pointer to what it reads or fills.
func Fcntl[T any](fd, command int, arg *T) error {
	if _, _, errno := unix.Syscall(unix.SYS_FCNTL, uintptr(fd), uintptr(command), uintptr(unsafe.Pointer(arg))); errno != 0 {
		return os.NewSyscallError("fcntl", errno)
	}
	return nil
}
