package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"tlswrap/proxy"
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
		listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		if err != nil {
			continue
		}
		served, err := c.serve(fd, listens == 0, fds)
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
func (c control) serve(fd int, client bool, fds []int) (covered bool, err error) {
	if client && !isTCPClient(fd) {
		return false, nil
	}
	var same []int
	for _, other := range append([]int{1, 2}, fds...) {
		if other != fd && !slices.Contains(same, other) && sameSocket(fd, other) {
			same = append(same, other)
		}
	}
	if covered, err = proxy.Serve(c.address, c.uid, c.token, fd, client); err != nil || !covered {
		return covered, err
	}
	for _, other := range same {
		if err := unix.Dup3(fd, other, 0); err != nil {
			return true, os.NewSyscallError("dup3", err)
		}
	}
	return true, nil
}

// isTCPClient reports whether a descriptor is a TCP connection.
func isTCPClient(fd int) bool {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil || protocol != unix.IPPROTO_TCP {
		return false
	}
	_, err = unix.Getpeername(fd)
	return err == nil
}

// awayFromClient keeps sentences from the client, where inetd has made its connection
// standard error too.
func awayFromClient(stderr *os.File) *os.File {
	if sameSocket(0, int(stderr.Fd())) {
		if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
			return null
		}
	}
	return stderr
}

func isSocket(fd int) bool { return sameSocket(fd, fd) }

// sameSocket reports whether two descriptors are of one socket.
func sameSocket(a, b int) bool {
	one, err := unix.GetsockoptUint64(a, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return false
	}
	other, err := unix.GetsockoptUint64(b, unix.SOL_SOCKET, unix.SO_COOKIE)
	return err == nil && one == other
}
