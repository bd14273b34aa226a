// Package session has the sessions, each one run of tlswrap: which processes belong to it, when it ends,
// what its programs can ask about by a number, and what one user's sessions may have at the same time.
// (What TLS calls a session is a "TLS session" wherever it is meant.) What the entries are, and what
// else is kept for a session, is the fronts' and the worker's.
//
// A process enters with its first request, and a pidfd tells of its end (pidfd_open(2); SO_PEERPIDFD
// where the kernel has it, so that a process id that was used again cannot be confused). Processes of
// another PID namespace have the number 0 here. They are told apart by the inodes of their pidfds
// (Linux 6.9), or each counts when it says hello.
package session

import (
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/names"
	"tlswrap/proxy/notices"
	"tlswrap/proxy/report"
	"tlswrap/proxy/wire"
)

// Owner is told what becomes of sessions. Its functions are called without locks, from any goroutine,
// and are not nil.
type Owner struct {
	Opened, Closed func() // a connection has begun, has ended
	Freed          func() // something of the session is forgotten
	Left           func() // a process is gone
	// Passed is told of connects that programs have made without a question, in their order: of no others before it
	// returns. It may not keep them.
	Passed func(*Session, []wire.Notice)
	Ended  func(*Session) // once, when nothing of the session is left
}

// Session is one run of tlswrap: the processes that it started, and what belongs to
// them. It ends when the last process is gone and the last connection is closed. Its methods may be
// called from any goroutine.
type Session struct {
	*report.Reporter
	Token   wire.Token
	User    *User // who began it
	Map     *names.Map
	Names   *names.Table
	owner   Owner
	notices *notices.Notices // nil where nobody wants them

	supervised atomic.Bool
	broken     Crowd // connections that are remembered, each with its socket: the user's crowd is the bound

	mu          sync.Mutex
	processes   map[process]struct{}
	first       process   // that began the session, and is the program; the zero value where that is not known
	watched     bool      // there was a process whose end can be seen
	asked       time.Time // when a process last asked whose end cannot
	connections int
	held        int // by who knows that there are processes which may never have asked
	entries     map[uint64]Entry
	idle        *time.Timer // running while there is neither a process nor a connection
	finished    bool        // nobody is left who could ask again
	ended       bool
	over        chan struct{} // closed when it has ended
	detach      *time.Timer   // looks whether standard error is still held; nil before a process left
	detachIn    time.Duration
}

// Config is what a session is made from.
type Config struct {
	Token    wire.Token
	User     *User
	Names    *names.Table // what its programs are shown, with their map
	Reporter *report.Reporter
	Notices  *notices.Notices // that the map has programs leave, or nil: the session's from now on
	Owner    Owner
}

// New makes a session without a process.
func New(c Config) *Session {
	return &Session{Reporter: c.Reporter, Token: c.Token, User: c.User, Map: c.Names.Shared, Names: c.Names, owner: c.Owner, notices: c.Notices,
		broken:    Crowd{Most: math.MaxInt},
		processes: make(map[process]struct{}), entries: make(map[uint64]Entry), over: make(chan struct{})}
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
func (s *Session) enter(pid process, pidfd int) {
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
		guard.Run(s.Log, "process", nil, func() {
			if f, err := fdio.New(pidfd, "pidfd"); err == nil {
				f.WhenReadable(fdio.Readable)
				f.Close()
			}
		})
		guard.Run(s.Log, "end of a process", nil, func() { s.leave(pid) })
	}()
}

// Left notes that a process of the worker's own PID namespace is gone, before its pidfd tells.
func (s *Session) Left(pid int32) { s.leave(process{pid: pid}) }

