package proxy

import (
	"container/list"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// upstream is the real TCP socket, the program's own, as a net.Conn for crypto/tls.
//
// It reads ahead as much as there is, but never hands crypto/tls bytes past the
// current record, so that the worker always knows whether a whole record is at hand.
// It holds buffers only while bytes are in them.
type upstream struct {
	*socket
	to *socket // what is written to: the same, but for a pair of descriptors

	in         *[]byte // what was read ahead is (*in)[start:end]; nil where nothing was
	start, end int
	fill       ioCall                // of readAhead
	fillErr    error                 // that it ended in
	header     [recordHeaderLen]byte // of the current record, as far as it was read
	headerLen  int
	record     int // bytes of the current record that are still to come

	head  []byte // the first bytes that the peer sent, for people
	peer  netip.AddrPort
	ended bool // the peer's FIN was seen

	place *list.Element // among a listener's handshakes

	mu   sync.Mutex
	hold bool // writes are gathered, until flush
	out  []byte
}

// newUpstream takes over a connected or connecting socket. It puts it into
// non-blocking mode, and closes it in Close.
//
// Nagle's algorithm (RFC 896) is off: the handshake's last flight would hold back the
// program's first words until the server's delayed acknowledgement. What the program
// writes was gathered in the channel already.
func newUpstream(fd int) (*upstream, error) {
	s, err := newSocket(fd, "upstream")
	if err != nil {
		return nil, err
	}
	s.control(func(fd int) { unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) })
	u := &upstream{socket: s, to: s, head: make([]byte, 0, headLen)}
	u.fill = newIOCall(u.tryFill)
	return u, nil
}

// newUpstreamPair reads from one descriptor and writes to another. It takes over both.
func newUpstreamPair(r, w int) (*upstream, error) {
	to, err := newSocket(w, "upstream")
	if err != nil {
		unix.Close(r)
		return nil, err
	}
	u, err := newUpstream(r)
	if err != nil {
		to.Close()
		return nil, err
	}
	u.to = to
	return u, nil
}

// Close closes what there is.
func (u *upstream) Close() error {
	if u.to != u.socket {
		u.to.Close()
	}
	return u.socket.Close()
}

// SetDeadline is for reading and writing.
func (u *upstream) SetDeadline(t time.Time) error {
	return errors.Join(u.SetReadDeadline(t), u.SetWriteDeadline(t))
}

// SetWriteDeadline is for what is written.
func (u *upstream) SetWriteDeadline(t time.Time) error { return u.to.SetWriteDeadline(t) }

// connect connects to one address, under the deadline that was set. The error is the
// network's own, a unix.Errno, or os.ErrDeadlineExceeded.
func (u *upstream) connect(to sockAddr) error {
	u.peer = netip.AddrPortFrom(to.real(), to.port)
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: to.ip.As16(), Port: int(to.port), ZoneId: to.scope}
	if to.ip.Is4() {
		sa = &unix.SockaddrInet4{Addr: to.ip.As4(), Port: int(to.port)}
	}
	var err error
	if e := u.control(func(fd int) { err = unix.Connect(fd, sa) }); e != nil {
		return e
	}
	if err != unix.EINPROGRESS && err != unix.EINTR {
		return err
	}
	e := u.whenWritable(func(fd int) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if n, _ := unix.Poll(p, 0); n == 0 {
			return false
		}
		var errno int
		errno, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && errno != 0 {
			err = unix.Errno(errno)
		}
		return true
	})
	if e != nil {
		return e
	}
	return err
}

// disconnect undoes a connect, so that another can follow (connect(2), AF_UNSPEC), and
// forgets all of the old connection. Nothing else may use the upstream meanwhile.
func (u *upstream) disconnect() error {
	if u.in != nil {
		u.consume(u.end - u.start)
	}
	u.headerLen, u.record, u.head, u.ended = 0, 0, u.head[:0], false
	var err error
	if e := u.control(func(fd int) { err = disconnect(fd) }); e != nil {
		return e
	}
	return err
}

// reconnect connects to an address once more.
func (u *upstream) reconnect(to sockAddr) error {
	if err := u.disconnect(); err != nil {
		return err
	}
	return u.connect(to)
}

func disconnect(fd int) error {
	var sa unix.RawSockaddr // family 0 is AF_UNSPEC
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	if errno != 0 {
		return errno
	}
	return nil
}

// abortive reports whether the program wants a close to be a reset (SO_LINGER with no
// time, socket(7)).
func (u *upstream) abortive() bool {
	abort := false
	u.control(func(fd int) {
		var l unix.Linger
		size := uint32(unsafe.Sizeof(l))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER,
			uintptr(unsafe.Pointer(&l)), uintptr(unsafe.Pointer(&size)), 0)
		abort = errno == 0 && l.Onoff != 0 && l.Linger == 0
	})
	return abort
}

