package supervisor

import (
	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/seccomp"
)

// notifier is a listener that is waited for without a thread of its own.
type notifier struct {
	seccomp.Listener
	socket *fdio.Socket // its owner
}

// newNotifier takes over a listener.
func newNotifier(listener int) (n notifier, err error) {
	n.Listener = seccomp.Listener(listener)
	if err := n.Missing(); err != nil {
		unix.Close(listener)
		return n, err
	}
	n.Hurry()
	n.socket, err = fdio.New(listener, "notifications")
	return n, err
}

// Close has the kernel answer with ENOSYS.
func (n notifier) Close() { n.socket.Close() }

// Hold does nothing: the kernel has a thread that waits for an answer notice its signals.
func (n notifier) Hold(uint64) error { return nil }

// Receive returns the next notification. The error is that no process is left to send one.
func (n notifier) Receive() (found seccomp.Notification, err error) {
	e := n.socket.WhenReadable(func(fd int) bool {
		for {
			switch events := events(fd); {
			case events&unix.POLLIN != 0:
				if found, err = n.Listener.Receive(); err == unix.ENOENT || err == unix.EINTR {
					continue // its thread has been interrupted
				}
				return true
			case events != 0:
				err = unix.ESRCH // POLLHUP: nobody is left
				return true
			default:
				return false
			}
		}
	})
	if e != nil {
		err = e
	}
	return found, err
}

// events is what poll(2) has to tell of a descriptor.
func events(fd int) int16 {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 0)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return unix.POLLERR
		case n == 0:
			return 0
		default:
			return p[0].Revents
		}
	}
}
