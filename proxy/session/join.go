package session

import (
	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/wire"
)

// Join notes that the process that asks belongs to the session. A hello may bring a pidfd of the process's, which it takes.
func (s *Session) Join(c *wire.Call, req wire.Request, fds *wire.Descriptors) {
	p := process{pid: c.PID}
	sent := -1 // by the shim, which has no standard error to send
	if req.Op == wire.OpHello && req.Flags&wire.FlagStderr == 0 {
		sent = fds.Take()
	}
	if p.pid != 0 && s.has(p) {
		fdio.Close(sent)
		return
	}
	pidfd := c.Pidfd(sent)
	if pidfd < 0 {
		s.heard()
		return
	}
	if p.pid == 0 {
		var numbered bool
		if p.inode, numbered = pidfdInode(pidfd); !numbered {
			// Linux before 6.9. Every process says hello once.
			if req.Op != wire.OpHello {
				unix.Close(pidfd)
				return
			}
			p.inode = NewID()
		}
	}
	if req.Op == wire.OpHello && req.Flags&wire.FlagStderr != 0 {
		s.begunBy(p)
	}
	s.enter(p, pidfd)
}

// begunBy notes which process has begun the session: it becomes the program.
func (s *Session) begunBy(p process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first = p
}

// pidfdInode returns the number that the kernel gives a process's pidfds, where it does: until
// Linux 6.9 all have the same.
func pidfdInode(fd int) (inode uint64, ok bool) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Fstatfs(fd, &fs) != nil || fs.Type != unix.PID_FS_MAGIC || unix.Fstat(fd, &st) != nil {
		return 0, false
	}
	return st.Ino, true
}
