// Package channel has the worker's end of a channel, the AF_UNIX stream pair that stands in the place of
// a program's TCP socket: the junk that keeps it from being writable while setup goes on, the reset byte
// that makes every end but a good one a reset, the death of the worker included, the name that says what
// it is, and the watch for a program that leaves. It knows nothing of TLS or of servers. The fronts and
// relay call it.
package channel

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/buffers"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/wire"
)

// Pair is the worker's end of a channel, W, and until it is handed over the
// program's, P.
//
// P behaves as a connecting TCP socket does. While setup goes on its send buffer is
// full of junk, so that poll does not report it writable (unix_poll and unix_writable
// in net/unix/af_unix.c). accept takes the junk away, but for one byte. From then on
// one byte that has been passed on already, the reset byte, always lies unread in W's
// queue: unix_release_sock gives the peer of a socket that is closed with data unread
// ECONNRESET. So a channel that ends in any way but finish, the death of the worker
// included, is a reset to the program, and never looks like the end of the data.
type Pair struct {
	w    *fdio.Socket
	junk int // bytes of junk in W's queue before accept

	// stale counts the bytes in front of W's queue that were read already: 1, the reset
	// byte, or 0 while bytes that were not read are known to lie there.
	stale int

	// Of a served pair: what the program's end says first, until it has, and then closed.
	token []byte
	ready chan struct{}
	let   sync.Once // closes ready

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

func makePair() *Pair {
	pr := &Pair{most: buffers.Plaintext}
	pr.look = fdio.NewCall(pr.tryRead)
	return pr
}

// New makes a channel whose program end is bound to the abstract address name
// (without its leading NUL), if there is one. The caller owns p, which is in non-blocking mode: who puts it
// in a socket's place gives it that one's (fcntl(2), F_SETFL). It is full of junk until accept, unless it is ready: then
// there is only the reset byte.
func New(name string, ready bool) (pr *Pair, p int, err error) {
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
	if err != nil {
		unix.Close(fds[1])
	} else {
		// Only now: the network poller would be woken by every piece of junk.
		pr.w, err = fdio.Adopt(fds[1], "channel")
	}
	if err != nil {
		unix.Close(fds[0])
		return nil, -1, err
	}
	return pr, fds[0], nil
}

// Accepted takes over W of a channel that the program will be able to accept. The
// shim's first words there are token, whose last byte becomes the reset byte.
func Accepted(fd int, token []byte) (*Pair, error) {
	w, err := fdio.New(fd, "channel")
	if err != nil {
		return nil, err
	}
	pr := makePair()
	pr.w, pr.token, pr.ready = w, token, make(chan struct{})
	return pr, nil
}

// greeted waits for the token, and reads it.
func (pr *Pair) greeted() error {
	defer pr.letGo()
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
		return ErrStranger
	}
	pr.junk = len(token)
	return pr.Accept()
}

// ErrStranger is the end of a connection whose acceptor is not the shim.
var ErrStranger = errors.New("the program accepted the connection by a call that tlswrap does not see")

// Accept makes P writable: setup has ended well.
func (pr *Pair) Accept() error {
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

// Next waits for bytes from the program and returns them in a buffer of the pool,
// which the caller puts back. io.EOF is the program's half-close or close.
//
// It looks without taking (MSG_PEEK goes on from where the last one ended), which
// leaves the reset byte where it is, and then takes all but the last byte out. Where
// much is expected it takes first, so as not to copy it twice, all but the last byte.
func (pr *Pair) Next() (*[]byte, int, error) { return pr.next(false) }

// NextUnlessIdle is Next that ends in fdio.ErrIdle where the program writes nothing for a while.
func (pr *Pair) NextUnlessIdle() (*[]byte, int, error) { return pr.next(true) }

// AwaitBytes waits until the program has written, or will write no more, and reads nothing.
func (pr *Pair) AwaitBytes() {
	pr.w.WhenReadable(func(fd int) bool {
		n, err := fdio.Unread(fd)
		return err != nil || n > pr.stale || fdio.Leaving(fd)
	})
}

func (pr *Pair) next(unlessIdle bool) (*[]byte, int, error) {
	if pr.token != nil {
		if err := pr.greeted(); err != nil {
			return nil, 0, err
		}
	}
	var err error
	if unlessIdle {
		err = pr.w.ReadUnlessIdle(pr.look)
	} else {
		err = pr.w.ReadWith(pr.look)
	}
	if err != nil {
		return nil, 0, err
	}
	buf, n, err := pr.found.buf, pr.found.n, pr.found.err
	pr.found.buf = nil
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		buffers.Put(buf)
		return nil, 0, pr.w.Note(err)
	}
	return buf, n, nil
}

func (pr *Pair) tryRead(fd int) bool {
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
func (pr *Pair) receive(fd int, b []byte) (int, error) {
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
		pr.w.Note(err)
		err = nil
	}
	return n + m, err
}

