package proxy

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// session is one run of tlswrap: the processes that it started, and what belongs to
// them. It ends when the last process is gone and the last channel is closed.
type session struct {
	worker *Worker
	token  Token
	names  *names
	voice  *voice

	mu        sync.Mutex
	processes map[int32]struct{}
	channels  int
	idle      *time.Timer // running while there is neither
	ended     bool
}

// linger is how long a session outlives its last process: a child that was forked
// just before has not said hello yet.
const linger = time.Second

// enter notes that a process belongs to the session; pidfd, which it takes over, tells
// when that is over.
func (s *session) enter(pid int32, pidfd int) {
	s.mu.Lock()
	_, known := s.processes[pid]
	if !known && !s.ended {
		s.processes[pid] = struct{}{}
		s.stir()
	}
	s.mu.Unlock()
	if known {
		unix.Close(pidfd)
		return
	}
	go func() {
		if f, err := newSocket(pidfd, "pidfd"); err == nil {
			f.whenReadable(readable)
			f.Close()
		}
		s.leave(pid)
	}()
}

// leave notes that a process is gone.
func (s *session) leave(pid int32) {
	s.mu.Lock()
	delete(s.processes, pid)
	last := len(s.processes) == 0
	if last {
		// Whoever reads the program's standard error is not kept waiting.
		s.voice.hush()
	}
	s.stir()
	s.mu.Unlock()
	if last {
		s.worker.hurryOrphans(s)
	}
}

// has reports whether pid is known to belong to the session.
func (s *session) has(pid int32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.processes[pid]
	return ok
}

func (s *session) channelOpened() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.channels++
	s.stir()
}

func (s *session) channelClosed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.channels--
	s.stir()
}

// stir starts or stops the timer that ends the session. The caller holds mu.
func (s *session) stir() {
	busy := len(s.processes) > 0 || s.channels > 0
	switch {
	case busy && s.idle != nil:
		s.idle.Stop()
		s.idle = nil
	case !busy && s.idle == nil && !s.ended:
		s.idle = time.AfterFunc(linger, s.end)
	}
}

func (s *session) end() {
	s.mu.Lock()
	done := s.idle != nil && len(s.processes) == 0 && s.channels == 0
	if done {
		s.ended = true
	}
	s.mu.Unlock()
	if done {
		s.voice.hush()
		s.worker.sessionEnded(s)
	}
}

func readable(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return n > 0 || (err != nil && err != unix.EINTR)
}

// voice writes sentences to a session's standard error. It never makes the worker
// wait: a reader that is slow misses lines.
type voice struct {
	quiet, verbose bool

	mu    sync.Mutex
	lines chan string
}

// newVoice takes over stderr, which may be nil.
func newVoice(stderr *os.File, verbose, quiet bool) *voice {
	v := &voice{quiet: quiet, verbose: verbose}
	if stderr == nil {
		return v
	}
	v.lines = make(chan string, 64)
	go func(lines <-chan string) {
		for line := range lines {
			stderr.WriteString(line)
		}
		stderr.Close()
	}(v.lines)
	return v
}

// say queues one line.
func (v *voice) say(line string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lines == nil {
		return
	}
	select {
	case v.lines <- "tlswrap: " + line + "\n":
	default:
	}
}

// hush closes standard error once what was said is written.
func (v *voice) hush() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lines != nil {
		close(v.lines)
		v.lines = nil
	}
}
