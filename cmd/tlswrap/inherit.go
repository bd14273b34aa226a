package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/begin"
	"tlswrap/proxy/told"
)

// firstListenFD is where the descriptors begin that a service manager passes
// (sd_listen_fds(3)).
const firstListenFD = 3

// serveInherited shows the worker the sockets that this process was started with, on
// standard input (inetd(8)) or passed by a service manager: those that listen, and clients
// that were accepted. The program finds what it is to use in their places.
func (o *options) serveInherited(c control) error {
	if o.acceptStdin && !isSocket(0) {
		return errors.New("--accept-stdin: standard input is no socket")
	}
	fds := append([]int{0}, passedOn()...)
	for _, fd := range fds {
		served, err := c.serve(fd, fds)
		if err != nil {
			return fmt.Errorf("the socket %d that was passed on: %w", fd, err)
		}
		if fd == 0 && o.acceptStdin && !served {
			return errors.New("--accept-stdin: no [[listen]] covers the port that the client has connected to")
		}
	}
	return nil
}

// passedOn are the descriptors that a service manager has passed.
func passedOn() (fds []int) {
	count, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil
	}
	for i := range min(count, 1024) {
		fds = append(fds, firstListenFD+i)
	}
	return fds
}

// serve has the worker serve on fd, or the client there, if that is covered, and puts what
// it gives in the place of fd and of every other of fds and the standard streams that is
// the same socket.
func (c control) serve(fd int, fds []int) (covered bool, err error) {
	tcp, client, err := tcpSocket(fd)
	if err != nil || !tcp {
		return false, err
	}
	var same []int
	for _, other := range append([]int{1, 2}, fds...) {
		if other == fd || slices.Contains(same, other) {
			continue
		}
		switch one := sameSocket(fd, other); {
		case one.Surely():
			same = append(same, other)
		case one.Possibly():
			return false, fmt.Errorf("it cannot be told whether the descriptor %d is the same one", other)
		}
	}
	if covered, err = begin.Serve(c.Reached, fd, client); err != nil || !covered {
		return covered, err
	}
	for _, other := range same {
		if err := unix.Dup3(fd, other, 0); err != nil {
			return true, os.NewSyscallError("dup3", err)
		}
	}
	return true, nil
}

// tcpSocket tells whether a descriptor is a TCP socket that listens, or that is connected: a
// client's. An error says that it cannot be told.
func tcpSocket(fd int) (tcp, client bool, err error) {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err == unix.ENOTSOCK || err == unix.EBADF {
		return false, false, nil
	}
	if err != nil {
		return false, false, os.NewSyscallError("getsockopt", err)
	}
	if protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_MPTCP {
		return false, false, nil
	}
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || listens != 0 {
		return err == nil, false, os.NewSyscallError("getsockopt", err)
	}
	_, err = unix.Getpeername(fd)
	if err == unix.ENOTCONN {
		return false, false, nil
	}
	return err == nil, true, os.NewSyscallError("getpeername", err)
}

// awayFromClient keeps sentences from the client, where inetd has made its connection
// standard error too.
func awayFromClient(stderr *os.File) *os.File {
	if sameSocket(0, int(stderr.Fd())).Possibly() {
		if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
			return null
		}
	}
	return stderr
}

func isSocket(fd int) bool { return sameSocket(fd, fd).Surely() }

// sameSocket tells whether two descriptors are of one socket.
func sameSocket(a, b int) told.Answer {
	var cookies [2]uint64
	for i, fd := range []int{a, b} {
		var err error
		cookies[i], err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
		if err == unix.ENOTSOCK || err == unix.EBADF {
			return told.If(false)
		}
		if err != nil {
			return told.Answer{}
		}
	}
	return told.If(cookies[0] == cookies[1])
}
