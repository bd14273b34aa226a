package fdio

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Socket is a non-blocking descriptor on which system calls of our own wait by way of
// the network poller. Its methods return os.ErrClosed after Close, and
// os.ErrDeadlineExceeded past a deadline.
type Socket struct {
	*os.File
	raw    syscall.RawConn
	closed atomic.Bool
	out    sync.Mutex  // held by who writes
	reset  atomic.Bool // the kernel has told so

	patience patience
}

// Past is a deadline that ends whatever waits.
var Past = time.Unix(1, 0)

// Call is a system call that is made again when the descriptor is ready, until it reports
// that it is done. One that is made once for a socket allocates nothing when it is used.
type Call func(fd uintptr) (done bool)

func NewCall(f func(fd int) bool) Call { return func(fd uintptr) bool { return f(int(fd)) } }

// output is what a socket writes. It is lent for that long, so that a socket which idles has none.
type output struct {
	one     [1][]byte // of Write
	pieces  [][]byte  // what is left
	iov     []unix.Iovec
	message unix.Msghdr // of iov
	done    int         // bytes that were written
	err     error
	write   Call
}

var outputs = sync.Pool{New: func() any {
	o := new(output)
	o.write = NewCall(o.tryWrite)
	return o
}}

// New takes over fd, also when it fails, and puts it into non-blocking mode.
func New(fd int, name string) (*Socket, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return Adopt(fd, name)
}

// Adopt takes over fd, also when it fails, which is in non-blocking mode.
func Adopt(fd int, name string) (*Socket, error) {
	s := &Socket{File: os.NewFile(uintptr(fd), name)}
	raw, err := s.SyscallConn()
	if err == nil && s.SetDeadline(time.Time{}) != nil {
		// Nobody would wake up who waits for it.
		err = errors.New("the network poller does not take it")
	}
	if err != nil {
		s.File.Close()
		return nil, err
	}
	s.raw = raw
	return s, nil
}

// WhenReadable calls f until it returns true, each time that there may be something to
// read. Nobody else may read meanwhile.
func (s *Socket) WhenReadable(f func(fd int) bool) error { return s.ReadWith(NewCall(f)) }

// WhenWritable does the same for writing.
func (s *Socket) WhenWritable(f func(fd int) bool) error {
	return s.sort(s.raw.Write(NewCall(f)))
}

// Write implements io.Writer. It may be called from any goroutine.
func (s *Socket) Write(b []byte) (int, error) {
	s.out.Lock()
	defer s.out.Unlock()
	o := outputs.Get().(*output)
	defer outputs.Put(o)
	o.one[0] = b
	return s.write(o, o.one[:])
}

// WriteAll writes pieces, which it uses up, as one.
func (s *Socket) WriteAll(pieces [][]byte) error {
	s.out.Lock()
	defer s.out.Unlock()
	o := outputs.Get().(*output)
	defer outputs.Put(o)
	_, err := s.write(o, pieces)
	return err
}

// Note notes what an error of a call on the descriptor says of the other side, and returns it: the kernel tells
// of a reset once (sock_error in include/net/sock.h), and whoever makes a call with ReadWith or Control may be the one.
func (s *Socket) Note(err error) error {
	if errors.Is(err, unix.ECONNRESET) {
		s.reset.Store(true)
	}
	return err
}

// Reset reports whether the other side of an AF_UNIX stream has closed and left bytes unread. Call it when that has
// closed: a write that goes on may be just what the kernel tells it, and Reset waits until it has ended.
func (s *Socket) Reset() bool {
	s.out.Lock()
	defer s.out.Unlock()
	reset := s.reset.Load()
	s.Control(func(fd int) { reset = reset || Reset(fd) })
	return reset
}

func (s *Socket) write(o *output, pieces [][]byte) (int, error) {
	o.pieces, o.done, o.err = pieces, 0, nil
	if err := s.sort(s.raw.Write(o.write)); err != nil {
		o.err = err
	}
	s.Note(o.err) // while out is held
	clear(pieces)
	clear(o.iov[:cap(o.iov)]) // longer ones were made before
	o.pieces, o.message.Iov = nil, nil
	return o.done, o.err
}

