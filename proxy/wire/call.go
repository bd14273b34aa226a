package wire

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
)

// RequestTime is how long a peer may take over each message.
const RequestTime = 10 * time.Second

// Call is one connection to the control socket: who asks, what is asked, and how it is answered. It
// is used by one goroutine, but for HoldsFiles and Abandon.
type Call struct {
	PID      int32 // of the process that asks; 0 where that is in another PID namespace
	UID, GID uint32
	Turns    fdio.Turns // of the user, for files

	caller *Caller      // nil where the kernel says of the connection who asks
	fd     int          // -1 for a local one
	local  *Local       // nil for a program that asks itself
	socket *fdio.Socket // fd's owner, once it had to be waited for
	sent   Message      // the last answer, or nil

	mu     sync.Mutex
	turn   bool // is held
	closed bool
}

// NewCall takes over the descriptor of a connection that was accepted from a control socket, also
// when it fails. Who asks is what the kernel says (SO_PEERCRED, unix(7)); turns has each user's.
func NewCall(fd int, turns func(uid uint32) fdio.Turns) (*Call, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("getsockopt", err)
	}
	return &Call{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid, Turns: turns(cred.Uid), fd: fd}, nil
}

// Caller is who asks by a connection that was not accepted. Pidfd tells of its end, or is -1.
type Caller struct {
	PID      int32
	UID, GID uint32
	Pidfd    int
}

// NewCallBy takes over a connection that by has the other end of, and by's pidfd.
func NewCallBy(fd int, by Caller, turns func(uid uint32) fdio.Turns) *Call {
	return &Call{PID: by.PID, UID: by.UID, GID: by.GID, Turns: turns(by.UID), fd: fd, caller: &by}
}

// Close ends the connection. The descriptors that were received with it are their takers'.
func (c *Call) Close() {
	defer c.LeaveFiles()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.caller != nil {
		fdio.Close(c.caller.Pidfd)
		c.caller.Pidfd = -1
	}
	if c.socket != nil {
		c.socket.Close()
	} else if c.fd >= 0 {
		unix.Close(c.fd)
	}
}

// HoldsFiles reports whether descriptors came along that are no sockets: their user's turn is held.
func (c *Call) HoldsFiles() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.turn
}

// LeaveFiles gives the turn back, once all such descriptors are closed or need none.
func (c *Call) LeaveFiles() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turn {
		c.Turns.Leave()
		c.turn = false
	}
}

// Abandon lets the peer know that it gets no answer, while the goroutine that was to give one waits.
func (c *Call) Abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed && c.fd >= 0 {
		unix.Shutdown(c.fd, unix.SHUT_RDWR)
	}
}

// Pidfd returns a descriptor for the peer's process, or -1 where it is gone already. sent,
// which it takes over, is what the process itself has sent as one, or -1.
func (c *Call) Pidfd(sent int) int {
	if c.local != nil {
		return c.local.Pidfd()
	}
	if c.caller != nil {
		fdio.Close(sent)
		fd := c.caller.Pidfd
		c.caller.Pidfd = -1
		return fd
	}
	// SO_PEERPIDFD cannot meet a process id that was used again, but is new (Linux 6.5).
	fd, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err == nil {
		fdio.Close(sent)
		return fd
	}
	if IsPidfd(sent) {
		return sent
	}
	fdio.Close(sent)
	if fd, err = unix.PidfdOpen(int(c.PID), 0); err != nil {
		return -1
	}
	return fd
}

// IsPidfd reports whether a descriptor tells of a process's end.
func IsPidfd(fd int) bool {
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	return err == nil && (name == "anon_inode:[pidfd]" || strings.HasPrefix(name, "pidfd:"))
}

// Descriptors came with a request.
type Descriptors []int

// Take returns the first, which is the caller's to close, or -1.
func (d *Descriptors) Take() int {
	if len(*d) == 0 {
		return -1
	}
	fd := (*d)[0]
	*d = (*d)[1:]
	return fd
}

// Close closes those that were not taken.
func (d Descriptors) Close() {
	for _, fd := range d {
		unix.Close(fd)
	}
}

// mostDescriptors come with a request; what each kind takes is known by who answers it.
const mostDescriptors = 3

// Receive reads one request, with the descriptors that came along. Where there are others than
// sockets among them the user's turn is held; where there is no turn, descriptors are not taken.
func (c *Call) Receive() (req Request, fds Descriptors, err error) {
	// The message is there already, as a rule.
	for req, fds, err = c.receive(); err == unix.EAGAIN; req, fds, err = c.receive() {
		if err = c.await(); err != nil {
			break
		}
	}
	if err != nil {
		return req, fds, fmt.Errorf("reading a control request: %w", err)
	}
	return req, fds, nil
}

