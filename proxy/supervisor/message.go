package supervisor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sizes are those of the structures that messages are made of, in a target's memory.
type sizes struct {
	long, msghdr, mmsghdr uint64
}

func (c *call) sizes() sizes {
	if c.Wide {
		return sizes{8, 56, 64}
	}
	return sizes{4, 28, 32}
}

// long reads a long, or a pointer, that stands at an index of longs.
func (c *call) long(b []byte, index int) uint64 {
	if c.Wide {
		return native.Uint64(b[8*index:])
	}
	return uint64(native.Uint32(b[4*index:]))
}

const (
	mostVectors = 1024 // UIO_MAXIOV
	mostControl = 20 << 10
)

// readMessage reads a struct msghdr: a name and its length, vectors and their number, control messages and
// their length, each in a long of its own.
func (c *call) readMessage(at uint64, flags int) (m message, refusal answer) {
	var b [56]byte
	header := b[:c.sizes().msghdr]
	if refusal := c.read(at, header); refusal != nil {
		return m, refusal
	}
	m.flags = flags
	name, length := c.long(header, 0), uint64(native.Uint32(header[c.sizes().long:]))
	if m.named = name != 0 && length != 0; m.named {
		if m.to, refusal = c.readAddress(name, min(length, mostAddress)); refusal != nil {
			return m, refusal
		}
	}
	if !m.named && flags&unix.MSG_FASTOPEN == 0 {
		return m, nil // the kernel's, which looks at the rest itself
	}
	count := c.long(header, 3)
	if count > mostVectors {
		return m, fail(unix.EMSGSIZE)
	}
	if m.vectors, refusal = c.readVectors(c.long(header, 2), int(count)); refusal != nil {
		return m, refusal
	}
	if size := c.long(header, 5); size > 0 && c.Wide { // a 32-bit program's have another layout
		m.control = make([]byte, min(size, mostControl))
		return m, c.read(c.long(header, 4), m.control)
	}
	return m, nil
}

func (c *call) readVectors(at uint64, count int) ([]vector, answer) {
	long := int(c.sizes().long)
	b := make([]byte, count*2*long)
	if refusal := c.read(at, b); refusal != nil {
		return nil, refusal
	}
	all := make([]vector, count)
	for i := range all {
		all[i] = vector{c.long(b, 2*i), c.long(b, 2*i+1)}
	}
	return all, nil
}

// transmitNow is sendmsg(2), and does not wait.
func (c *call) transmitNow(fd int, m message, data []byte) (int, error) {
	var iov unix.Iovec
	iov.SetLen(len(data))
	if len(data) > 0 {
		iov.Base = &data[0]
	}
	header := unix.Msghdr{Iov: &iov, Iovlen: 1}
	if m.named && len(m.to.raw) > 0 {
		header.Name, header.Namelen = &m.to.raw[0], uint32(len(m.to.raw))
	}
	if len(m.control) > 0 {
		header.Control = &m.control[0]
		header.SetControllen(len(m.control))
	}
	flags := m.flags | unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	n, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&header)), uintptr(flags))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