// tryWrite writes what there is room for. Where the other side of an AF_UNIX stream closes with bytes unread while
// it is written to, the kernel says so by a write that is shorter than there is room for, and not again
// (sock_alloc_send_pskb in net/core/sock.c): the error of the next is unix.ECONNRESET then, as it would have been.
func (o *output) tryWrite(fd int) bool {
	short := false
	for o.left() {
		var n int
		n, o.err = o.send(fd)
		switch {
		case o.err == unix.EINTR:
			continue
		case o.err == unix.EPIPE && short:
			o.err = unix.ECONNRESET
			return true
		case o.err != nil:
			return o.err != unix.EAGAIN
		}
		o.wrote(n)
		short = true // if anything is left
	}
	return true
}

// left drops pieces that are empty, and reports whether others are left.
func (o *output) left() bool {
	for len(o.pieces) > 0 && len(o.pieces[0]) == 0 {
		o.pieces = o.pieces[1:]
	}
	return len(o.pieces) > 0
}

// send sends as much as there is room for, as Receive receives.
func (o *output) send(fd int) (int, error) {
	const most = 1024 // UIO_MAXIOV
	o.iov = o.iov[:0]
	for _, p := range o.pieces[:min(len(o.pieces), most)] {
		if len(p) > 0 {
			v := unix.Iovec{Base: &p[0]}
			v.SetLen(len(p))
			o.iov = append(o.iov, v)
		}
	}
	o.message.Iov = &o.iov[0]
	o.message.SetIovlen(len(o.iov))
	n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&o.message)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if errno == unix.ENOTSOCK {
		n, _, errno = unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&o.iov[0])), uintptr(len(o.iov)))
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// wrote takes n bytes off the pieces.
func (o *output) wrote(n int) {
	o.done += n
	for n > 0 {
		m := min(n, len(o.pieces[0]))
		o.pieces[0] = o.pieces[0][m:]
		o.left()
		n -= m
	}
}

// RawCall makes a system call that reads or writes b and does not block. It does without
// what Go's runtime does around system calls that may, which for few bytes costs as
// much as the call. b is not empty.
func RawCall(number uintptr, fd int, b []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(number, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Receive reads what is there, and does not wait for more. A program that shares the socket may put it into blocking
// mode at any moment, so the call itself says that it is not to block: no other goroutine would run meanwhile. What is no
// socket, a pipe, is read by a call that lets others run.
func Receive(fd int, b []byte) (int, error) {
	n, err := RawCall(unix.SYS_RECVFROM, fd, b, unix.MSG_DONTWAIT)
	if err == unix.ENOTSOCK {
		err = Again(func() (e error) { n, e = unix.Read(fd, b); return e })
		n = max(n, 0)
	}
	return n, err
}

// Again makes a call that does not block until no signal has interrupted it: whoever waited for an
// event instead would not get one that has come already.
func Again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// RawReadv is readv(2) into a and then b, of which only b is not empty for sure.
func RawReadv(fd int, a, b []byte) (int, error) {
	iov := [2]unix.Iovec{{Base: unsafe.SliceData(a)}, {Base: unsafe.SliceData(b)}}
	iov[0].SetLen(len(a))
	iov[1].SetLen(len(b))
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READV, uintptr(fd), uintptr(unsafe.Pointer(&iov)), uintptr(len(iov)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Control calls f with the descriptor, which stays open that long.
func (s *Socket) Control(f func(fd int)) error {
	return s.sort(s.raw.Control(func(fd uintptr) { f(int(fd)) }))
}

// sort gives the poller's error for a closed file, which is not exported, a name.
func (s *Socket) sort(err error) error {
	if err != nil && s.closed.Load() {
		return os.ErrClosed
	}
	return err
}

// Closed reports whether Close was called.
func (s *Socket) Closed() bool { return s.closed.Load() }

// Close closes the descriptor. It may be called again, and from any goroutine; calls
// that wait return.
func (s *Socket) Close() error {
	s.closed.Store(true)
	return s.File.Close()
}
