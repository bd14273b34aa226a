package tracer

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/target"
)

// link is a socket and a page of memory that a thread has for the moment of one call, and the worker's end
// of that socket: descriptors are passed by it (unix(7), SCM_RIGHTS). The thread's own stack is no place for
// what that takes, as a goroutine's may end there.
type link struct {
	page, socket int64 // of the thread's; -1 for none
	end          int
}

const pageSize = 4096

// Places in the page.
const (
	atHeader  = 0   // struct msghdr
	atVector  = 64  // struct iovec
	atByte    = 96  // what goes along with a descriptor
	atControl = 128 // struct cmsghdr, with one descriptor
	atAddress = 256 // struct sockaddr_un
)

var native = binary.NativeEndian

// makeLink makes the thread connect to a listener that is there for that alone.
func (t *Tracer) makeLink(c *call) error {
	if err := t.step(c); err != nil || c.link != nil {
		return err
	}
	listener, address, err := listen(c.tid)
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	c.link = &link{-1, -1, -1}
	l := c.link
	if l.page, err = t.inject(c, unix.SYS_MMAP, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0); err != nil {
		return err
	}
	if l.socket, err = t.inject(c, unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return err
	}
	if err := c.poke(atAddress, address); err != nil {
		return err
	}
	if _, err := t.inject(c, unix.SYS_CONNECT, uint64(l.socket), l.at(atAddress), uint64(len(address)), 0, 0, uint64(t.cookie)); err != nil {
		return err
	}
	if l.end, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK); err != nil {
		l.end = -1
		return os.NewSyscallError("accept4", err)
	}
	return l.belongsTo(c.tid)
}

// belongsTo makes sure that it was the thread's process that has connected, and nobody who has found the address.
func (l *link) belongsTo(tid int) error {
	peer, err := unix.GetsockoptUcred(l.end, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if err := unix.Access(fmt.Sprintf("/proc/%d/task/%d", peer.Pid, tid), unix.F_OK); err != nil {
		return fmt.Errorf("process %d has connected in the place of another: %w", peer.Pid, unix.EPERM)
	}
	return nil
}

// listen returns a socket at an abstract name that nobody can guess, and that as a struct sockaddr_un. Such names
// are the network namespace's, which is to be the thread's.
func listen(tid int) (fd int, address []byte, err error) {
	var id [16]byte
	rand.Read(id[:])
	name := "@tlswrap-" + hex.EncodeToString(id[:])
	if fd, err = target.SocketIn(tid, unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return -1, nil, err
	}
	if err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrUnix{Name: name})); err == nil {
		err = os.NewSyscallError("listen", unix.Listen(fd, 1))
	}
	if err != nil {
		unix.Close(fd)
		return -1, nil, err
	}
	address = native.AppendUint16(nil, unix.AF_UNIX)
	address = append(address, 0)
	return fd, append(address, name[1:]...), nil
}

func (l *link) at(offset uint64) uint64 { return uint64(l.page) + offset }

// poke writes into the page.
func (c *call) poke(offset uint64, b []byte) error {
	return c.memory().Write(c.link.at(offset), b)
}

func (c *call) memory() *target.Thread { return &target.Thread{TID: c.tid} }

// sizeOfControl is that of a struct cmsghdr with one descriptor, with its padding.
var sizeOfControl = unix.CmsgSpace(4)

// message is what stands at the beginning of the page: a message of one byte, with a descriptor, or room for one.
func (l *link) message(descriptor int) []byte {
	b := make([]byte, atControl+sizeOfControl)
	long := func(at int, value uint64) { native.PutUint64(b[at:], value) }
	long(atHeader+16, l.at(atVector))
	long(atHeader+24, 1)
	long(atHeader+32, l.at(atControl))
	long(atHeader+40, uint64(sizeOfControl))
	long(atVector, l.at(atByte))
	long(atVector+8, 1)
	copy(b[atControl:], unix.UnixRights(descriptor))
	return b
}

