package fdio

import (
	"time"

	"golang.org/x/sys/unix"
)

// Turns bounds how many goroutines deal at the same time with files that one user's programs have sent. A
// file system need not answer (FUSE, NFS), and then fstat, read, poll and even close may not return: the goroutine
// stays with its thread and its descriptors, until the file system goes away. It keeps its turn.
type Turns chan struct{}

const (
	mostTurns = 64              // of a user
	turnTime  = 2 * time.Second // that is waited for one
)

// NewTurns makes those of one user.
func NewTurns() Turns { return make(Turns, mostTurns) }

// Take takes a turn, or reports that there was none for a while.
func (t Turns) Take() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
	}
	limit := time.NewTimer(turnTime)
	defer limit.Stop()
	select {
	case t <- struct{}{}:
		return true
	case <-limit.C:
		return false
	}
}

// Leave gives a turn back.
func (t Turns) Leave() { <-t }

// CloseLater closes a file when there is a turn for it, and does not wait for that.
func (t Turns) CloseLater(closeFile func() error) {
	go func() {
		t <- struct{}{}
		defer t.Leave()
		closeFile()
	}()
}

// IsSocket reports whether fd is a socket. No file system is asked.
func IsSocket(fd int) bool {
	_, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil
}

// IsPipe reports whether fd is a pipe. No file system is asked.
func IsPipe(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	return err == nil
}
