package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conn is a connection to a worker's control socket. It waits in the kernel, and not by Go's poller: who begins it
// does nothing else, and most of what it costs would be to run so much more code for the first time.
type Conn struct {
	FD int
	// Cookie lets its calls through a filter that this process may be under (package seccomp).
	Cookie uint64
	// PID is of the process that listens there, as this one sees it.
	PID int32
}

// Dial connects to the control socket at address, where each message may take limit, unless trust
// has something against the user that listens there.
func Dial(address string, limit time.Duration, trust func(uid uint32) error) (Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Conn{}, os.NewSyscallError("socket", err)
	}
	pid, err := dial(fd, address, limit, trust)
	if err != nil {
		unix.Close(fd)
		return Conn{}, err
	}
	return Conn{FD: fd, PID: pid}, nil
}

func dial(fd int, address string, limit time.Duration, trust func(uid uint32) error) (pid int32, err error) {
	if err := limitTo(fd, RequestTime); err != nil {
		return 0, err
	}
	for {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: address})
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return 0, os.NewSyscallError("connect", inTime(err))
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err == nil {
		err = trust(cred.Uid)
	}
	if err == nil && limit != RequestTime {
		err = limitTo(fd, limit)
	}
	if err != nil {
		return 0, err
	}
	return cred.Pid, nil
}

// limitTo limits how long the kernel waits in a call.
func limitTo(fd int, limit time.Duration) error {
	t := unix.NsecToTimeval(limit.Nanoseconds())
	err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &t)
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &t)
	}
	return os.NewSyscallError("setsockopt", err)
}

// inTime tells of a limit that was reached in words.
func inTime(err error) error {
	if err == unix.EAGAIN {
		return os.ErrDeadlineExceeded
	}
	return err
}

// Close ends the connection.
func (c Conn) Close() { unix.Close(c.FD) }

// Tell sends a request that is not answered.
func (c Conn) Tell(req Request, fds ...int) error { return c.Send(req.Marshal(), rights(fds)) }

// rights are the control message for descriptors, or nil for none.
func rights(fds []int) []byte {
	if len(fds) == 0 {
		return nil
	}
	return unix.UnixRights(fds...)
}

// Send is sendmsg(2) with the cookie.
func (c Conn) Send(data, control []byte) error {
	iov := unix.Iovec{Base: &data[0]}
	iov.SetLen(len(data))
	header := unix.Msghdr{Iov: &iov, Iovlen: 1}
	if len(control) > 0 {
		header.Control = &control[0]
		header.SetControllen(len(control))
	}
	for {
		_, _, errno := unix.Syscall6(unix.SYS_SENDMSG, uintptr(c.FD), uintptr(unsafe.Pointer(&header)), unix.MSG_NOSIGNAL, 0, 0, uintptr(c.Cookie))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return os.NewSyscallError("sendmsg", inTime(errno))
		}
	}
}

// WaitForEnd waits until the other end answers, or closes the connection.
func (c Conn) WaitForEnd() { c.receive(make([]byte, 1), nil) }

func (c Conn) receive(b, oob []byte) (n, oobn int, err error) {
	for {
		n, oobn, _, _, err = unix.Recvmsg(c.FD, b, oob, unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, 0, os.NewSyscallError("recvmsg", inTime(err))
		case n == 0:
			return 0, oobn, io.EOF
		default:
			return n, oobn, nil
		}
	}
}

// Ask sends a request with descriptors, and returns the reply with those that
// came along, the caller's to close, also where there is an error. Its addresses are not read.
func (c Conn) Ask(req Request, fds ...int) (r Reply, got Descriptors, err error) {
	if err := c.Tell(req, fds...); err != nil {
		return r, nil, err
	}
	var b [ReplyHeader + AddrLen]byte
	var oob [64]byte
	n, oobn, err := c.receive(b[:], oob[:])
	if err != nil {
		return r, nil, err
	}
	got, err = parseDescriptors(oob[:oobn])
	if err == nil && (n < ReplyHeader || binary.NativeEndian.Uint32(b[:]) != wireMagic) {
		err = errors.New("it does not speak this version of the control protocol")
	}
	r.Answer = answer(binary.NativeEndian.Uint16(b[4:]))
	r.Number = binary.NativeEndian.Uint16(b[6:])
	r.Errno = unix.Errno(binary.NativeEndian.Uint32(b[8:]))
	r.Name = unix.ByteSliceToString(b[16 : 16+wireNameLen])
	return r, got, err
}
