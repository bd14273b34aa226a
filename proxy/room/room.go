// Package room makes network namespaces in which every address is local, and sockets in them. What a
// program sends from such a socket, to whatever server on port 53, comes out here, and the answer comes
// from the address that was asked, as any resolver wants it. Nothing leaves a room: it has no interface
// but lo, and on it a route for everything.
//
// A room has a warden, who is in the namespace and makes its sockets. It is a thread of this process
// where that may make a network namespace (CAP_SYS_ADMIN), and else a process in a user namespace of its
// own, which ends when nobody holds the other end of its socket any more: with the room, or with the
// worker, however that ends. That process has no user's number in its user namespace, and needs none:
// it keeps two capabilities over its exec as ambient ones. So nothing is written to /proc, where the
// worker, which is not dumpable, has no right to.
package room

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/thread"
)

// Room is a network namespace in which every address is local. Its methods may be called from any
// goroutine.
type Room struct {
	// What is sent to port 53 of any address. Those for IPv4 come first; those for IPv6 are missing
	// where the kernel has none.
	Packets []*net.UDPConn
	Streams []*net.TCPListener

	mu     sync.Mutex
	warden int // a socket, -1 after Close
}

// Stage is what a process is called that keeps a room: Keep is all of its main.
const Stage = "goressl-room"

// wardenFD is where such a process has its socket.
const wardenFD = 3

// Open makes a room. log has the panics of its goroutines.
func Open(log *slog.Logger) (*Room, error) {
	r, err := byThread(log)
	if err == nil {
		return r, nil
	}
	r, other := byProcess(log)
	if other == nil {
		return r, nil
	}
	return nil, fmt.Errorf("a network namespace for look-ups cannot be made (%w), nor one in a user namespace (%w)", err, other)
}

// Try tells why a room cannot be kept by a thread of this process, and why not by a process in a user
// namespace: sentences for a person, or nil.
func Try(log *slog.Logger) (ofThread, ofProcess error) {
	for _, way := range []struct {
		open func(*slog.Logger) (*Room, error)
		err  *error
	}{{byThread, &ofThread}, {byProcess, &ofProcess}} {
		r, err := way.open(log)
		if err == nil {
			r.Close()
		}
		*way.err = err
	}
	return ofThread, ofProcess
}

func byThread(log *slog.Logger) (*Room, error) {
	r, err := openWith(func(theirs int) error {
		startThread(log, theirs)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w, which takes CAP_SYS_ADMIN", err)
	}
	return r, nil
}

func byProcess(log *slog.Logger) (*Room, error) {
	r, err := openWith(func(theirs int) error { return startWarden(log, theirs) })
	if err != nil {
		return nil, fmt.Errorf("%w, which takes CONFIG_USER_NS, no chroot, and the sysctls user.max_user_namespaces, "+
			"kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns, where there are such", err)
	}
	return r, nil
}

// startThread starts a thread that keeps a room, and takes over theirs.
func startThread(log *slog.Logger, theirs int) {
	go thread.Run(func() {
		defer unix.Close(theirs)
		guard.Run(log, "room", nil, func() { keepUnshared(theirs) })
	})
}

// startWarden starts a process that keeps a room, and takes over theirs.
func startWarden(log *slog.Logger, theirs int) error {
	f := os.NewFile(uintptr(theirs), "room")
	defer f.Close()
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{Stage}, Env: []string{"GOMAXPROCS=1"}, Dir: "/",
		ExtraFiles: []*os.File{f},
		SysProcAttr: &syscall.SysProcAttr{
			Setsid:      true,
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
			AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE},
		},
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go guard.Run(log, "room", nil, func() { cmd.Wait() })
	return nil
}

// patience is how long a warden may take for an answer.
const patience = 5 * time.Second

var errSilent = errors.New("what keeps the network namespace does not answer")

// openWith makes a room. start begins to keep it, with the other end of a socket, which it takes over.
func openWith(start func(theirs int) error) (*Room, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	r := &Room{warden: pair[0]}
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(r.warden, unix.SOL_SOCKET, option, &limit); err != nil {
			unix.Close(pair[0])
			unix.Close(pair[1])
			return nil, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := start(pair[1]); err != nil {
		r.Close()
		return nil, err
	}
	fds, err := receive(r.warden)
	if err == nil {
		err = r.adopt(fds)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// adopt takes over the sockets that a warden listens with: for each family one for packets and one for streams.
func (r *Room) adopt(fds []int) error {
	var errs []error
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "room")
		if i%2 == 0 {
			c, err := net.FilePacketConn(f)
			if c, ok := c.(*net.UDPConn); ok {
				r.Packets = append(r.Packets, c)
			}
			errs = append(errs, err)
		} else {
			l, err := net.FileListener(f)
			if l, ok := l.(*net.TCPListener); ok {
				r.Streams = append(r.Streams, l)
			}
			errs = append(errs, err)
		}
		f.Close()
	}
	return errors.Join(errs...)
}

// Socket makes a socket in the room: of AF_INET or AF_INET6, SOCK_DGRAM or SOCK_STREAM. It is close-on-exec.
func (r *Room) Socket(domain, typ int) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.warden < 0 {
		return -1, net.ErrClosed
	}
	question := binary.NativeEndian.AppendUint32(nil, uint32(domain))
	question = binary.NativeEndian.AppendUint32(question, uint32(typ))
	err := fdio.Again(func() error { return unix.Sendto(r.warden, question, unix.MSG_NOSIGNAL, nil) })
	if err != nil {
		return -1, errSilent
	}
	fds, err := receive(r.warden)
	if err == errSilent {
		// An answer that comes late would be taken for that to the next question.
		unix.Close(r.warden)
		r.warden = -1
	}
	if err != nil {
		return -1, err
	}
	if len(fds) != 1 {
		closeAll(fds)
		return -1, errSilent
	}
	return fds[0], nil
}

// Close ends the room. What was made in it is not closed, and has nobody to talk to.
func (r *Room) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	fdio.Close(r.warden)
	r.warden = -1
	for _, c := range r.Packets {
		c.Close()
	}
	for _, l := range r.Streams {
		l.Close()
	}
}
