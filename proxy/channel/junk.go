package channel

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
)

// The junk goes in by large pieces, and small ones at the end: the last stays behind
// whole in the accounts until its last byte is read, and unix_writable wants three
// quarters of the buffer free.
const (
	junkPiece = 64 << 10
	junkSpare = 4 << 10
)

// junkFile holds junkPiece zero bytes for sendfile(2): the pages are shared by all
// pending channels instead of being copied into each.
var junkFile = fdio.Kept(func() (int, error) {
	fd, err := unix.MemfdCreate("tlswrap-junk", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	if err := unix.Ftruncate(fd, junkPiece); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("ftruncate", err)
	}
	return fd, nil
})

// drain is where junk goes: a pipe, and /dev/null behind it. splice(2) moves pages
// through them instead of copying what is in them.
type drain struct {
	mu            sync.Mutex
	in, out, null int
}

// drainSize holds all the junk of a channel, page by page.
const drainSize = 512 << 10

var junkDrain = sync.OnceValues(func() (*drain, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, drainSize)
	null, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	return &drain{out: p[0], in: p[1], null: null}, err
})

// discardJunk is discard for n bytes of junk. Few are copied faster.
func discardJunk(fd, n int) error {
	if n <= junkSpare {
		return fdio.Discard(fd, n)
	}
	d, err := junkDrain()
	if err != nil {
		return fdio.Discard(fd, n)
	}
	return fdio.Discard(fd, n-d.take(fd, n))
}

// take takes n bytes, or as many as it can, and returns how many that were.
func (d *drain) take(fd, n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	taken := 0
	for taken < n {
		got, err := unix.Splice(fd, nil, d.in, nil, n-taken, unix.SPLICE_F_NONBLOCK)
		if err != nil || got == 0 {
			break
		}
		taken += int(got)
		for got > 0 {
			gone, err := unix.Splice(d.out, nil, d.null, nil, int(got), 0)
			if err != nil {
				return taken // the rest is copied, and so will be others' once the pipe is full
			}
			got -= gone
		}
	}
	return taken
}

// fill writes junk until the socket takes no more.
func fill(p int) (int, error) {
	junk, err := junkFile()
	if err != nil {
		return 0, err
	}
	size, err := unix.GetsockoptInt(p, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		return 0, os.NewSyscallError("getsockopt", err)
	}
	total := 0
	for piece := junkPiece; ; {
		if total+piece+junkSpare > size {
			piece = junkSpare
		}
		var offset int64
		n, err := unix.Sendfile(p, junk, &offset, piece)
		if err == unix.EAGAIN {
			return total, nil
		}
		if err != nil {
			return total, os.NewSyscallError("sendfile", err)
		}
		total += n
	}
}
