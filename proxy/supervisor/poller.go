package supervisor

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
)

// poller waits for events of descriptors whose open files are the targets', too: their flags have to stay
// as they are, so that they cannot be the network poller's; and a thread for each would be too much. It is an
// epoll set, which the network poller waits for.
type poller struct {
	set *fdio.Socket

	mu      sync.Mutex
	last    int32
	waiting map[int32]chan struct{}
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	set, err := fdio.New(fd, "epoll set")
	if err != nil {
		return nil, err
	}
	return &poller{set: set, waiting: make(map[int32]chan struct{})}, nil
}

// run tells who waits, until the poller is closed.
func (p *poller) run() {
	var found [64]unix.EpollEvent
	p.set.WhenReadable(func(set int) bool {
		for {
			n, err := unix.EpollWait(set, found[:], 0)
			if err == unix.EINTR {
				continue
			}
			if n <= 0 {
				return false
			}
			for _, e := range found[:n] {
				p.tell(e.Fd)
			}
		}
	})
}

func (p *poller) tell(key int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ready := p.waiting[key]; ready != nil {
		close(ready)
		delete(p.waiting, key)
	}
}

// wait returns what is closed when fd has one of events to tell; forget has to be called before fd is
// closed.
func (p *poller) wait(fd int, events uint32) (ready <-chan struct{}, forget func(), err error) {
	told := make(chan struct{})
	p.mu.Lock()
	p.last++
	key := p.last
	p.waiting[key] = told
	p.mu.Unlock()
	forget = func() {
		p.set.Control(func(set int) { unix.EpollCtl(set, unix.EPOLL_CTL_DEL, fd, nil) })
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.waiting, key)
	}
	event := unix.EpollEvent{Events: events | unix.EPOLLONESHOT, Fd: key}
	if e := p.set.Control(func(set int) { err = unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &event) }); e != nil {
		err = e
	}
	if err != nil {
		forget()
		return nil, nil, os.NewSyscallError("epoll_ctl", err)
	}
	return told, forget, nil
}