// receive reads a request that is there: unix.EAGAIN where it is not.
func (c *Call) receive() (Request, Descriptors, error) {
	var (
		data [requestMax + 1]byte
		oob  [64]byte
	)
	room := oob[:]
	held := c.HoldsFiles()
	turn := held || c.Turns.Take()
	if !turn {
		room = nil
	}
	n, oobn, flags, err := c.read(data[:], room)
	fds, derr := parseDescriptors(room[:oobn])
	if turn && !held {
		c.mu.Lock()
		c.turn = true
		c.mu.Unlock()
		if !slices.ContainsFunc(fds, func(fd int) bool { return !fdio.IsSocket(fd) }) {
			c.LeaveFiles()
		}
	}
	if err != nil {
		return Request{}, nil, err
	}
	err = derr
	req, perr := parseRequest(data[:n])
	switch {
	case err != nil:
	case perr != nil:
		err = perr
	case !turn && flags&unix.MSG_CTRUNC != 0:
		err = fmt.Errorf("too many control requests of this user wait for files that cannot be read")
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || len(fds) > mostDescriptors:
		err = fmt.Errorf("control request with too much in it, or no room for its descriptor")
	}
	if err != nil {
		fds.Close()
		return Request{}, nil, err
	}
	return req, fds, nil
}

// await waits until there is a message, or the end.
func (c *Call) await() (err error) {
	if c.socket == nil {
		if c.socket, err = fdio.Adopt(c.fd, "control"); err != nil {
			c.fd = -1
			return err
		}
	}
	c.socket.SetReadDeadline(time.Now().Add(RequestTime))
	return c.socket.WhenReadable(fdio.Readable)
}

// read receives one message that is there.
func (c *Call) read(data, oob []byte) (n, oobn, flags int, err error) {
	// A caller that sends and closes at once may do both after the kernel found the
	// queue empty and before it looks for the end (__unix_dgram_recvmsg in
	// net/unix/af_unix.c), so an end is believed the second time.
	for range 2 {
		err = fdio.Again(func() (e error) {
			n, oobn, flags, _, e = unix.Recvmsg(c.fd, data, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
			return e
		})
		if n > 0 || err != nil {
			break
		}
	}
	return max(n, 0), oobn, flags, err
}

// parseDescriptors takes the descriptors out of a control message; the caller owns them,
// also those that come with an error.
func parseDescriptors(oob []byte) (Descriptors, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds Descriptors
	for _, m := range messages {
		got, e := unix.ParseUnixRights(&m)
		if e != nil {
			err = e
			continue
		}
		fds = append(fds, got...)
	}
	return fds, err
}

// Send answers, with copies of descriptors. The peer's queue is empty, so it is not waited for; one
// that is gone is no error of ours.
func (c *Call) Send(r Message, fds ...int) error {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	c.sent = r
	if c.local != nil {
		return c.local.send(r, fds)
	}
	return unix.Sendmsg(c.fd, r.Marshal(), oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// Answered says in a word what was answered, for the log: "" where nothing was.
func (c *Call) Answered() string {
	if c.sent == nil {
		return ""
	}
	return c.sent.outcome()
}

// HandOver gives the program what is to stand in the place of its socket, closes it here, and waits until
// it is there. Where the program could not put it in place, its socket was not touched.
func (c *Call) HandOver(r Message, end int) bool {
	return c.Hand(r, end) == nil && (c.local != nil || c.taken())
}

// Hand sends an answer with what is to stand in the place of the program's socket, and closes that
// here. A program that cannot put it in place closes it.
func (c *Call) Hand(r Message, end int) error {
	if c.local != nil {
		c.sent = r
		return c.local.hand(r, end)
	}
	defer unix.Close(end)
	return c.Send(r, end)
}

// taken receives the message that what was handed is in place.
func (c *Call) taken() bool {
	req, fds, err := c.Receive()
	fds.Close()
	return err == nil && len(fds) == 0 && req.Op == OpTaken
}

// Fresh returns the socket that is to be connected in the place of the program's, the caller's to close:
// the one that has come along, which it takes over, or -1. Where the kernel has handed the call over it is
// made now.
func (c *Call) Fresh(sent int) (int, error) {
	switch {
	case c.local != nil:
		fdio.Close(sent)
		return c.local.Fresh()
	case sent >= 0 && !fdio.IsSocket(sent):
		unix.Close(sent)
		return -1, unix.ENOTSOCK
	case sent < 0:
		return -1, ErrNoFresh
	}
	return sent, nil
}

// ErrNoFresh is why there is no socket to connect: the program has sent none.
var ErrNoFresh = errors.New("the program could not make another socket")