// leave notes that a process is gone.
func (s *Session) leave(pid process) {
	s.HearNotices()
	s.mu.Lock()
	delete(s.processes, pid)
	last := len(s.processes) == 0
	s.stir()
	if s.detachIn = detachTime; s.detach == nil {
		s.detach = time.AfterFunc(0, guard.Func(s.Log, "voice", s.releaseVoice))
	} else {
		s.detach.Reset(0)
	}
	s.mu.Unlock()
	s.owner.Left()
	if last {
		s.hurry()
	}
}

// detachTime is when the worker looks again whether a daemon has let go of standard
// error, once a process of its session has ended; later it looks less often.
const (
	detachTime = 200 * time.Millisecond
	detachMost = 5 * time.Second
)

// releaseVoice closes the session's standard error, where that is a pipe, when the program has ended and no
// other process has it open any more: whoever reads it, until its end, is not kept waiting by us. A daemon
// lets go of it some time after its parent has ended. A program that sends its own elsewhere, as jobs do,
// is still told of.
func (s *Session) releaseVoice() {
	if s.Voice.Hushed() || !s.Voice.Awaited {
		return
	}
	s.mu.Lock()
	_, runs := s.processes[s.first]
	all := slices.Collect(maps.Keys(s.processes))
	s.mu.Unlock()
	if runs {
		return // it has left when this is called again
	}
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
func (s *Session) has(pid process) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.processes[pid]
	return ok
}

// heard notes a request of a process whose end cannot be seen.
func (s *Session) heard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = time.Now()
	s.stir()
}

// Opened notes that the session has one more connection.
func (s *Session) Opened() {
	s.mu.Lock()
	s.connections++
	s.stir()
	s.mu.Unlock()
	s.owner.Opened()
}

// Closed notes that it has one less.
func (s *Session) Closed() {
	s.mu.Lock()
	s.connections--
	s.stir()
	s.mu.Unlock()
	s.owner.Closed()
}

// BeginSupervision notes that the kernel hands over what the session's programs do past the shim, and
// reports whether that is new.
func (s *Session) BeginSupervision() bool { return s.supervised.CompareAndSwap(false, true) }

// EndSupervision notes that it does not any more. A listener that is kept may be handed over again.
func (s *Session) EndSupervision() { s.supervised.Store(false) }

// Supervised reports whether it does.
func (s *Session) Supervised() bool { return s.supervised.Load() }

// Hold keeps the session until Release: there are processes, though none of them may have asked yet.
func (s *Session) Hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched = true
	s.held++
	s.stir()
}

// Release ends one Hold.
func (s *Session) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
	s.stir()
}

// Runs reports whether a process of the session's may be there, or begin to ask.
func (s *Session) Runs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.watched || s.held > 0 || len(s.processes) > 0
}

// Finish notes that no process is left which might ask again, and returns a channel that is closed when the
// session has ended.
func (s *Session) Finish() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = true
	if s.idle != nil {
		s.idle.Stop()
		s.idle = nil
	}
	s.stir()
	return s.over
}

// stir starts or stops the timer that ends the session. The caller holds mu.
func (s *Session) stir() {
	busy := len(s.processes) > 0 || s.connections > 0 || s.held > 0
	switch {
	case busy && s.idle != nil:
		s.idle.Stop()
		s.idle = nil
	case !busy && s.idle == nil && !s.ended:
		wait := linger
		if s.finished {
			wait = 0
		} else if !s.watched {
			wait = max(linger, time.Until(s.asked.Add(unwatched)))
		}
		s.idle = time.AfterFunc(wait, guard.Func(s.Log, "session", s.end))
	}
}

func (s *Session) end() {
	s.mu.Lock()
	done := !s.ended && s.idle != nil && len(s.processes) == 0 && s.connections == 0 && s.held == 0
	if done && !s.watched && !s.finished && time.Since(s.asked) < unwatched {
		s.idle, done = nil, false
		s.stir()
	}
	if done {
		s.ended = true
	}
	s.mu.Unlock()
	if done {
		s.HearNotices()
		s.Close()
		s.broken.Close()
		s.owner.Ended(s)
		close(s.over)
	}
}
