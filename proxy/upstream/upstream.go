// Package upstream has the other side of a connection, the real TCP socket: how it is connected, read
// ahead and ended, and how the new one that the worker connects is made like the program's own. It
// speaks no TLS; proxy/record does, on top. The fronts and relay call it.
package upstream

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/buffers"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/wire"
)

// Conn is the real TCP socket, the program's own, as a record.Transport. It reads
// ahead as much as there is, and holds a buffer only while bytes are in it.
type Conn struct {
	*fdio.Socket
	to *fdio.Socket // what is written to: the same, but for a pair of descriptors

	in         *[]byte // what was read ahead is (*in)[start:end]; nil where nothing was
	start, end int
	shrunk     bool      // in is no buffer, but just as large as what is ahead
	fill       fdio.Call // of Fill
	fillErr    error     // that it ended in

	head  []byte // the first bytes that Read has read
	Peer  netip.AddrPort
	Ended bool // the peer's FIN was seen
}

// New takes over a connected or connecting socket. It puts it into
// non-blocking mode, and closes it in Close.
//
// Nagle's algorithm (RFC 896) is off: the handshake's last flight would hold back the
// program's first words until the server's delayed acknowledgement. What the program
// writes was gathered in the channel already.
func New(fd int) (*Conn, error) {
	s, err := fdio.New(fd, "upstream")
	if err != nil {
		return nil, err
	}
	s.Control(func(fd int) { unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) })
	u := &Conn{Socket: s, to: s, head: make([]byte, 0, headLen)}
	u.fill = fdio.NewCall(u.tryFill)
	return u, nil
}

// NewPair reads from one descriptor and writes to another. It takes over both.
func NewPair(r, w int) (*Conn, error) {
	to, err := fdio.New(w, "upstream")
	if err != nil {
		unix.Close(r)
		return nil, err
	}
	u, err := New(r)
	if err != nil {
		to.Close()
		return nil, err
	}
	u.to = to
	return u, nil
}

// Close closes what there is.
func (u *Conn) Close() error {
	if u.to != u.Socket {
		u.to.Close()
	}
	return u.Socket.Close()
}

// SyscallConn is of what is written to.
func (u *Conn) SyscallConn() (syscall.RawConn, error) { return u.to.SyscallConn() }

// SetDeadline is for reading and writing.
func (u *Conn) SetDeadline(t time.Time) error {
	return errors.Join(u.SetReadDeadline(t), u.SetWriteDeadline(t))
}

// SetWriteDeadline is for what is written.
func (u *Conn) SetWriteDeadline(t time.Time) error { return u.to.SetWriteDeadline(t) }

// Connect connects to one address, under the deadline that was set. The error is the
// network's own, a unix.Errno, or os.ErrDeadlineExceeded.
func (u *Conn) Connect(to wire.Addr) error {
	u.Peer = netip.AddrPortFrom(to.Real(), to.Port)
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: to.IP.As16(), Port: int(to.Port), ZoneId: to.Scope}
	if to.IP.Is4() {
		sa = &unix.SockaddrInet4{Addr: to.IP.As4(), Port: int(to.Port)}
	}
	var err error
	if e := u.Control(func(fd int) { err = unix.Connect(fd, sa) }); e != nil {
		return e
	}
	if err != unix.EINPROGRESS && err != unix.EINTR {
		return err
	}
	e := u.WhenWritable(func(fd int) (done bool) {
		done, err = connected(fd)
		return done
	})
	if e != nil {
		return e
	}
	return err
}

// connected reports whether a connect has ended, and how. It never waits, whatever mode the socket is in.
func connected(fd int) (done bool, err error) {
	const established, synSent, synReceived, closed = 1, 2, 3, 7 // include/net/tcp_states.h
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	switch {
	case err != nil:
		return true, err
	case info.State == synSent || info.State == synReceived:
		return false, nil
	case info.State == established:
		return true, nil
	}
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	} else if err == nil && info.State == closed {
		err = unix.ECONNABORTED
	}
	return true, err
}

// Disconnect undoes a connect, so that another can follow (connect(2), AF_UNSPEC), and
// forgets all of the old connection. Nothing else may use the upstream meanwhile.
func (u *Conn) Disconnect() error {
	u.Consume(u.end - u.start)
	u.head, u.Ended = u.head[:0], false
	var err error
	if e := u.Control(func(fd int) { err = fdio.Disconnect(fd) }); e != nil {
		return e
	}
	return err
}

// Reconnect connects to an address once more.
func (u *Conn) Reconnect(to wire.Addr) error {
	if err := u.Disconnect(); err != nil {
		return err
	}
	return u.Connect(to)
}

// Abortive reports whether the program wants a close to be a reset (SO_LINGER with no
// time, socket(7)).
func (u *Conn) Abortive() bool {
	abort := false
	u.Control(func(fd int) {
		var l unix.Linger
		size := uint32(unsafe.Sizeof(l))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER,
			uintptr(unsafe.Pointer(&l)), uintptr(unsafe.Pointer(&size)), 0)
		abort = errno == 0 && l.Onoff != 0 && l.Linger == 0
	})
	return abort
}

// Abort closes with a reset.
func (u *Conn) Abort() {
	u.Control(func(fd int) {
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	})
	u.Close()
}

// Await waits, holding no buffer, until something is ahead, or the end.
func (u *Conn) Await() error {
	if u.in != nil {
		return nil
	}
	if err := u.Fill(); err != io.EOF {
		return err
	}
	return nil
}

