package wire

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conn is a connection to a worker's control socket.
type Conn struct {
	*net.UnixConn
	// Cookie lets its calls through a filter that this process may be under (package seccomp).
	Cookie uint64
	// PID is of the process that listens there, as this one sees it.
	PID int32
}

// Dial connects to the control socket at address, for an exchange of at most limit, unless trust
// has something against the user that listens there.
func Dial(address string, limit time.Duration, trust func(uid uint32) error) (Conn, error) {
	dialer := net.Dialer{Timeout: RequestTime}
	dialed, err := dialer.Dial("unixpacket", address)
	if err != nil {
		return Conn{}, errors.Unwrap(err)
	}
	conn := dialed.(*net.UnixConn)
	var cred *unix.Ucred
	raw, err := conn.SyscallConn()
	if err == nil {
		if e := raw.Control(func(fd uintptr) {
			cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		}); e != nil {
			err = e
		}
	}
	if err == nil {
		err = trust(cred.Uid)
	}
	if err != nil {
		conn.Close()
		return Conn{}, err
	}
	conn.SetDeadline(time.Now().Add(limit))
	return Conn{UnixConn: conn, PID: cred.Pid}, nil
}

// Tell sends a request that is not answered.
func (c Conn) Tell(req Request) error {
	_, err := c.Write(req.Marshal())
	return err
}

// Send is sendmsg(2) with the cookie.
func (c Conn) Send(data, control []byte) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	iov := unix.Iovec{Base: &data[0]}
	iov.SetLen(len(data))
	header := unix.Msghdr{Iov: &iov, Iovlen: 1}
	if len(control) > 0 {
		header.Control = &control[0]
		header.SetControllen(len(control))
	}
	var errno unix.Errno
	if err := raw.Write(func(fd uintptr) bool {
		_, _, errno = unix.Syscall6(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&header)), unix.MSG_NOSIGNAL, 0, 0, uintptr(c.Cookie))
		return errno != unix.EAGAIN
	}); err != nil {
		return err
	}
	if errno != 0 {
		return os.NewSyscallError("sendmsg", errno)
	}
	return nil
}

// Ask sends a request with descriptors, and returns the reply with those that
// came along, the caller's to close, also where there is an error. Its addresses are not read.
func (c Conn) Ask(req Request, fds ...int) (r Reply, got Descriptors, err error) {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if err := c.Send(req.Marshal(), rights); err != nil {
		return r, nil, err
	}
	var b [ReplyHeader + AddrLen]byte
	var oob [64]byte
	n, oobn, _, _, err := c.ReadMsgUnix(b[:], oob[:])
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