// abort closes with a reset.
func (u *upstream) abort() {
	u.control(func(fd int) {
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	})
	u.Close()
}

// await waits, holding no buffer, until ciphertext is there.
func (u *upstream) await() error {
	if u.in != nil {
		return nil
	}
	return u.readAhead()
}

func (u *upstream) readAhead() error {
	if err := u.read(u.fill); err != nil {
		return err
	}
	return u.fillErr
}

func (u *upstream) tryFill(fd int) bool {
	buf := getBuffer()
	n, err := rawCall(unix.SYS_READ, fd, *buf, 0)
	u.fillErr = err
	if n > 0 {
		u.in, u.start, u.end = buf, 0, n
		return true
	}
	putBuffer(buf)
	if err == unix.EAGAIN || err == unix.EINTR {
		return false
	}
	u.ended = err == nil
	return true
}

// Read gives at most the rest of the current record, or of its header.
func (u *upstream) Read(b []byte) (int, error) {
	if u.in == nil {
		if err := u.readAhead(); err != nil {
			return 0, err
		}
		if u.in == nil {
			return 0, io.EOF
		}
	}
	have := u.Ahead()
	if room := cap(u.head) - len(u.head); room > 0 {
		u.head = append(u.head, have[:min(len(have), room)]...)
	}
	if u.headerLen < recordHeaderLen {
		n := copy(b, have[:min(len(have), recordHeaderLen-u.headerLen)])
		copy(u.header[u.headerLen:], b[:n])
		u.headerLen += n
		if u.headerLen == recordHeaderLen {
			u.record = recordLen(u.header[:])
		}
		u.consume(n)
		return n, nil
	}
	n := copy(b, have[:min(len(have), u.record)])
	u.record -= n
	if u.record == 0 {
		u.headerLen = 0
	}
	u.consume(n)
	return n, nil
}

// plain is an upstream without TLS: what it reads has no records.
type plain struct{ *upstream }

func (p plain) Read(b []byte) (int, error) {
	if err := p.await(); err != nil {
		return 0, err
	}
	if p.in == nil {
		return 0, io.EOF
	}
	n := copy(b, p.Ahead())
	p.consume(n)
	return n, nil
}

// Ahead returns what has been read ahead. It is the upstream's.
func (u *upstream) Ahead() []byte {
	if u.in == nil {
		return nil
	}
	return (*u.in)[u.start:u.end]
}

func (u *upstream) consume(n int) {
	if u.start += n; u.start == u.end {
		putBuffer(u.in)
		u.in = nil
	}
}

// whole reports whether the next record is here entirely, so that reading it does
// not wait.
func (u *upstream) whole() bool {
	if u.in == nil || u.headerLen != 0 {
		return false
	}
	have := u.Ahead()
	return len(have) >= recordHeaderLen && len(have) >= recordHeaderLen+recordLen(have)
}

const recordHeaderLen = 5

// headLen is how much of a peer's first words a sentence may quote.
const headLen = 64

// recordLen reads a record's length (RFC 8446, section 5.1).
func recordLen(header []byte) int { return int(binary.BigEndian.Uint16(header[3:])) }

// Write sends b, or gathers it while hold is on.
func (u *upstream) Write(b []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.hold {
		u.out = append(u.out, b...)
		return len(b), nil
	}
	return u.to.Write(b)
}

// gathered sends all that f writes in one system call, where the socket takes it.
func (u *upstream) gathered(f func() error) error {
	out := getBuffer()
	defer putBuffer(out)
	u.gather(*out)
	err := f()
	if e := u.flush(); err == nil {
		err = e
	}
	return err
}

// gather makes writes wait for flush, in buf.
func (u *upstream) gather(buf []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.hold, u.out = true, buf[:0]
}

// flush sends what was gathered, in one call where the socket takes it.
func (u *upstream) flush() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := u.out
	u.hold, u.out = false, nil
	if len(out) == 0 {
		return nil
	}
	_, err := u.to.Write(out)
	return err
}

// closeWrite sends a FIN after what was written.
func (u *upstream) closeWrite() {
	var err error
	if e := u.to.control(func(fd int) { err = unix.Shutdown(fd, unix.SHUT_WR) }); e == nil && err == unix.ENOTSOCK {
		u.to.Close() // the end of a pipe is its close
	}
}

// shutdown ends the connection and keeps the socket.
func (u *upstream) shutdown() {
	u.control(func(fd int) { unix.Shutdown(fd, unix.SHUT_RDWR) })
}

// LocalAddr asks the kernel.
func (u *upstream) LocalAddr() net.Addr {
	var local netip.AddrPort
	u.control(func(fd int) { local, _ = localAddr(fd) })
	return net.TCPAddrFromAddrPort(local)
}

// RemoteAddr is what the socket was last connected to.
func (u *upstream) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(u.peer) }
