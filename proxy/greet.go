package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Greet begins a session named token with the worker at address, an abstract socket
// ("@name") or a path, on behalf of this process. Sentences for a person will go to
// stderr. It returns the user that the worker runs as, once trust has nothing against that
// user, and waits until the worker is ready; the error of a worker that went away is io.EOF
// or the network's.
func Greet(address string, trust func(uid uint32) error, token Token, stderr *os.File, verbose, quiet bool) (uid uint32, err error) {
	c, err := call(address, requestTime, func(peer uint32) error {
		uid = peer
		return trust(peer)
	})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	hello := request{op: opHello, flags: flagStderr, token: token}
	if verbose {
		hello.flags |= flagVerbose
	}
	if quiet {
		hello.flags |= flagQuiet
	}
	r, _, err := c.ask(hello, int(stderr.Fd()))
	if err != nil {
		return 0, err
	}
	if r.answer == answerError && r.errno == unix.ENETDOWN {
		return 0, errManySessions
	}
	if r.answer != answerGood {
		return 0, errors.New("this user may not use it (tlswrap worker --allow lets others)")
	}
	return uid, nil
}

// Serve shows the worker of user uid's a TCP socket of this process, one that listens or, with
// accepted, one that was accepted, and puts in its place what the program is to use
// instead, without the close-on-exec flag. It reports whether a listen rule is about the
// socket. A client that was accepted has then shaken hands; the error is a Failure, of
// which the person has been told, where it did not.
func Serve(address string, uid uint32, token Token, fd int, accepted bool) (covered bool, err error) {
	c, err := call(address, acceptTime, func(peer uint32) error {
		if peer != uid {
			return fmt.Errorf("user %d has taken the worker's place", peer)
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	defer c.Close()
	req := request{op: opListen, token: token}
	if accepted {
		req.op = opAccept
	}
	r, end, err := c.ask(req, fd)
	if end >= 0 {
		defer unix.Close(end)
	}
	switch {
	case err != nil:
		return false, err
	case r.answer == answerPass:
		return false, nil
	case r.answer == answerError:
		return true, failf(r.errno, "%v", r.errno)
	case r.answer != answerChannel || end < 0:
		return true, errors.New("it did not answer as expected")
	}
	if err := unix.Dup3(end, fd, 0); err != nil {
		return true, os.NewSyscallError("dup3", err)
	}
	_, err = c.Write(request{op: opTaken, token: token}.marshal())
	return true, err
}

// acceptTime is the longest that a client's handshake can take (see rules).
const acceptTime = 11 * time.Minute

// callConn is a connection to a worker's control socket.
type callConn struct{ *net.UnixConn }

// call connects to the control socket at address, for an exchange of at most limit, unless trust
// has something against the user that listens there.
func call(address string, limit time.Duration, trust func(uid uint32) error) (callConn, error) {
	dialer := net.Dialer{Timeout: requestTime}
	dialed, err := dialer.Dial("unixpacket", address)
	if err != nil {
		return callConn{}, errors.Unwrap(err)
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
		return callConn{}, err
	}
	conn.SetDeadline(time.Now().Add(limit))
	return callConn{conn}, nil
}

// ask sends a request with a descriptor, and returns the reply with the descriptor that
// came along, the caller's to close, or -1. Of the reply only answer and errno are read.
func (c callConn) ask(req request, fd int) (r reply, got int, err error) {
	if _, _, err := c.WriteMsgUnix(req.marshal(), unix.UnixRights(fd), nil); err != nil {
		return r, -1, err
	}
	var b [replyHeader + addrLen]byte
	var oob [64]byte
	n, oobn, _, _, err := c.ReadMsgUnix(b[:], oob[:])
	if err != nil {
		return r, -1, err
	}
	fds, err := parseDescriptors(oob[:oobn])
	got = fds.take()
	fds.close()
	if err == nil && (n < replyHeader || binary.NativeEndian.Uint32(b[:]) != wireMagic) {
		err = errors.New("it does not speak this version of the control protocol")
	}
	r.answer = answer(binary.NativeEndian.Uint16(b[4:]))
	r.errno = unix.Errno(binary.NativeEndian.Uint32(b[8:]))
	return r, got, err
}
