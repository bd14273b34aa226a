// Package proxy is the worker as a whole, the process beside the program that owns the real
// sockets, the keys and the policy: it starts, takes callers and gives their requests to the front
// that they are for, and watches the files of the rules. It serves no connection itself; the
// packages below it do, and they do not know it.
//
// When Serve is told to end the worker exits without waiting for its connections. What has not been
// sent by then is lost, and because of the reset byte (package channel) each program reads a reset,
// and not the end of the data; one that is traced (package tracer) is killed. The map that lets
// programs connect without a question (package names) counts no longer, so that they ask the next
// worker.
package proxy

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/inotify"
	"tlswrap/proxy/libtls"
	"tlswrap/proxy/memory"
	"tlswrap/proxy/names"
	"tlswrap/proxy/outgoing"
	"tlswrap/proxy/report"
	"tlswrap/proxy/serving"
	"tlswrap/proxy/session"
	"tlswrap/proxy/supervisor"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// Config is what a worker is made from.
type Config struct {
	// Load reads the rules. It is called at the start and at every reload.
	Load func() (*rules.Policy, error)
	// CAFiles are trusted for every rule, beside the system's roots.
	CAFiles []string
	// Library is the absolute path of libtlswrap.so; copies for other kinds of
	// machine stand in folders named after them beside it.
	Library string
	// Log gets what happens, as events; nil drops them.
	Log *slog.Logger
	// AllowUIDs are the users that may begin sessions beside the worker's own.
	AllowUIDs []uint32
	// EndWithSessions makes Run return when the last session has ended.
	EndWithSessions bool
}

// Worker serves the control socket. Its methods may be called from any goroutine.
type Worker struct {
	config   Config
	log      *slog.Logger
	policy   atomic.Pointer[trust.Policy]
	maps     *names.Maps
	resolver *names.Resolver
	loading  sync.Mutex
	memory   memory.Collector
	outgoing *outgoing.Front
	serving  *serving.Front
	inotify  *inotify.Instance
	libtls   *libtls.Front

	supervisor *supervisor.Front

	departures atomic.Int64 // of programs

	turns      map[uint32]fdio.Turns // of those who may begin sessions
	otherTurns fdio.Turns

	failed *session.Crowd // connections of all users, each with its socket

	mu    sync.Mutex
	users map[uint32]*session.User
	runs  map[wire.Token]*run
	ended chan struct{} // closed with the last run
	used  bool          // there was a run
}

// run is a session, and beside it what each front keeps for that. The worker alone knows all of it.
type run struct {
	*session.Session
	outgoing *outgoing.State
	libtls   *libtls.State
}

// New reads the rules and the files that they name. The error says all that is wrong
// with them.
func New(config Config) (*Worker, error) {
	w := &Worker{
		config: config, log: config.Log, resolver: names.NewResolver(), maps: names.NewMaps(), failed: session.NewFailed(),
		users: make(map[uint32]*session.User), runs: make(map[wire.Token]*run), ended: make(chan struct{}),
	}
	w.turns = map[uint32]fdio.Turns{uint32(os.Geteuid()): fdio.NewTurns()}
	for _, uid := range config.AllowUIDs {
		w.turns[uid] = fdio.NewTurns()
	}
	w.otherTurns = fdio.NewTurns()
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.inotify = inotify.New(w.log)
	w.serving = serving.NewFront(w.log, w.policy.Load, w.inotify)
	w.outgoing = &outgoing.Front{Log: w.log, Resolver: w.resolver, Policy: w.policy.Load, Stopped: w.serving.Stopped}
	w.libtls = libtls.NewFront(w.log)
	w.supervisor = &supervisor.Front{Log: w.log, Ask: w.askLocally, Serve: w.serveCaller, Names: w.lookups}
	w.serving.LetGo = w.supervisor.LetGo
	if err := w.Reload(); err != nil {
		return nil, err
	}
	return w, nil
}

// Reload reads the rules and their files anew. New connections go by them; where
// something is wrong the old rules stay, and the error says what.
func (w *Worker) Reload() error {
	w.loading.Lock()
	defer w.loading.Unlock()
	r, err := w.config.Load()
	if err != nil {
		return err
	}
	before := w.policy.Load()
	p, err := trust.New(r, w.config.CAFiles, before)
	if err != nil {
		return err
	}
	// The program of a single run may have no business with what cannot be served. One that is served goes on
	// by the old rules.
	if broken := p.Broken(before); broken != nil && (before != nil || !w.config.EndWithSessions) {
		return broken
	}
	w.maps.Change(r.Ports(), r.ListenPorts(), func() { w.policy.Store(p) })
	for _, warning := range p.Warnings {
		w.log.Warn(warning)
	}
	return nil
}

// Files are those that the rules now in force were read from.
func (w *Worker) Files() []string { return slices.Clone(w.policy.Load().Files) }