// take reads what is there but its last byte, with the reset byte before it. Where that
// does not fill b, a byte that is to be read has become the first in the queue.
func (pr *Pair) take(fd int, b []byte) (int, error) {
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
func (pr *Pair) taken(fd, n int) error {
	err := fdio.Discard(fd, pr.stale+n-1)
	pr.stale = 1
	return err
}

// Send hands b to the program.
func (pr *Pair) Send(b []byte) error {
	_, err := pr.w.Write(b)
	return err
}

// SendAll hands pieces to the program as one. It uses them up.
func (pr *Pair) SendAll(pieces [][]byte) error { return pr.w.WriteAll(pieces) }

// Read reads as much of what the program has written as b has room for: the rest is left. It
// returns io.EOF as read does.
func (pr *Pair) Read(b []byte) (int, error) {
	most := pr.most
	pr.most = min(most, len(b))
	defer func() { pr.most = most }()
	buf, n, err := pr.Next()
	if err != nil {
		return 0, err
	}
	defer buffers.Put(buf)
	return copy(b, (*buf)[:n]), nil
}

// SetMost sets how many bytes one read returns at most, up to buffers.Plaintext.
func (pr *Pair) SetMost(n int) { pr.most = n }

// SetReadDeadline ends reads that wait at t (os.ErrDeadlineExceeded); the zero time is none.
func (pr *Pair) SetReadDeadline(t time.Time) { pr.w.SetReadDeadline(t) }

// Control calls f with W, which stays open that long.
func (pr *Pair) Control(f func(fd int)) error { return pr.w.Control(f) }

// Drop is Close for a pair in whatever state, one that no program can accept, too: it waits for
// nobody.
func (pr *Pair) Drop() {
	pr.letGo()
	pr.w.Close()
}

// letGo lets those go on who wait until a program has accepted a served pair.
func (pr *Pair) letGo() {
	if pr.ready != nil {
		pr.let.Do(func() { close(pr.ready) })
	}
}

// Finish ends the direction to the program: it reads the end of the data and can
// still write.
func (pr *Pair) Finish() {
	pr.w.Control(func(fd int) { unix.Shutdown(fd, unix.SHUT_WR) })
	pr.end(finished)
}

// Ended notes that the program will write no more: read has returned io.EOF.
func (pr *Pair) Ended() { pr.end(programEnded) }

const (
	finished uint32 = 1 << iota
	programEnded
)

// end closes W when both directions have ended, without a reset: first it takes the
// reset byte out. Whether the program has closed P could not be told any more.
func (pr *Pair) end(direction uint32) {
	if old := pr.ends.Or(direction); old == direction || old|direction != finished|programEnded {
		return
	}
	pr.w.Control(func(fd int) { fdio.Discard(fd, math.MaxInt) })
	pr.Close()
}

// Gone waits until the program has closed every copy of its descriptor, and reports unix.ECONNRESET where
// it has left bytes unread there, as Next does.
func (pr *Pair) Gone() error {
	pr.w.WhenReadable(fdio.HungUp)
	if pr.Reset() {
		return unix.ECONNRESET
	}
	return nil
}

// Reset reports whether the program has closed every copy of its descriptor, and left bytes unread. It is
// false of a pair that we have closed.
func (pr *Pair) Reset() bool {
	gone := false
	pr.w.Control(func(fd int) { gone = fdio.HungUp(fd) })
	return gone && pr.w.Reset()
}

// HungUp reports whether the program has closed every copy of its descriptor.
func (pr *Pair) HungUp() bool { return pr.is(fdio.HungUp) }

// Unsent reports whether the program has written what was not read. Nobody may read
// meanwhile.
func (pr *Pair) Unsent() bool {
	return pr.is(func(fd int) bool {
		n, err := fdio.Unread(fd)
		return err != nil || n > pr.stale
	})
}

// Waiting is how many bytes the program has written that were not read, about.
func (pr *Pair) Waiting() int {
	n := 0
	pr.w.Control(func(fd int) { n, _ = fdio.Unread(fd) })
	return max(0, n-1) // the reset byte
}

// leaving reports whether the program has closed, or shut one side.
func (pr *Pair) leaving() bool { return pr.is(fdio.Leaving) }

func (pr *Pair) is(f func(fd int) bool) bool {
	yes := true // of one that we have closed
	pr.w.Control(func(fd int) { yes = f(fd) })
	return yes
}

// Close resets P. It is safe to call it again, and from any goroutine, but on a served
// pair it waits until the program has accepted it: before there is no reset byte.
func (pr *Pair) Close() {
	if pr.ready != nil {
		<-pr.ready
	}
	pr.w.Close()
}

// Closed reports whether close was called.
func (pr *Pair) Closed() bool { return pr.w.Closed() }
