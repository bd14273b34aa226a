package proxy

import (
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a non-blocking descriptor on which system calls of our own wait by way of
// the network poller. Its methods return os.ErrClosed after Close, and
// os.ErrDeadlineExceeded past a deadline.
type socket struct {
	*os.File
	raw    syscall.RawConn
	closed atomic.Bool
}

// newSocket takes over fd, also when it fails.
func newSocket(fd int, name string) (*socket, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	s := &socket{File: os.NewFile(uintptr(fd), name)}
	raw, err := s.SyscallConn()
	if err != nil {
		s.File.Close()
		return nil, err
	}
	s.raw = raw
	return s, nil
}

// whenReadable calls f until it returns true, each time that there may be something to
// read. Nobody else may read meanwhile.
func (s *socket) whenReadable(f func(fd int) bool) error {
	return s.sort(s.raw.Read(func(fd uintptr) bool { return f(int(fd)) }))
}

// whenWritable does the same for writing.
func (s *socket) whenWritable(f func(fd int) bool) error {
	return s.sort(s.raw.Write(func(fd uintptr) bool { return f(int(fd)) }))
}

// Write implements io.Writer.
func (s *socket) Write(b []byte) (int, error) {
	done := 0
	var err error
	e := s.whenWritable(func(fd int) bool {
		for done < len(b) {
			var n int
			n, err = rawCall(unix.SYS_WRITE, fd, b[done:], 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return err != unix.EAGAIN
			}
			done += n
		}
		return true
	})
	if e != nil {
		err = e
	}
	return done, err
}

// rawCall makes a system call that reads or writes b and does not block. It does without
// what Go's runtime does around system calls that may, which for few bytes costs as
// much as the call. b is not empty.
func rawCall(number uintptr, fd int, b []byte, flags uintptr) (int, error) {
	n, _, errno := unix.RawSyscall6(number, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flags, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// control calls f with the descriptor, which stays open that long.
func (s *socket) control(f func(fd int)) error {
	return s.sort(s.raw.Control(func(fd uintptr) { f(int(fd)) }))
}

// sort gives the poller's error for a closed file, which is not exported, a name.
func (s *socket) sort(err error) error {
	if err != nil && s.closed.Load() {
		return os.ErrClosed
	}
	return err
}

// Close closes the descriptor. It may be called again, and from any goroutine; calls
// that wait return.
func (s *socket) Close() error {
	s.closed.Store(true)
	return s.File.Close()
}
