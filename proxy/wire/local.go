package wire

import "golang.org/x/sys/unix"

// Local is a caller within this process: the kernel has handed over what a program without the shim does,
// and that is asked for as the shim would. It is used by one goroutine.
type Local struct {
	// PID is the process's, as the worker sees it.
	PID int32
	// Pidfd returns a descriptor that tells of its end, the caller's to close, or -1.
	Pidfd func() int
	// Put puts what was handed over in the place of the program's socket, and closes it.
	Put func(end int) error
	// Fresh makes a new socket of the same kind, the caller's to close, which is to be connected.
	Fresh func() (int, error)

	// Reply is what was answered, once it was. FD came along, the owner's to close; or -1.
	Reply Reply
	FD    int
}

// NewLocal makes a call of l's, which is closed as one of a program is. Those of
// its functions that an answer needs are not nil.
func NewLocal(l *Local) *Call {
	l.FD = -1
	return &Call{PID: l.PID, fd: -1, local: l}
}

// send keeps an answer. Only of AnswerFD the descriptor is wanted: the map and the life are the shim's.
func (l *Local) send(r Message, fds []int) error {
	reply, ok := r.(Reply)
	if !ok {
		return unix.EPROTO
	}
	l.Reply = reply
	if reply.Answer != AnswerFD || len(fds) != 1 {
		return nil
	}
	fd, err := unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	l.FD = fd
	return nil
}

// hand keeps an answer, and has what comes with it put in place.
func (l *Local) hand(r Message, end int) error {
	if err := l.send(r, nil); err != nil {
		unix.Close(end)
		return err
	}
	return l.Put(end)
}

// Way is how a program's call came to the worker.
type Way string

const (
	Preload Way = "preload" // by the shim
	Kernel  Way = "kernel"  // handed over by the kernel
)

// Way is how this one came.
func (c *Call) Way() Way {
	if c.local != nil {
		return Kernel
	}
	return Preload
}
