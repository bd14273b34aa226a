package keeper

import (
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
	if asked.Call != seccomp.Reach && !asked.InMemory && isElsewhere(thread, int(int32(asked.Args[0]))) && k.listener.Waits(n.ID) {
		k.listener.Continue(n.ID)
		return
	}
	if k.listener.Waits(n.ID) {
		k.say(thread)
	}
	k.listener.Fail(n.ID, unix.ENETDOWN)
}

// isHarmless reports whether a call lets nothing out and nobody in.
func isHarmless(call seccomp.Call) bool {
	switch call {
	case seccomp.Bind, seccomp.Getsockname, seccomp.Getpeername, seccomp.Getsockopt, seccomp.Setsockopt:
		return true
	}
	return false
}

// isElsewhere reports whether a descriptor is known to be no socket of the Internet's, and none of ours in
// the place of one. What is no socket at all the kernel will say.
func isElsewhere(thread *target.Thread, number int) bool {
	fd, err := thread.Descriptor(number)
	if err != nil {
		return false
	}
	defer fdio.Close(fd)
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err == unix.ENOTSOCK {
		return true
	}
	if err != nil || domain != unix.AF_UNIX {
		return err == nil && domain == unix.AF_NETLINK
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	_, _, isChannel := channel.ParseName(own)
	_, isListener := channel.ParseListener(own)
	return !isChannel && !isListener
}
