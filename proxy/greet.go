package proxy

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Greet begins a session named token with the worker at address, an abstract socket
// ("@name") or a path, on behalf of this process. Sentences for a person will go to
// stderr. It returns the user that the worker runs as, and waits until the worker is
// ready; the error of a worker that went away is io.EOF or the network's.
func Greet(address string, token Token, stderr *os.File, verbose, quiet bool) (uid uint32, err error) {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: address, Net: "unixpacket"})
	if err != nil {
		return 0, errors.Unwrap(err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); e != nil {
		err = e
	}
	if err != nil {
		return 0, err
	}
	hello := request{op: opHello, flags: flagStderr, token: token}
	if verbose {
		hello.flags |= flagVerbose
	}
	if quiet {
		hello.flags |= flagQuiet
	}
	conn.SetDeadline(time.Now().Add(requestTime))
	if _, _, err := conn.WriteMsgUnix(hello.marshal(), unix.UnixRights(int(stderr.Fd())), nil); err != nil {
		return 0, err
	}
	var b [replyHeader + 1]byte
	n, err := conn.Read(b[:])
	if err != nil {
		return 0, err
	}
	if n != replyHeader || binary.NativeEndian.Uint32(b[:]) != wireMagic {
		return 0, errors.New("it does not speak this version of the control protocol")
	}
	if answer(binary.NativeEndian.Uint16(b[4:])) != answerGood {
		return 0, errors.New("this user may not use it (tlswrap worker --allow lets others)")
	}
	return cred.Uid, nil
}
