package serving

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/inotify"
	"tlswrap/proxy/told"
	"tlswrap/proxy/wire"
)

// queue is what a program listens on in the place of its TCP socket. The file that it was
// bound to is gone: the worker alone can connect to it, by a descriptor of that file.
type queue struct {
	mu sync.Mutex // for connects that wait for room
	fd int        // O_PATH

	using  sync.RWMutex // held to use fd while others may close it
	closed bool

	gone   atomic.Bool // no descriptor of the program's side is left
	forget func()      // ends the watch for that
}

// newQueue makes a queue, and the program's side of it, which the caller closes. It is not watched.
func newQueue(id uint64, backlog int) (q *queue, end int, err error) {
	end, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, os.NewSyscallError("socket", err)
	}
	q = &queue{forget: func() {}}
	if q.fd, err = bindUnlinked(end, fmt.Sprintf("%s%016x", wire.ListenPrefix, id)); err == nil {
		if err = os.NewSyscallError("listen", unix.Listen(end, backlog)); err == nil {
			return q, end, nil
		}
		unix.Close(q.fd)
	}
	unix.Close(end)
	return nil, -1, err
}

// bindUnlinked binds a socket to a file, which it removes again, and returns a descriptor
// of that. A path of the file system, unlike an abstract name, cannot be connected to by
// those who only know it.
func bindUnlinked(fd int, name string) (int, error) {
	var err error
	for _, parent := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/dev/shm", "/run"} {
		if parent == "" {
			continue
		}
		var dir string
		if dir, err = os.MkdirTemp(parent, "tlswrap-"); err != nil { // mode 0700
			continue
		}
		defer os.Remove(dir)
		path := filepath.Join(dir, name)
		if err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrUnix{Name: path})); err != nil {
			continue
		}
		defer os.Remove(path)
		file, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		return file, os.NewSyscallError("open", err)
	}
	return -1, err
}

func queueAddr(path int) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d", path)}
}

// boundSocket makes a socket with the abstract address name.
func boundSocket(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name}); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// connect connects a non-blocking socket by a descriptor of the queue's file, and waits while
// the queue is full. unix.ECONNREFUSED: the program does not listen any more.
func (q *queue) connect(path, fd int) error {
	err := unix.Connect(fd, queueAddr(path))
	if err == unix.EAGAIN {
		// poll(2) does not tell when there is room: a thread has to wait, but just one.
		q.mu.Lock()
		defer q.mu.Unlock()
		if err = unix.SetNonblock(fd, false); err == nil {
			for err = unix.EINTR; err == unix.EINTR; {
				err = unix.Connect(fd, queueAddr(path))
			}
			if e := unix.SetNonblock(fd, true); err == nil {
				err = e
			}
		}
	}
	return err
}

// watch has closed called once no descriptor of end, the program's side, is left, whoever had it and whatever closed it:
// close, dup2, exec, the end of a process. The kernel reports the end of an open file to inotify(7), that of a socket,
// too (__fput), before the close returns.
func (q *queue) watch(f *Front, end int, closed func()) (err error) {
	q.forget, err = f.watch(fmt.Sprintf("/proc/self/fd/%d", end), inotify.Watch{
		Mask: unix.IN_CLOSE, Once: true,
		Told: func() {
			q.gone.Store(true)
			closed()
		},
	})
	return err
}

// alive reports whether a program still listens: a socket of another type is told so
// (EPROTOTYPE), and nobody notices.
func (q *queue) alive() told.Answer {
	q.using.RLock()
	defer q.using.RUnlock()
	if q.closed || q.gone.Load() {
		return told.If(false)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return told.Answer{}
	}
	defer unix.Close(fd)
	switch unix.Connect(fd, queueAddr(q.fd)) {
	case unix.EPROTOTYPE:
		return told.If(true)
	case unix.ECONNREFUSED:
		return told.If(false)
	}
	return told.Answer{}
}

// close may be called again.
func (q *queue) close() {
	q.forget()
	q.using.Lock()
	defer q.using.Unlock()
	if !q.closed {
		q.closed = true
		unix.Close(q.fd)
	}
}