// fetch has the thread send a descriptor of its own.
func (t *Tracer) fetch(c *call, number int) (int, error) {
	if err := t.makeLink(c); err != nil {
		return -1, err
	}
	if err := c.poke(0, c.link.message(number)); err != nil {
		return -1, err
	}
	if _, err := t.inject(c, unix.SYS_SENDMSG, uint64(c.link.socket), c.link.at(atHeader), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0, uint64(t.cookie)); err != nil {
		return -1, err
	}
	var b [1]byte
	control := make([]byte, sizeOfControl)
	_, n, _, _, err := unix.Recvmsg(c.link.end, b[:], control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("recvmsg", err)
	}
	return oneOf(control[:n])
}

// oneOf reads the descriptor of a control message.
func oneOf(control []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		return -1, unix.EPROTO
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, unix.EPROTO
	}
	return fds[0], nil
}

// give has the thread take a copy of fd, and returns its number there.
func (t *Tracer) give(c *call, fd int) (int64, error) {
	if err := t.makeLink(c); err != nil {
		return -1, err
	}
	if err := unix.Sendmsg(c.link.end, []byte{0}, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL); err != nil {
		return -1, os.NewSyscallError("sendmsg", err)
	}
	if err := c.poke(0, c.link.message(-1)); err != nil {
		return -1, err
	}
	if _, err := t.inject(c, unix.SYS_RECVMSG, uint64(c.link.socket), c.link.at(atHeader), unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT); err != nil {
		return -1, err
	}
	control := make([]byte, sizeOfControl)
	if _, err := c.memory().Read(c.link.at(atControl), control); err != nil {
		return -1, err
	}
	number, err := oneOf(control)
	if number < 0 && err == nil {
		err = unix.EMFILE // there was no room, and -1 still stands there
	}
	return int64(number), err
}

// place puts the thread's descriptor from at another number.
func (t *Tracer) place(c *call, from, to int64, closeOnExec bool) error {
	flags := uint64(0)
	if closeOnExec {
		flags = unix.O_CLOEXEC
	}
	_, err := t.inject(c, unix.SYS_DUP3, uint64(from), uint64(to), flags)
	if err == unix.EBUSY { // dup2(2): another thread has closed it, and is about to have something else there
		err = unix.EBADF
	}
	if _, failed := t.inject(c, unix.SYS_CLOSE, uint64(from)); err == nil {
		err = failed
	}
	return err
}

// replace puts a copy of fd at a number of the thread's that is taken.
func (t *Tracer) replace(c *call, fd, at int, closeOnExec bool) error {
	number, err := t.give(c, fd)
	if err != nil {
		return err
	}
	return t.place(c, number, int64(at), closeOnExec)
}

// put puts a copy of fd at the lowest number, which the link has had.
func (t *Tracer) put(c *call, fd int, closeOnExec bool) (int64, error) {
	number, err := t.give(c, fd)
	if err != nil {
		return -1, err
	}
	to := c.link.socket
	if err := t.place(c, number, to, closeOnExec); err != nil {
		return -1, err
	}
	c.link.socket = -1
	return to, nil
}

// unlink takes from the thread what it has got for us, if another one has not done that. The error is that the
// thread does not wait any more.
func (t *Tracer) unlink(c *call) error {
	l := c.link
	if l == nil {
		return nil
	}
	c.dropLink()
	if l.socket >= 0 {
		t.inject(c, unix.SYS_CLOSE, uint64(l.socket))
	}
	if l.page >= 0 && t.threads[c.tid] == c {
		t.inject(c, unix.SYS_MUNMAP, uint64(l.page), pageSize)
	}
	if t.threads[c.tid] != c {
		return unix.ENOENT
	}
	return nil
}

// dropLink closes the worker's end.
func (c *call) dropLink() {
	if c.link != nil {
		fdio.Close(c.link.end)
	}
	c.link = nil
}
