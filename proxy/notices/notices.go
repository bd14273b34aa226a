// Package notices has what a session's programs leave word of without being answered: each connect that passes, where
// somebody wants to know. They leave it in memory that they share with the worker (struct tw_notices of
// preload/wire.h), and ring a bell where the worker does not look there anyway. What is said of a notice is
// the outgoing front's; the session has them.
package notices

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/wire"
)

// atOnce is how many are taken at a time.
const atOnce = 64

// Of programs that connect again and again the notices are taken together: for each wake-up costs more than a
// notice does.
const (
	pause = time.Millisecond     // between two looks, while there are some
	often = 5 * time.Millisecond // more often than that the bell is not to be rung
)

// fillTime is how long a notice may take that a program has begun: its thread may have ended.
const fillTime = 100 * time.Millisecond

// Notices are those of a session: the memory that programs leave them in, and the bell. Its methods may
// be called from any goroutine; those of nil, which are nobody's, do nothing.
type Notices struct {
	Bell   wire.Bell
	fd     int
	socket *fdio.Socket // the bell's

	mu     sync.Mutex
	memory []byte              // nil after Close
	shared *wire.SharedNotices // the same; programs write to it meanwhile, and can make it say anything
	taken  uint32
	begun  time.Time // when the next notice was first seen to be begun and not left; zero where it is not
	found  []wire.Notice
}

// New makes the memory and the bell.
func New() (*Notices, error) {
	n := &Notices{found: make([]wire.Notice, 0, atOnce)}
	rand.Read(n.Bell.Token[:])
	bell, err := open(&n.Bell)
	if err != nil {
		return nil, err
	}
	if n.socket, err = fdio.New(bell, "bell"); err != nil {
		return nil, err
	}
	if n.fd, n.memory, err = fdio.NewSharedFile("tlswrap-notices", int(unsafe.Sizeof(wire.SharedNotices{}))); err != nil {
		n.socket.Close()
		return nil, err
	}
	n.shared = (*wire.SharedNotices)(unsafe.Pointer(&n.memory[0]))
	return n, nil
}

// open makes the socket of a bell, at an address that the kernel chooses. What others send there does not get into its queue.
func open(bell *wire.Bell) (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	filter := filterOf(bell.Token)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err = os.NewSyscallError("setsockopt", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program))
	if err == nil {
		// An address of no more than a family has the kernel choose one (unix(7), autobind).
		family := uint16(unix.AF_UNIX)
		if _, _, errno := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&family)), unsafe.Sizeof(family)); errno != 0 {
			err = os.NewSyscallError("bind", errno)
		}
	}
	if err == nil {
		var own unix.Sockaddr
		own, err = unix.Getsockname(fd)
		if sa, ok := own.(*unix.SockaddrUnix); ok && len(sa.Name) > 1 && len(sa.Name) <= wire.BellName {
			bell.Name = "\x00" + sa.Name[1:]
		} else if err == nil {
			err = errors.New("the kernel has chosen an address that cannot be told")
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// filterOf lets in what is the token.
func filterOf(token wire.Token) []unix.SockFilter {
	const words = wire.TokenLen / 4
	statement := func(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
	left := uint8(2*words + 1) // instructions until the refusal
	unless := func(want uint32) unix.SockFilter {
		defer func() { left -= 2 }()
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: left, K: want}
	}
	all := []unix.SockFilter{statement(unix.BPF_LD|unix.BPF_W|unix.BPF_LEN, 0), unless(wire.TokenLen)}
	for at := 0; at < wire.TokenLen; at += 4 {
		all = append(all, statement(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, uint32(at)), unless(binary.BigEndian.Uint32(token[at:])))
	}
	return append(all, statement(unix.BPF_RET|unix.BPF_K, wire.TokenLen), statement(unix.BPF_RET|unix.BPF_K, 0))
}

// File is the memory's, open until Close, or -1.
func (n *Notices) File() int {
	if n == nil {
		return -1
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.memory == nil {
		return -1
	}
	return n.fd
}

// Close ends both.
func (n *Notices) Close() {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.memory != nil {
		unix.Munmap(n.memory)
		unix.Close(n.fd)
		n.memory, n.shared = nil, nil
		n.socket.Close()
	}
}

// Await calls receive, which calls Receive, when there are notices, until Close.
func (n *Notices) Await(receive func()) {
	var left time.Time // when the last was taken
	for {
		for !n.sleep() {
			receive()
			time.Sleep(pause)
		}
		if n.socket.WhenReadable(rung) != nil {
			return
		}
		n.wake()
		receive()
		for more := time.Since(left) < often; more; more = n.waiting() {
			time.Sleep(pause)
			receive()
		}
		left = time.Now()
	}
}

// rung takes what the bell was rung by, and reports whether it was.
func rung(fd int) bool {
	var none [1]byte
	for n := 0; ; n++ {
		if _, err := fdio.RawCall(unix.SYS_RECVFROM, fd, none[:], unix.MSG_DONTWAIT); err != nil {
			return n > 0
		}
	}
}

// sleep has programs ring the bell from now on, and reports whether there are no notices yet.
func (n *Notices) sleep() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.memory == nil {
		return true
	}
	atomic.StoreUint32(&n.shared.Asleep, 1)
	return !n.some()
}

// wake has them leave notices alone.
func (n *Notices) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.memory != nil {
		atomic.StoreUint32(&n.shared.Asleep, 0)
	}
}

// waiting reports whether there are notices, or are about to be.
func (n *Notices) waiting() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.memory != nil && n.some()
}

func (n *Notices) some() bool { return atomic.LoadUint32(&n.shared.Next) != n.taken }

// Receive calls f with the notices that are there, some at a time, in their order: the next ones are not
// received before it returns. f may not keep them. What programs leave meanwhile is for the next time, as they can leave more
// than anybody could take.
func (n *Notices) Receive(f func([]wire.Notice)) {
	for most := wire.MostNotices; n != nil && most > 0 && n.receive(f); most -= atOnce {
	}
}

// receive takes some, and reports whether there may be more.
func (n *Notices) receive(f func([]wire.Notice)) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.memory == nil || !n.some() {
		return false
	}
	n.found = n.found[:0]
	untold := uint64(atomic.SwapUint32(&n.shared.Untold, 0))
	taken := 0
	for ; taken < atOnce; taken++ {
		at := &n.shared.At[n.taken%wire.MostNotices]
		if atomic.LoadUint32(&at.Turn) != n.taken+1 {
			break
		}
		pid, bytes := at.PID, at.To
		if to, err := wire.ParseAddr(bytes[:]); err == nil {
			n.found = append(n.found, wire.Notice{PID: pid, To: to, Untold: untold})
			untold = 0
		}
		n.taken++
	}
	if taken > 0 {
		n.begun = time.Time{}
	} else {
		untold += n.passOver()
	}
	atomic.StoreUint32(&n.shared.Taken, n.taken)
	atomic.AddUint32(&n.shared.Untold, uint32(untold))
	if len(n.found) > 0 {
		f(n.found)
	}
	return taken == atOnce
}

// passOver gives up a notice that was begun and is not left in fillTime: how many there will not be. The caller
// holds mu.
func (n *Notices) passOver() uint64 {
	if n.begun.IsZero() {
		n.begun = time.Now()
	}
	if time.Since(n.begun) < fillTime {
		return 0
	}
	n.begun = time.Time{}
	if begun := atomic.LoadUint32(&n.shared.Next) - n.taken; begun > wire.MostNotices {
		n.taken += begun // which no program does unless it means to
		return 0
	}
	n.taken++
	return 1
}
