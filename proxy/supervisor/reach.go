package supervisor

import (
	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/wire"
)

// reach answers the shim, which does not get to the control socket from where it is: another network namespace, another
// user namespace, where the worker's user has another number, another root folder, or behind a filter of somebody's. It
// gets a connection.
func (c *call) reach() answer {
	uid, gid, err := c.thread.IDs()
	if err != nil {
		return c.unreachable(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return c.failed(err)
	}
	pidfd := c.thread.Pidfd()
	if err := unix.SetNonblock(pair[0], true); err != nil || !c.waits() {
		unix.Close(pair[0])
		unix.Close(pair[1])
		fdio.Close(pidfd)
		return nobody // and its number may be another's
	}
	go c.Serve(pair[0], wire.Caller{PID: int32(c.thread.PID), UID: uid, GID: gid, Pidfd: pidfd})
	return c.descriptor(pair[1], true)
}
