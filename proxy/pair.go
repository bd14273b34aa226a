package proxy

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/buffers"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/wire"
)

// pair is the worker's end of a channel, W, and until it is handed over the
// program's, P.
//
// P behaves as a connecting TCP socket does. While setup goes on its send buffer is
// full of junk, so that poll does not report it writable (unix_poll and unix_writable
// in net/unix/af_unix.c). accept takes the junk away, but for one byte. From then on
// one byte that has been passed on already, the reset byte, always lies unread in W's
// queue: unix_release_sock gives the peer of a socket that is closed with data unread
// ECONNRESET. So a channel that ends in any way but finish, the death of the worker
// included, is a reset to the program, and never looks like the end of the data.
type pair struct {
	w    *fdio.Socket
	junk int // bytes of junk in W's queue before accept

	// stale counts the bytes in front of W's queue that were read already: 1, the reset
	// byte, or 0 while bytes that were not read are known to lie there.
	stale int

	// Of a served pair: what the program's end says first, until it has, and then closed.
	token []byte
	ready chan struct{}

	ends atomic.Uint32 // directions that have ended

	bulk bool // the last read left something behind, as far as is known
	most int  // bytes of one read, up to buffers.Plaintext

	look  fdio.Call // of read, and what it found
	found struct {
		buf *[]byte
		n   int
		err error
	}
}

func makePair() *pair {
	pr := &pair{most: buffers.Plaintext}
	pr.look = fdio.NewCall(pr.tryRead)
	return pr
}

// The junk goes in by large pieces, and small ones at the end: the last stays behind
// whole in the accounts until its last byte is read, and unix_writable wants three
// quarters of the buffer free.
const (
	junkPiece = 64 << 10
	junkSpare = 4 << 10
)

// junkFile holds junkPiece zero bytes for sendfile(2): the pages are shared by all
// pending channels instead of being copied into each.
var junkFile = sync.OnceValues(func() (int, error) {
	fd, err := unix.MemfdCreate("tlswrap-junk", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	return fd, unix.Ftruncate(fd, junkPiece)
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

// newPair makes a channel whose program end is bound to the abstract address name
// (without its leading NUL), if there is one. The caller owns p, a descriptor in blocking
// mode. It is full of junk until accept, unless it is ready: then there is only the reset byte.
func newPair(name string, ready bool) (pr *pair, p int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, -1, os.NewSyscallError("socketpair", err)
	}
	pr = makePair()
	unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, wire.SendBuffer)
	if name != "" {
		err = os.NewSyscallError("bind", unix.Bind(fds[0], &unix.SockaddrUnix{Name: "@" + name}))
	}
	switch {
	case err != nil:
	case ready:
		pr.junk, err = fdio.RawCall(unix.SYS_WRITE, fds[0], []byte{0}, 0)
	default:
		pr.junk, err = fill(fds[0])
	}
	if err == nil {
		err = os.NewSyscallError("fcntl", unix.SetNonblock(fds[0], false))
	}
	if err != nil {
		unix.Close(fds[1])
	} else {
		// Only now: the network poller would be woken by every piece of junk.
		pr.w, err = fdio.New(fds[1], "channel")
	}
	if err != nil {
		unix.Close(fds[0])
		return nil, -1, err
	}
	return pr, fds[0], nil
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

// newServedPair takes over W of a channel that the program will be able to accept. The
// shim's first words there are token, whose last byte becomes the reset byte.
func newServedPair(fd int, token []byte) (*pair, error) {
	w, err := fdio.New(fd, "channel")
	if err != nil {
		return nil, err
	}
	pr := makePair()
	pr.w, pr.token, pr.ready = w, token, make(chan struct{})
	return pr, nil
}

// greeted waits for the token, and reads it.
func (pr *pair) greeted() error {
	defer close(pr.ready)
	token := pr.token
	pr.token = nil
	have := make([]byte, len(token))
	n := 0
	err := error(nil)
	e := pr.w.WhenReadable(func(fd int) bool {
		n, err = fdio.Peek(fd, have) // it comes whole: unix_stream_sendmsg makes one buffer of it
		return err != unix.EAGAIN
	})
	switch {
	case e != nil:
		return e
	case n == 0 && err == nil:
		return unix.ECONNRESET // nobody has accepted it
	case err != nil:
		return err
	case !bytes.Equal(have[:n], token):
		return errStranger
	}
	pr.junk = len(token)
	return pr.accept()
}

// errStranger is the end of a connection whose acceptor is not the shim.
var errStranger = errors.New("the program accepted the connection by a call that tlswrap does not see")

// accept makes P writable: setup has ended well.
func (pr *pair) accept() error {
	var err error
	if e := pr.w.Control(func(fd int) {
		if err = discardJunk(fd, pr.junk-1); err != nil {
			return
		}
		// From here MSG_PEEK reads from behind the reset byte, and the kernel moves
		// the offset along (socket(7), SO_PEEK_OFF).
		// An urgent byte (MSG_OOB) would keep a place of its own in the queue; TLS has
		// nothing like it, so it comes in line.
		if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1); err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF, 1)
		}
		err = os.NewSyscallError("setsockopt", err)
	}); e != nil {
		return e
	}
	pr.stale = 1
	return err
}

