package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"tlswrap/proxy"
)

// firstListenFD is where the descriptors begin that a service manager passes
// (sd_listen_fds(3)).
const firstListenFD = 3

// serveInherited shows the worker the sockets that this process was started with: with
// --accept-stdin the client that inetd has accepted, and those that a service manager has
// made listen. The program finds what it is to use in their places.
func (o *options) serveInherited(c control) error {
	if o.acceptStdin {
		return c.acceptStdin()
	}
	count, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		count = 0
	}
	fds := []int{0} // inetd's "wait"
	for i := range min(count, 1024) {
		fds = append(fds, firstListenFD+i)
	}
	for _, fd := range fds {
		if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
			continue
		}
		if _, err := proxy.Serve(c.address, c.token, fd, false); err != nil {
			return fmt.Errorf("the listening socket %d that was passed on: %w", fd, err)
		}
	}
	return nil
}

// acceptStdin has the worker serve the client on standard input, and puts the channel in
// the place of every standard stream that is the client.
func (c control) acceptStdin() error {
	if !isSocket(0) {
		return errors.New("--accept-stdin: standard input is no socket")
	}
	var same []int
	for _, fd := range []int{1, 2} {
		if sameSocket(0, fd) {
			same = append(same, fd)
		}
	}
	covered, err := proxy.Serve(c.address, c.token, 0, true)
	if err != nil {
		return fmt.Errorf("--accept-stdin: %w", err)
	}
	if !covered {
		return errors.New("--accept-stdin: no [[listen]] covers the port that the client has connected to")
	}
	for _, fd := range same {
		if err := unix.Dup3(0, fd, 0); err != nil {
			return os.NewSyscallError("dup3", err)
		}
	}
	return nil
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
