package proxy

import (
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/envproxy"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/names"
	"tlswrap/proxy/report"
	"tlswrap/proxy/wire"
)

// session is one run of tlswrap: the processes that it started, and what belongs to
// them. It ends when the last process is gone and the last channel is closed.
type session struct {
	*report.Reporter
	worker  *Worker
	token   wire.Token
	user    *user // who began it
	shared  *names.Map
	names   *names.Table
	data    dataAddrs
	libtls  *libtlsState
	proxied *envproxy.Seen

	mu        sync.Mutex
	processes map[process]struct{}
	watched   bool      // there was a process whose end can be seen
	asked     time.Time // when a process last asked whose end cannot
	channels  int
	idle      *time.Timer // running while there is neither
	ended     bool
	detach    *time.Timer // looks whether standard error is still held; nil before a process left
	detachIn  time.Duration
}

// linger is how long a session outlives its last process: a child that was forked
// just before has not said hello yet.
const linger = time.Second

// unwatched is how long a session outlives the last request where the end of no process of
// its can be seen.
var unwatched = 10 * time.Minute

// process is a process of a session's. Those of another PID namespace all have the number 0
// here, and are told apart by what the kernel numbers their pidfds with.
type process struct {
	pid   int32
	inode uint64
}

// enter notes that a process belongs to the session; pidfd, which it takes over, tells
// when that is over.
func (s *session) enter(pid process, pidfd int) {
	s.mu.Lock()
	s.watched = true
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
		defer guard.Recover(s.worker.log, "session", nil)
		defer s.leave(pid)
		if f, err := fdio.New(pidfd, "pidfd"); err == nil {
			f.WhenReadable(fdio.Readable)
			f.Close()
		}
	}()
}

// leave notes that a process is gone.
func (s *session) leave(pid process) {
	s.mu.Lock()
	delete(s.processes, pid)
	last := len(s.processes) == 0
	s.stir()
	if s.detachIn = detachTime; s.detach == nil {
		s.detach = time.AfterFunc(0, guard.Func(s.worker.log, "voice", s.releaseVoice))
	} else {
		s.detach.Reset(0)
	}
	s.mu.Unlock()
	s.worker.sweep() // it may have listened
	if last {
		s.worker.hurryOrphans(s)
	}
}

// detachTime is when the worker looks again whether a daemon has let go of standard
// error, once a process of its session has ended; later it looks less often.
const (
	detachTime = 200 * time.Millisecond
	detachMost = 5 * time.Second
)

// releaseVoice closes the session's standard error when no process has it open any
// more: whoever reads it, until its end, is not kept waiting by us. A daemon lets go of
// it some time after its parent has ended.
func (s *session) releaseVoice() {
	if s.Voice.Hushed() {
		return
	}
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.processes))
	s.mu.Unlock()
	if !slices.ContainsFunc(all, func(p process) bool { return s.Voice.IsHeldBy(p.pid) }) {
		s.Voice.Hush()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detach.Reset(s.detachIn)
	s.detachIn = min(2*s.detachIn, detachMost)
}

// has reports whether pid is known to belong to the session.
func (s *session) has(pid process) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.processes[pid]
	return ok
}

// heard notes a request of a process whose end cannot be seen.
func (s *session) heard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = time.Now()
	s.stir()
}

func (s *session) channelOpened() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.channels++
	s.worker.memory.opened()
	s.stir()
}

func (s *session) channelClosed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.channels--
	s.worker.memory.closed()
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
		wait := linger
		if !s.watched {
			wait = max(linger, time.Until(s.asked.Add(unwatched)))
		}
		s.idle = time.AfterFunc(wait, guard.Func(s.worker.log, "session", s.end))
	}
}

func (s *session) end() {
	s.mu.Lock()
	done := s.idle != nil && len(s.processes) == 0 && s.channels == 0
	if done && !s.watched && time.Since(s.asked) < unwatched {
		s.idle, done = nil, false
		s.stir()
	}
	if done {
		s.ended = true
	}
	s.mu.Unlock()
	if done {
		s.Voice.Hush()
		s.worker.sessionEnded(s)
	}
}
