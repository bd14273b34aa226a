// Package inotify has the worker's only instance of inotify(7): a user has 128 of them for all programs
// (fs.inotify.max_user_instances), and may run as many workers. There is none before the first watch. The
// worker watches the folders of files with it, and the front of servers what programs listen on.
package inotify

import (
	"encoding/binary"
	"log/slog"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
)

// Instance tells of events for as long as the worker lives. Its methods may be called from any goroutine.
type Instance struct {
	log  *slog.Logger
	open func() (*fdio.Socket, error) // the same each time

	mu       sync.Mutex
	watches  map[int32]Watch // by watch descriptor
	whenLost []func()
}

// Watch is what becomes of the events of one path.
type Watch struct {
	Mask uint32 // the events
	Once bool   // it ends with the first
	Told func() // there was one; not nil, and called from one goroutine
}

// New makes an instance that watches nothing.
func New(log *slog.Logger) *Instance {
	i := &Instance{log: log, watches: make(map[int32]Watch)}
	i.open = fdio.Kept(i.start)
	return i
}

func (i *Instance) start() (*fdio.Socket, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	s, err := fdio.New(fd, "inotify")
	if err != nil {
		return nil, err
	}
	go guard.Run(i.log, "inotify", nil, func() {
		defer i.lost()
		i.receive(s)
	})
	return s, nil
}

// WhenLost has f called when there may have been events, or may be from now on, that nobody tells of.
func (i *Instance) WhenLost(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.whenLost = append(i.whenLost, f)
}

// Add begins to watch a path, once for each file that it leads to. forget ends that, and may be called again.
func (i *Instance) Add(path string, w Watch) (forget func(), err error) {
	s, err := i.open()
	if err != nil {
		return func() {}, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	var id int
	if e := s.Control(func(fd int) { id, err = unix.InotifyAddWatch(fd, path, w.Mask) }); e != nil {
		err = e
	}
	if err != nil {
		return func() {}, os.NewSyscallError("inotify_add_watch", err)
	}
	i.watches[int32(id)] = w
	return func() { i.forget(s, int32(id)) }, nil
}

func (i *Instance) forget(s *fdio.Socket, id int32) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, known := i.watches[id]; known {
		delete(i.watches, id)
		s.Control(func(fd int) { unix.InotifyRmWatch(fd, uint32(id)) })
	}
}

// receive tells of events until there can be none any more.
func (i *Instance) receive(s *fdio.Socket) {
	buf := make([]byte, 4<<10)
	for {
		n, err := s.Read(buf)
		if err != nil {
			return
		}
		const header = unix.SizeofInotifyEvent
		for b := buf[:n]; len(b) >= header; {
			id, mask, size := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[12:])
			b = b[min(len(b), header+int(size)):]
			switch {
			case mask&unix.IN_Q_OVERFLOW != 0:
				i.lost()
			case mask&unix.IN_IGNORED != 0:
				i.ended(id)
			default:
				guard.Run(i.log, "watched file", i.lost, func() { i.tell(s, id) })
			}
		}
	}
}

// ended notes that the kernel has ended a watch, as its file is gone.
func (i *Instance) ended(id int32) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.watches, id)
}

func (i *Instance) tell(s *fdio.Socket, id int32) {
	i.mu.Lock()
	w, known := i.watches[id]
	i.mu.Unlock()
	if !known {
		return
	}
	if w.Once {
		i.forget(s, id)
	}
	w.Told()
}

func (i *Instance) lost() {
	i.mu.Lock()
	all := slices.Clone(i.whenLost)
	i.mu.Unlock()
	for _, f := range all {
		guard.Run(i.log, "lost events", nil, f)
	}
}
