package keeper

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/seccomp"
	"tlswrap/proxy/target"
)

// refuseNext answers the next call while there is no worker, as the shim does: what only a worker could decide
// fails with ENETDOWN, and all else is the kernel's.
func (k *keeper) refuseNext() {
	n, err := k.listener.Receive()
	if err != nil {
		return // its thread was interrupted
	}
	k.newest, k.unfound = n.ID, false
	asked, ok := n.Asked()
	if !ok {
		k.listener.Fail(n.ID, unix.ENOSYS)
		return
	}
	if isHarmless(asked.Call) {
		k.listener.Continue(n.ID)
		return
	}
	thread, err := target.Open(int(n.TID))
	if err != nil {
		k.listener.Fail(n.ID, unix.ENETDOWN)
		return
	}
	defer thread.Close()
	errno := unix.ENETDOWN
	if asked.Call != seccomp.Reach && !asked.InMemory {
		errno = refusal(thread, asked)
	}
	switch {
	case !k.listener.Waits(n.ID):
		return // what was looked at may have been another's
	case errno == 0:
		k.listener.Continue(n.ID)
		return
	case errno == unix.ENETDOWN:
		k.say(thread)
	}
	k.listener.Fail(n.ID, errno)
}

// refusal is why a call cannot be made without a worker, or 0 for what the kernel may make. The kernel looks at
// descriptors and memory again then, which another thread may have changed: what would connect a TCP socket that is
// under the number by then is refused, whatever was there.
func refusal(thread *target.Thread, asked seccomp.Asked) unix.Errno {
	fd, err := thread.Descriptor(int(int32(asked.Args[0])))
	if err != nil {
		if err == unix.EBADF {
			return unix.EBADF
		}
		return unix.ENETDOWN
	}
	defer fdio.Close(fd)
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	switch {
	case err == unix.ENOTSOCK:
		return unix.ENOTSOCK
	case err != nil || domain != unix.AF_UNIX && domain != unix.AF_NETLINK || isOurs(fd, domain) || wouldConnect(thread, asked, domain):
		return unix.ENETDOWN
	}
	return 0
}

// isOurs reports whether a socket is in the place of one of the Internet's, or may be.
func isOurs(fd, domain int) bool {
	if domain != unix.AF_UNIX {
		return false
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		return true
	}
	_, _, isChannel := channel.ParseName(own)
	_, isListener := channel.ParseListener(own)
	return isChannel || isListener
}

// wouldConnect reports whether a call on a socket of another family would connect one of the Internet's.
func wouldConnect(thread *target.Thread, asked seccomp.Asked, domain int) bool {
	switch asked.Call {
	case seccomp.Connect:
		var family [2]byte
		n, err := thread.Read(asked.Args[1], family[:])
		if err != nil || n < len(family) {
			return true
		}
		to := int(binary.NativeEndian.Uint16(family[:]))
		return to != domain && to != unix.AF_UNSPEC
	case seccomp.Sendto, seccomp.Sendmmsg:
		return asked.Args[3]&unix.MSG_FASTOPEN != 0
	case seccomp.Sendmsg:
		return asked.Args[2]&unix.MSG_FASTOPEN != 0
	}
	return false
}

// isHarmless reports whether a call lets nothing out and nobody in.
func isHarmless(call seccomp.Call) bool {
	switch call {
	case seccomp.Bind, seccomp.Getsockname, seccomp.Getpeername, seccomp.Getsockopt, seccomp.Setsockopt:
		return true
	}
	return false
}