// Serve answers on the control socket l, a SOCK_SEQPACKET listener that it closes,
// until ctx is done or, with EndWithSessions, the last session has ended.
func (w *Worker) Serve(ctx context.Context, l *net.UnixListener) error {
	defer w.sever()
	defer l.Close()
	f, err := l.File()
	if err != nil {
		return err
	}
	// The network poller knows f already, so a copy is registered.
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	f.Close()
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	listener, err := fdio.New(fd, "control socket")
	if err != nil {
		return err
	}
	defer listener.Close()
	defer func() {
		w.maps.Shut() // another worker may have other rules
		for _, r := range w.all() {
			r.HearNotices()
		}
	}()
	stopped := make(chan error, 1)
	go func() {
		err := errors.New("internal error")
		guard.Run(w.log, "control socket", nil, func() { err = w.accept(listener) })
		stopped <- err
	}()
	if w.config.EndWithSessions {
		// Who started the worker may have died before it said hello.
		defer time.AfterFunc(wire.RequestTime, guard.Func(w.log, "start", w.endUnused)).Stop()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-w.ended:
		return nil
	case err = <-stopped:
		return err
	}
}

// sever ends the connections of programs that would not end with this process, because a file of somebody's
// keeps a thread of it.
func (w *Worker) sever() {
	waiting := len(w.otherTurns)
	for _, turns := range w.turns {
		waiting += len(turns)
	}
	if waiting == 0 {
		return
	}
	if err := fdio.Sever(); err != nil {
		w.log.Error("ending connections", "error", err.Error())
	}
}

// allowed reports whether a user may begin sessions.
func (w *Worker) allowed(uid uint32) bool {
	return uid == uint32(os.Geteuid()) || slices.Contains(w.config.AllowUIDs, uid)
}

// run finds a run, or nil.
func (w *Worker) run(t wire.Token) *run {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.runs[t]
}

// user finds a user, or makes it: those who may begin sessions are few.
func (w *Worker) user(uid uint32) *session.User {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.users[uid]
	if u == nil {
		u = session.NewUser(w.failed)
		w.users[uid] = u
	}
	return u
}

// newRun begins a run of a user's that speaks with v, or that another worker has begun
// where v is nil: nobody hears its sentences then, but they are in the log.
func (w *Worker) newRun(t wire.Token, uid uint32, v *report.Voice) (*run, error) {
	adopted := v == nil
	var since time.Time
	if adopted {
		v = report.NewVoice(nil, false, false)
		since = time.Now()
	}
	// After a worker that died programs ask about every port: nobody knows what that one had them ask about.
	told := v.Verbose || w.log.Enabled(context.Background(), slog.LevelInfo)
	shared, notices, err := session.NewMap(w.maps, adopted, told)
	if shared == nil {
		v.Hush()
		return nil, err
	}
	if err != nil {
		w.log.Warn("no notices of what passes", "error", err.Error())
	}
	s := session.New(session.Config{
		Token: t, User: w.user(uid), Names: names.NewTable(shared, since), Reporter: &report.Reporter{Log: w.log, Voice: v}, Notices: notices,
		Owner: session.Owner{Opened: w.memory.Opened, Closed: w.memory.Closed, Freed: w.memory.Freed, Left: w.left, Passed: w.outgoing.Passed, Ended: w.sessionEnded},
	})
	r := &run{Session: s, outgoing: outgoing.NewState(s), libtls: w.libtls.NewState(s)}
	if known, err := w.enter(r); err != nil || known != r {
		s.Close()
		return known, err
	}
	s.Begin()
	if adopted {
		w.log.Info("adopted", "uid", uid)
	}
	for _, warning := range w.policy.Load().Warnings {
		if !v.Quiet {
			v.Say("warning: " + warning)
		}
	}
	return r, nil
}

// all has the runs that there are.
func (w *Worker) all() []*run {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.runs))
}

// enter lets a run be found, and returns it; or the one that has its token already: two processes of an
// adopted one may ask at once.
func (w *Worker) enter(r *run) (*run, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used = true
	if known := w.runs[r.Token]; known != nil {
		return known, nil
	}
	many := 0
	for _, other := range w.runs {
		if other.User == r.User {
			many++
		}
	}
	if many >= session.MostSessions {
		return nil, session.ErrManySessions
	}
	w.runs[r.Token] = r
	return r, nil
}

// left is told of each process that is gone.
func (w *Worker) left() {
	w.departures.Add(1)
	w.serving.Sweep(nil)
}

// Departures is how many processes of all sessions have been seen to end.
func (w *Worker) Departures() int64 { return w.departures.Load() }

func (w *Worker) sessionEnded(s *session.Session) {
	w.serving.SessionEnded(s)
	if r := w.run(s.Token); r != nil {
		r.libtls.Close()
	}
	defer w.memory.Freed()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.runs, s.Token)
	if len(w.runs) == 0 && w.config.EndWithSessions {
		select {
		case <-w.ended:
		default:
			close(w.ended)
		}
	}
}

// endUnused ends a worker that never had a session.
func (w *Worker) endUnused() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.used {
		close(w.ended)
	}
}

// Tell tells the people of all sessions something, and not the log.
func (w *Worker) Tell(line string) {
	for _, r := range w.all() {
		if !r.Voice.Quiet {
			r.Voice.Say(line)
		}
	}
}
