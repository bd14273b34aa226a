package keeper

import (
	"fmt"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/target"
)

// Stderr is which file a program was started with for standard error. It is known by its number, and not kept
// open: who reads a pipe until its end is not to wait for us.
type Stderr struct{ Device, Inode uint64 }

// StderrOf is which file fd is; the zero value where that cannot be told.
func StderrOf(fd int) Stderr {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return Stderr{}
	}
	return Stderr{uint64(st.Dev), st.Ino}
}

// say says why a process is refused what it asks for, once for each, where its standard error is the one that
// the program was started with. It is not waited for.
func (k *keeper) say(thread *target.Thread) {
	if k.Quiet || k.told[thread.PID] || len(k.told) >= mostTold {
		return
	}
	fd, err := thread.Descriptor(unix.Stderr)
	if err != nil {
		return
	}
	defer fdio.Close(fd)
	if k.Program.Stderr == (Stderr{}) || StderrOf(fd) != k.Program.Stderr {
		return
	}
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(p, 0); n != 1 || err != nil || p[0].Revents != unix.POLLOUT {
		return
	}
	k.told[thread.PID] = true
	// As one write, which is not mixed with others' (pipe(7), PIPE_BUF).
	const sentence = "tlswrap: process %d: refused: no worker answers at %s (tlswrap worker --socket %[2]s starts one)\n"
	unix.Write(fd, fmt.Appendf(nil, sentence, thread.PID, k.Address))
}

// mostTold bounds the sentences.
const mostTold = 100
