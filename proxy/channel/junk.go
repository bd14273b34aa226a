package channel

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
)

// junkSize is more than fits into a channel.
const junkSize = 1 << 20

// junkFile holds junkSize zero bytes for sendfile(2), and no memory: a page that was never written to is the
// kernel's page of zeros (splice_zeropage_into_pipe in mm/shmem.c), and none is copied.
var junkFile = fdio.Kept(func() (int, error) {
	fd, err := unix.MemfdCreate("tlswrap-junk", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	if err := unix.Ftruncate(fd, junkSize); err != nil {
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
	const few = 4 << 10
	if n <= few {
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

// fill writes junk until the socket takes no more. A signal may end sendfile(2) before.
func fill(p int) (total int, err error) {
	junk, err := junkFile()
	if err != nil {
		return 0, err
	}
	for {
		var offset int64
		n, err := unix.Sendfile(p, junk, &offset, junkSize)
		switch err {
		case nil:
			total += n
		case unix.EAGAIN:
			return total, nil
		case unix.EINTR:
		default:
			return total, os.NewSyscallError("sendfile", err)
		}
	}
}
