package seccomp

import (
	"fmt"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/thread"
)

// Features are what the kernel offers to who answers the calls that a filter hands over.
type Features struct {
	// NoNewPrivs had to be set for the filter: set-user-ID programs start without their rights.
	NoNewPrivs bool
	// AddFD puts a descriptor into the caller, SetFD at a number that is taken, and Send answers with it.
	AddFD, SetFD, Send bool
	// SyncWakeUp has the caller go on where the answer was given; it is nice to have.
	SyncWakeUp bool
}

// sinceSend is the Linux that brought the last of what a listener has to have.
const sinceSend = "5.14"

// Missing is what a listener has to have and does not, in a sentence for a person, or nil.
func (f Features) Missing() error {
	for _, need := range []struct {
		have bool
		name string
	}{
		{f.AddFD, "SECCOMP_IOCTL_NOTIF_ADDFD"}, {f.SetFD, "SECCOMP_ADDFD_FLAG_SETFD"}, {f.Send, "SECCOMP_ADDFD_FLAG_SEND"},
	} {
		if !need.have {
			return fmt.Errorf("the kernel cannot put descriptors into a program as is needed (it has no %s), which takes Linux %s", need.name, sinceSend)
		}
	}
	return nil
}

// features asks about a call that there is not: ENOENT is a kernel that knows the question, EINVAL one that
// does not.
func (l Listener) features() (f Features) {
	knows := func(flags uint32) bool {
		_, err := l.addFD(addition{flags: flags, source: uint32(l)}, false)
		return err == unix.ENOENT
	}
	f.AddFD = knows(0)
	f.SetFD = knows(unix.SECCOMP_ADDFD_FLAG_SETFD)
	f.Send = knows(unix.SECCOMP_ADDFD_FLAG_SEND)
	f.SyncWakeUp = l.Hurry()
	return f
}

// Try tells whether a filter can be installed here, and what the kernel offers behind it, by installing one
// under a thread that ends.
func Try() (f Features, err error) {
	thread.Run(func() {
		var l Listener
		before, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		if l, err = Install(Policy{}); err != nil {
			return
		}
		defer unix.Close(int(l))
		f = l.features()
		after, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		f.NoNewPrivs = before != after
	})
	return f, err
}

// TryConfine tells whether Confine can, under a thread that ends.
func TryConfine() (err error) {
	thread.Run(func() { err = Confine() })
	return err
}
