package supervisor

import (
	"encoding/binary"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/wire"
)

// address is one that the target has named, as it stood in its memory when it was read.
type address struct {
	raw []byte
	wire.Addr
	internet bool // Addr is what it says
}

// family is AF_UNSPEC for an address that is too short to have one.
func (a address) family() uint16 {
	if len(a.raw) < 2 {
		return unix.AF_UNSPEC
	}
	return native.Uint16(a.raw)
}

// mostAddress is the size of struct sockaddr_storage.
const mostAddress = 128

// readAddress reads an address; the answer is not nil where the kernel would not take it.
func (c *call) readAddress(at, length uint64) (a address, refusal answer) {
	n := int32(length)
	if n < 0 || n > mostAddress { // move_addr_to_kernel in net/socket.c
		return a, fail(unix.EINVAL)
	}
	a.raw = make([]byte, n)
	if refusal := c.read(at, a.raw); refusal != nil {
		return a, refusal
	}
	a.Addr, a.internet = parseAddress(a.raw)
	return a, nil
}

// read reads all of b, or returns the answer.
func (c *call) read(at uint64, b []byte) answer {
	n, err := c.thread.Read(at, b)
	switch {
	case err == unix.EPERM || err == unix.ESRCH:
		return c.unreachable(err)
	case err != nil || n < len(b):
		return fail(unix.EFAULT)
	case !c.waits():
		return nobody // and it may have been another's memory
	}
	return nil
}

// parseAddress reads a sockaddr_in or sockaddr_in6, which may lack its scope (RFC 2133 had none).
func parseAddress(b []byte) (a wire.Addr, ok bool) {
	if len(b) < 2 {
		return a, false
	}
	switch family := native.Uint16(b); {
	case family == unix.AF_INET && len(b) >= unix.SizeofSockaddrInet4:
		a.IP = netip.AddrFrom4([4]byte(b[4:]))
	case family == unix.AF_INET6 && len(b) >= 24:
		a.IP = netip.AddrFrom16([16]byte(b[8:]))
		if len(b) >= unix.SizeofSockaddrInet6 {
			a.Scope = native.Uint32(b[24:])
		}
	default:
		return a, false
	}
	a.Port = binary.BigEndian.Uint16(b[2:])
	return a, true
}

// formatAddress is parseAddress backwards.
func formatAddress(a wire.Addr) []byte {
	if a.IP.Is4() {
		b := make([]byte, unix.SizeofSockaddrInet4)
		native.PutUint16(b, unix.AF_INET)
		binary.BigEndian.PutUint16(b[2:], a.Port)
		copy(b[4:], a.IP.AsSlice())
		return b
	}
	b := make([]byte, unix.SizeofSockaddrInet6)
	native.PutUint16(b, unix.AF_INET6)
	binary.BigEndian.PutUint16(b[2:], a.Port)
	copy(b[8:], a.IP.AsSlice())
	native.PutUint32(b[24:], a.Scope)
	return b
}

// writeAddress puts an address where the target wants it, cut to the room that it has there, with its
// whole length (move_addr_to_user in net/socket.c).
func (c *call) writeAddress(raw []byte, at, lengthAt uint64) answer {
	var length [4]byte
	if refusal := c.read(lengthAt, length[:]); refusal != nil {
		return refusal
	}
	room := int32(native.Uint32(length[:]))
	if room < 0 {
		return fail(unix.EINVAL)
	}
	native.PutUint32(length[:], uint32(len(raw)))
	return c.write(piece{at, raw[:min(int(room), len(raw))]}, piece{lengthAt, length[:]})
}

// piece is what goes to an address of the target's memory.
type piece struct {
	at uint64
	b  []byte
}

// write writes pieces; the answer is not nil where that cannot be.
func (c *call) write(pieces ...piece) answer {
	for _, p := range pieces {
		if err := c.thread.Write(p.at, p.b); err != nil {
			return fail(unix.EFAULT)
		}
	}
	return nil
}

// connect is connect(2) with an address as it stands in memory, and does not interpret it; bind is bind(2).
func connect(fd int, raw []byte) error { return withAddress(unix.SYS_CONNECT, fd, raw) }
func bind(fd int, raw []byte) error    { return withAddress(unix.SYS_BIND, fd, raw) }

func withAddress(number uintptr, fd int, raw []byte) error {
	var at unsafe.Pointer
	if len(raw) > 0 {
		at = unsafe.Pointer(&raw[0])
	}
	_, _, errno := unix.Syscall(number, uintptr(fd), uintptr(at), uintptr(len(raw)))
	if errno != 0 {
		return errno
	}
	return nil
}

// rawName is getsockname(2) or getpeername(2).
func rawName(number uintptr, fd int) ([]byte, error) {
	var b [unix.SizeofSockaddrAny]byte
	size := uint32(len(b))
	_, _, errno := unix.RawSyscall(number, uintptr(fd), uintptr(unsafe.Pointer(&b)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return nil, os.NewSyscallError("getsockname", errno)
	}
	return b[:min(int(size), len(b))], nil
}
