package serving

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
)

// closings tells when the last descriptor of a socket is gone, whoever had it and whatever closed it:
// close, dup2, exec, the end of a process. The kernel reports the end of an open file to inotify(7), that of
// a socket, too (__fput), before the close returns.
type closings struct {
	socket *fdio.Socket

	mu      sync.Mutex
	waiting map[int32]func() // by watch descriptor
}

// newClosings tells for as long as the worker lives. lost is called where something was not told, or may not be.
func newClosings(log *slog.Logger, lost func()) (*closings, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	s, err := fdio.New(fd, "closings")
	if err != nil {
		return nil, err
	}
	c := &closings{socket: s, waiting: make(map[int32]func())}
	go guard.Run(log, "closings", lost, func() {
		defer s.Close()
		c.receive(func(watch int32) {
			guard.Run(log, "closed listener", lost, func() {
				if closed := c.take(watch); closed != nil {
					closed()
				}
			})
		}, lost)
	})
	return c, nil
}

// watch has closed called, once, when no descriptor of fd's socket is left.
func (c *closings) watch(fd int, closed func()) (watch int32, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var n int
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	if e := c.socket.Control(func(own int) { n, err = unix.InotifyAddWatch(own, path, unix.IN_CLOSE) }); e != nil {
		return 0, e
	}
	if err != nil {
		return 0, os.NewSyscallError("inotify_add_watch", err)
	}
	c.waiting[int32(n)] = closed
	return int32(n), nil
}

// forget ends a watch. It may be called again.
func (c *closings) forget(watch int32) { c.take(watch) }

// take ends a watch, and returns what waits for it: nil where nothing does any more.
func (c *closings) take(watch int32) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	closed := c.waiting[watch]
	if closed != nil {
		delete(c.waiting, watch)
		c.socket.Control(func(own int) { unix.InotifyRmWatch(own, uint32(watch)) })
	}
	return closed
}

func (c *closings) receive(tell func(watch int32), lost func()) {
	buf := make([]byte, 4<<10)
	for {
		n, err := c.socket.Read(buf)
		if err != nil {
			lost()
			return
		}
		const header = unix.SizeofInotifyEvent
		for b := buf[:n]; len(b) >= header; {
			watch, mask, size := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[12:])
			b = b[min(len(b), header+int(size)):]
			switch {
			case mask&unix.IN_Q_OVERFLOW != 0:
				lost()
			case mask&unix.IN_CLOSE != 0:
				tell(int32(watch))
			}
		}
	}
}