// read waits for bytes from the program and returns them in a buffer of the pool,
// which the caller puts back. io.EOF is the program's half-close or close.
//
// It looks without taking (MSG_PEEK goes on from where the last one ended), which
// leaves the reset byte where it is, and then takes all but the last byte out. Where
// much is expected it takes first, so as not to copy it twice, all but the last byte.
func (pr *pair) read() (*[]byte, int, error) {
	if pr.token != nil {
		if err := pr.greeted(); err != nil {
			return nil, 0, err
		}
	}
	if err := pr.w.ReadWith(pr.look); err != nil {
		return nil, 0, err
	}
	buf, n, err := pr.found.buf, pr.found.n, pr.found.err
	pr.found.buf = nil
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		buffers.Put(buf)
		return nil, 0, err
	}
	return buf, n, nil
}

func (pr *pair) tryRead(fd int) bool {
	buf := buffers.Get()
	n, err := pr.receive(fd, (*buf)[:pr.most])
	if err == unix.EAGAIN {
		buffers.Put(buf)
		return false
	}
	pr.found.buf, pr.found.n, pr.found.err = buf, n, err
	pr.bulk = n >= bulkFrom
	return true
}

// bulkFrom is what makes a read expect as much of the next.
const bulkFrom = 8 << 10

// receive reads what is there. 0 is the end.
func (pr *pair) receive(fd int, b []byte) (int, error) {
	n := 0
	if pr.bulk {
		var err error
		if n, err = pr.take(fd, b); err != nil || n == len(b) {
			return n, err
		}
	}
	m, err := fdio.Peek(fd, b[n:])
	switch {
	case m > 0:
		err = pr.taken(fd, m)
	case n > 0: // it has not found what take has left; it will
		err = nil
	}
	return n + m, err
}

// take reads what is there but its last byte, with the reset byte before it. Where that
// does not fill b, a byte that is to be read has become the first in the queue.
func (pr *pair) take(fd int, b []byte) (int, error) {
	there, err := fdio.Unread(fd)
	if err != nil {
		return 0, err
	}
	want := min(len(b), there-pr.stale-1)
	if want <= 0 {
		return 0, nil
	}
	var stale [1]byte
	n, err := fdio.RawReadv(fd, stale[:pr.stale], b[:want])
	if err != nil {
		return 0, os.NewSyscallError("readv", err)
	}
	n -= pr.stale
	pr.stale = 0
	return n, nil
}

// taken notes that n bytes were read, and takes all but the last out of the queue: what
// lies there counts against P's send buffer, each message with all that the kernel
// allocated for it, and a program that waits for room would wait for ever.
func (pr *pair) taken(fd, n int) error {
	err := fdio.Discard(fd, pr.stale+n-1)
	pr.stale = 1
	return err
}

// write hands b to the program.
func (pr *pair) write(b []byte) error {
	_, err := pr.w.Write(b)
	return err
}

// writeAll hands pieces to the program as one. It uses them up.
func (pr *pair) writeAll(pieces [][]byte) error { return pr.w.WriteAll(pieces) }

// finish ends the direction to the program: it reads the end of the data and can
// still write.
func (pr *pair) finish() {
	pr.w.Control(func(fd int) { unix.Shutdown(fd, unix.SHUT_WR) })
	pr.end(finished)
}

// ended notes that the program will write no more: read has returned io.EOF.
func (pr *pair) ended() { pr.end(programEnded) }

const (
	finished uint32 = 1 << iota
	programEnded
)

// end closes W when both directions have ended, without a reset: first it takes the
// reset byte out. Whether the program has closed P could not be told any more.
func (pr *pair) end(direction uint32) {
	if old := pr.ends.Or(direction); old == direction || old|direction != finished|programEnded {
		return
	}
	pr.w.Control(func(fd int) { fdio.Discard(fd, math.MaxInt) })
	pr.close()
}

// gone waits until the program has closed every copy of its descriptor.
func (pr *pair) gone() {
	pr.w.WhenReadable(fdio.HungUp)
}

// hungUp reports whether the program has closed every copy of its descriptor.
func (pr *pair) hungUp() bool { return pr.is(fdio.HungUp) }

// unsent reports whether the program has written what was not read. Nobody may read
// meanwhile.
func (pr *pair) unsent() bool {
	return pr.is(func(fd int) bool {
		n, err := fdio.Unread(fd)
		return err != nil || n > pr.stale
	})
}

// leaving reports whether the program has closed, or shut one side.
func (pr *pair) leaving() bool { return pr.is(fdio.Leaving) }

func (pr *pair) is(f func(fd int) bool) bool {
	yes := true // of one that we have closed
	pr.w.Control(func(fd int) { yes = f(fd) })
	return yes
}

// close resets P. It is safe to call it again, and from any goroutine, but on a served
// pair it waits until the program has accepted it: before there is no reset byte.
func (pr *pair) close() {
	if pr.ready != nil {
		<-pr.ready
	}
	pr.w.Close()
}

// abandon closes a served pair that no program can accept.
func (pr *pair) abandon() {
	close(pr.ready)
	pr.w.Close()
}

// closed reports whether close was called.
func (pr *pair) closed() bool { return pr.w.Closed() }

// channelName is the abstract address of a channel: see preload/wire.h.
func channelName(id uint64, peer wire.Addr) string {
	family := '6'
	if peer.IP.Is4() {
		family = '4'
	}
	return fmt.Sprintf("tlswrap/%016x/%c%04x%08x%s", id, family, peer.Port, peer.Scope, hex.EncodeToString(peer.IP.AsSlice()))
}
