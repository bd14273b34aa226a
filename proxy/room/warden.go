package room

import (
	"encoding/binary"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
)

// Keep keeps the room of a process that was started for it, until nobody wants it any more.
func Keep() {
	unix.CloseOnExec(wardenFD)
	keep(wardenFD)
}

// keepUnshared keeps a room in a new network namespace of this thread's alone.
func keepUnshared(fd int) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		send(fd, os.NewSyscallError("unshare", err))
		return
	}
	keep(fd)
}

// keep makes the network namespace that it is called in a room, and sockets in it for whoever is at the other end
// of fd.
func keep(fd int) {
	listeners, err := furnish()
	sent := send(fd, err, listeners...)
	closeAll(listeners)
	if err != nil || sent != nil {
		return
	}
	for {
		var question [8]byte
		var n int
		err := fdio.Again(func() (err error) {
			n, err = unix.Read(fd, question[:])
			return err
		})
		if err != nil || n != len(question) {
			return
		}
		domain, typ := binary.NativeEndian.Uint32(question[:]), binary.NativeEndian.Uint32(question[4:])
		s, err := unix.Socket(int(domain), int(typ)|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			sent = send(fd, os.NewSyscallError("socket", err))
		} else {
			sent = send(fd, nil, s)
			unix.Close(s)
		}
		if sent != nil {
			return
		}
	}
}

// furnish makes every address local, and returns what listens on port 53 of them all. A kernel without IPv6
// has a room without it.
func furnish() (listeners []int, err error) {
	if err := linkUp(); err != nil {
		return nil, err
	}
	if err := routeAll(unix.AF_INET); err != nil {
		return nil, err
	}
	families := []int{unix.AF_INET}
	if routeAll(unix.AF_INET6) == nil {
		families = append(families, unix.AF_INET6)
	}
	for _, family := range families {
		for _, typ := range []int{unix.SOCK_DGRAM, unix.SOCK_STREAM} {
			fd, err := listen(family, typ)
			if err != nil {
				closeAll(listeners)
				return nil, err
			}
			listeners = append(listeners, fd)
		}
	}
	return listeners, nil
}

// port is the only one that anybody listens on in a room.
const port = 53

// listen makes a socket that gets what is sent to the port of any address. A packet comes with the address that it
// was sent to, which the answer may come from.
func listen(family, typ int) (fd int, err error) {
	fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	type option struct{ level, name int }
	var options []option
	var any unix.Sockaddr = &unix.SockaddrInet4{Port: port}
	if family == unix.AF_INET6 {
		any = &unix.SockaddrInet6{Port: port}
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY})
	}
	switch {
	case typ == unix.SOCK_DGRAM && family == unix.AF_INET:
		options = append(options, option{unix.IPPROTO_IP, unix.IP_PKTINFO})
	case typ == unix.SOCK_DGRAM:
		// By a route alone an IPv6 address may be sent from only where it may be bound to.
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO}, option{unix.IPPROTO_IPV6, unix.IPV6_FREEBIND})
	}
	for _, o := range options {
		if err == nil {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, o.level, o.name, 1))
		}
	}
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, any))
	}
	if err == nil && typ == unix.SOCK_STREAM {
		err = os.NewSyscallError("listen", unix.Listen(fd, unix.SOMAXCONN))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// mostSockets is how many come with one message: those that listen.
const mostSockets = 4

// send sends sockets or, where err is not nil, a failed call's number and name.
func send(fd int, err error, sockets ...int) error {
	message := make([]byte, 4, 64)
	if call, ok := err.(*os.SyscallError); ok {
		errno, _ := call.Err.(syscall.Errno)
		binary.NativeEndian.PutUint32(message, uint32(errno))
		message = append(message, call.Syscall...)
	}
	var rights []byte
	if len(sockets) > 0 {
		rights = unix.UnixRights(sockets...)
	}
	return fdio.Again(func() error { return unix.Sendmsg(fd, message, rights, nil, unix.MSG_NOSIGNAL) })
}

// receive is the other end's.
func receive(fd int) (sockets []int, err error) {
	message, rights := make([]byte, 64), make([]byte, unix.CmsgSpace(4*mostSockets))
	var n, rightsLen int
	err = fdio.Again(func() (err error) {
		n, rightsLen, _, _, err = unix.Recvmsg(fd, message, rights, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil || n < 4 {
		return nil, errSilent
	}
	messages, err := unix.ParseSocketControlMessage(rights[:rightsLen])
	if err != nil {
		return nil, errSilent
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		sockets = append(sockets, fds...)
	}
	if errno := binary.NativeEndian.Uint32(message); errno != 0 {
		closeAll(sockets)
		return nil, os.NewSyscallError(string(message[4:n]), syscall.Errno(errno))
	}
	return sockets, nil
}