// FillNow reads ahead what is there, and waits for nothing. An end or an error is left for Fill.
func (u *Conn) FillNow() {
	u.Control(func(fd int) {
		n, err := fdio.Unread(fd)
		if err == nil && n > 0 && u.makeRoom() {
			u.tryFill(fd)
		}
	})
}

// makeRoom reports whether there is room to read ahead.
func (u *Conn) makeRoom() bool {
	if u.in == nil {
		return true
	}
	room, ahead := u.in, u.Ahead()
	if u.shrunk {
		room = buffers.Get()
	}
	if u.shrunk || u.start > 0 {
		u.start, u.end = 0, copy(*room, ahead)
	}
	u.in, u.shrunk = room, false
	return u.end < len(*u.in)
}

// Shrink has what was read ahead lie in no more memory than it needs, until Fill: the connection is to wait.
// Nothing else has a slice of it.
func (u *Conn) Shrink() {
	if u.in == nil || u.shrunk {
		return
	}
	ahead := slices.Clone(u.Ahead())
	buffers.Put(u.in)
	u.in, u.start, u.end, u.shrunk = &ahead, 0, len(ahead), true
}

// Fill implements record.Transport.
func (u *Conn) Fill() error { return u.readAhead(false) }

// FillUnlessIdle implements record.Transport.
func (u *Conn) FillUnlessIdle() error { return u.readAhead(true) }

func (u *Conn) readAhead(unlessIdle bool) error {
	if !u.makeRoom() {
		return io.ErrShortBuffer
	}
	var err error
	if unlessIdle {
		err = u.ReadUnlessIdle(u.fill)
	} else {
		err = u.ReadWith(u.fill)
	}
	if err != nil {
		return err
	}
	return u.fillErr
}

// AwaitBytes waits until there is something to read, or the end of that, and reads nothing.
func (u *Conn) AwaitBytes() { u.ReadWith(readable) }

var readable = fdio.NewCall(fdio.Readable)

func (u *Conn) tryFill(fd int) bool {
	buf := u.in
	if buf == nil {
		buf, u.start, u.end = buffers.Get(), 0, 0
	}
	n, err := fdio.Receive(fd, (*buf)[u.end:])
	u.fillErr = err
	if n > 0 {
		u.in, u.end = buf, u.end+n
		return true
	}
	if u.in == nil {
		buffers.Put(buf)
	}
	if err == unix.EAGAIN {
		return false
	}
	if err == nil {
		u.Ended, u.fillErr = true, io.EOF
	}
	return true
}

// Read reads what is ahead, or waits.
func (u *Conn) Read(b []byte) (int, error) {
	n, err := Plain{u}.Read(b)
	u.head = append(u.head, b[:min(n, cap(u.head)-len(u.head))]...)
	return n, err
}

// Secured lets go of what First would say: TLS was spoken.
func (u *Conn) Secured() { u.head = nil }

// First is the first that the peer has said where TLS was expected, for people.
func (u *Conn) First() []byte {
	b := slices.Concat(u.head, u.Ahead())
	return b[:min(len(b), headLen)]
}

// Plain returns u for what is not TLS: before the handshake, and in its place.
func (u *Conn) Plain() Plain { return Plain{u} }

// Plain is an upstream as what does not speak TLS reads it.
type Plain struct{ *Conn }

func (p Plain) Read(b []byte) (int, error) {
	if p.in == nil {
		if err := p.Fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, p.Ahead())
	p.Consume(n)
	return n, nil
}

// Ahead implements record.Transport.
func (u *Conn) Ahead() []byte {
	if u.in == nil {
		return nil
	}
	return (*u.in)[u.start:u.end]
}

// Consume implements record.Transport.
func (u *Conn) Consume(n int) {
	if u.start += n; u.in != nil && u.start == u.end {
		if !u.shrunk {
			buffers.Put(u.in)
		}
		u.in, u.start, u.end, u.shrunk = nil, 0, 0, false
	}
}

// headLen is how much of a peer's first words a sentence may quote.
const headLen = 64

// Acknowledge implements record.Transport.
func (u *Conn) Acknowledge() {
	u.Control(func(fd int) { unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
}

// Write implements io.Writer.
func (u *Conn) Write(b []byte) (int, error) { return u.to.Write(b) }

// CloseWrite sends a FIN after what was written.
func (u *Conn) CloseWrite() {
	var err error
	if e := u.to.Control(func(fd int) { err = unix.Shutdown(fd, unix.SHUT_WR) }); e == nil && err == unix.ENOTSOCK {
		u.to.Close() // the end of a pipe is its close
	}
}

// Shutdown ends the connection and keeps the socket.
func (u *Conn) Shutdown() {
	u.Control(func(fd int) { unix.Shutdown(fd, unix.SHUT_RDWR) })
}

// Retire does so, and drops what was read ahead. Nothing else uses the upstream any more, but for its
// descriptor.
func (u *Conn) Retire() {
	u.Shutdown()
	u.Consume(u.end - u.start)
}

// Duplicate returns another descriptor of the socket, the caller's to close, or -1.
func (u *Conn) Duplicate() int {
	fd := -1
	u.Control(func(own int) { fd, _ = unix.FcntlInt(uintptr(own), unix.F_DUPFD_CLOEXEC, 0) })
	return fd
}

// LocalAddr asks the kernel.
func (u *Conn) LocalAddr() net.Addr {
	var local netip.AddrPort
	u.Control(func(fd int) {
		if sa, err := unix.Getsockname(fd); err == nil {
			local = wire.AddrPort(sa)
		}
	})
	return net.TCPAddrFromAddrPort(local)
}

// RemoteAddr is what the socket was last connected to.
func (u *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(u.Peer) }
