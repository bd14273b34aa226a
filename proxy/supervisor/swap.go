package supervisor

import (
	"os"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/target"
)

// swap puts a socket in the place of a target's.
type swap struct {
	*call
	number  int // of the target's descriptor
	old     int // a copy of it; not owned
	end     int // a copy of what was put there; -1 before
	failure answer

	interrupted bool // nothing was put there, as the target does not wait any more
}

func (s *swap) close() { fdio.Close(s.end) }

// channel returns what was put there, which is not s's any more.
func (s *swap) channel() (kind, error) {
	end := s.end
	s.end = -1
	k, err := kindOf(end)
	if err == nil {
		s.inode, err = inodeOf(end)
	}
	return k, err
}

// fresh makes the socket that is to be connected, like the target's: others may have copies of its own
// (package upstream).
func (s *swap) fresh() (int, error) { return socketAlike(s.old, s.thread.TID) }

// putConnection is put for a connection, which goes on where the target does not wait any more.
func (s *swap) putConnection(end int) error {
	err := s.put(end)
	if err != nil && !s.waits() {
		s.interrupted, s.failure, err = true, nil, nil
	}
	return err
}

// put takes over end. Where it fails, nothing was put anywhere.
func (s *swap) put(end int) error {
	s.end = end
	err := s.place()
	if err != nil {
		s.failure = s.failed(err)
	}
	return err
}

func (s *swap) place() error {
	if err := target.LikeDescriptor(s.end, s.old); err != nil {
		return err
	}
	inode, err := inodeOf(s.old)
	if err != nil {
		return err
	}
	others, err := s.thread.Others(s.number, inode)
	if err != nil {
		return err
	}
	defer others.Close()
	if err := others.Move(s.old, s.end); err != nil {
		return err
	}
	for _, n := range append(others.Numbers, s.number) {
		if err := s.replace(n, inode); err != nil {
			others.Move(s.end, s.old)
			return err
		}
	}
	return nil
}

// replace puts the socket at a number that still has the old one: another thread may have closed it, and
// opened something else there.
func (s *swap) replace(number int, inode uint64) error {
	closeOnExec, err := s.thread.CloseOnExec(number)
	if os.IsNotExist(err) {
		return unix.EBADF
	}
	if err != nil {
		return err
	}
	now, err := s.thread.Descriptor(number)
	if err != nil {
		return err
	}
	defer unix.Close(now)
	if found, err := inodeOf(now); err != nil || found != inode {
		return unix.EBADF
	}
	return s.listener.Replace(s.id, s.end, number, closeOnExec)
}

func inodeOf(fd int) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	return st.Ino, nil
}

// socketAlike makes a socket of fd's kind in the network namespace of the thread that fd is of.
func socketAlike(fd, tid int) (int, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return -1, err
	}
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return -1, err
	}
	return target.SocketIn(tid, domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
}
