// Package proxy is the worker: the process beside the program that owns the real
// sockets, the keys and the policy. It decides about connections, speaks TLS on them,
// and carries their bytes to the program over channels.
package proxy

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/envproxy"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/names"
	"tlswrap/proxy/report"
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
	rings    atomic.Int32 // of libtls connections
	memory   collector

	mu        sync.Mutex
	users     map[uint32]*user
	sessions  map[wire.Token]*session
	channels  map[uint64]*connection
	listeners map[uint64]*listener
	sweeping  bool          // a sweep of the listeners is due
	ended     chan struct{} // closed with the last session
	used      bool          // there was a session
}

// New reads the rules and the files that they name. The error says all that is wrong
// with them.
func New(config Config) (*Worker, error) {
	w := &Worker{
		config: config, log: config.Log, resolver: names.NewResolver(), maps: names.NewMaps(),
		users: make(map[uint32]*user), sessions: make(map[wire.Token]*session), channels: make(map[uint64]*connection), listeners: make(map[uint64]*listener),
		ended: make(chan struct{}),
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
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
	p, err := trust.New(r, w.config.CAFiles, w.policy.Load())
	if err != nil {
		return err
	}
	w.maps.Change(r.Ports(), r.ListenPorts(), func() { w.policy.Store(p) })
	if p.Warning != "" {
		w.log.Warn(p.Warning)
	}
	return nil
}

// Files are those that the rules now in force were read from.
func (w *Worker) Files() []string { return slices.Clone(w.policy.Load().Files) }

// Serve answers on the control socket l, a SOCK_SEQPACKET listener that it closes,
// until ctx is done or, with EndWithSessions, the last session has ended.
func (w *Worker) Serve(ctx context.Context, l *net.UnixListener) error {
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
	defer w.maps.Shut() // another worker may have other rules
	stopped := make(chan error, 1)
	go func() {
		defer guard.Recover(w.log, "control socket", func() { stopped <- errors.New("internal error") })
		stopped <- w.accept(listener)
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

// allowed reports whether a user may begin sessions.
func (w *Worker) allowed(uid uint32) bool {
	return uid == uint32(os.Geteuid()) || slices.Contains(w.config.AllowUIDs, uid)
}

func (w *Worker) session(t wire.Token) *session {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sessions[t]
}

// newSession begins a session of a user's that speaks with v, or that another worker has begun
// where v is nil: nobody hears its sentences then, but they are in the log.
func (w *Worker) newSession(t wire.Token, uid uint32, v *report.Voice) (*session, error) {
	adopted := v == nil
	if adopted {
		v = report.NewVoice(nil, false, false)
	}
	var since time.Time
	if adopted {
		since = time.Now()
	}
	shared, err := w.maps.Add(adopted || v.Verbose || w.log.Enabled(context.Background(), slog.LevelInfo))
	if err != nil {
		v.Hush()
		return nil, err
	}
	u := w.user(uid)
	s := &session{worker: w, token: t, user: u, shared: shared, names: names.NewTable(shared, since), Reporter: &report.Reporter{Log: w.log, Voice: v},
		libtls: newLibtlsState(w, u), proxied: envproxy.NewSeen(shared), processes: make(map[process]struct{})}
	w.mu.Lock()
	w.used = true
	many := 0
	for _, other := range w.sessions {
		if other.user == s.user {
			many++
		}
	}
	known := w.sessions[t] // two processes of an adopted one may ask at once
	if known == nil && many < mostSessions {
		w.sessions[t] = s
	}
	w.mu.Unlock()
	if known != nil || many >= mostSessions {
		v.Hush()
		shared.Close()
		if known == nil {
			return nil, errManySessions
		}
		return known, nil
	}
	if adopted {
		w.log.Info("adopted", "uid", uid)
	}
	if warning := w.policy.Load().Warning; warning != "" && !v.Quiet {
		v.Say("warning: " + warning)
	}
	return s, nil
}

func (w *Worker) sessionEnded(s *session) {
	w.mu.Lock()
	var left []*listener
	for id, l := range w.listeners {
		if l.session == s {
			delete(w.listeners, id)
			left = append(left, l)
		}
	}
	w.mu.Unlock()
	for _, l := range left {
		l.close()
	}
	s.libtls.close()
	s.shared.Close()
	defer w.memory.freed()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.sessions, s.token)
	if len(w.sessions) == 0 && w.config.EndWithSessions {
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

// orphanTime is how long what a program wrote may take to be sent once it has closed
// its end and no process of its session is left: as long as the kernel gives a TCP
// socket that nobody holds (tcp(7), tcp_orphan_retries).
const orphanTime = time.Minute

// hurryOrphans sees to it that a server which does not read keeps no worker alive.
func (w *Worker) hurryOrphans(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.channels {
		if ch.session != s {
			continue
		}
		select {
		case <-ch.done:
			if ch.pair.HungUp() {
				ch.up.SetWriteDeadline(time.Now().Add(orphanTime))
			}
		default: // setup has a deadline
		}
	}
	s.libtls.hurry()
}

// newChannel makes the channel for a connection to t, which the program calls peer.
// end is the program's side; the caller closes it once it is handed over, gives the
// channel its upstream, and runs or abandons it.
func (w *Worker) newChannel(s *session, p *trust.Policy, a aim, peer wire.Addr, pid int32) (ch *connection, end int, err error) {
	ch = &connection{worker: w, session: s, aim: a, trust: a.trust(p), peer: peer, pid: pid,
		taken: make(chan struct{}), done: make(chan struct{}), ended: make(chan struct{})}
	ch.id = newID()
	if ch.pair, end, err = channel.New(channel.Name(ch.id, peer), false); err != nil {
		return nil, -1, err
	}
	w.enter(ch)
	s.channelOpened()
	return ch, end, nil
}

// enter lets a channel be found, by its session's requests too: it is whole, with its pair.
func (w *Worker) enter(ch *connection) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.channels[ch.id] = ch
}

// newID is what a channel is called.
func newID() uint64 {
	var id [8]byte
	rand.Read(id[:])
	return binary.NativeEndian.Uint64(id[:])
}

// channel finds a session's channel. The numbers are no secret (ss -x shows them), so
// another session's is none.
func (w *Worker) channel(s *session, id uint64) *connection {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ch := w.channels[id]; ch != nil && ch.session == s {
		return ch
	}
	return nil
}

func (w *Worker) forget(id uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.channels, id)
	w.memory.freed()
}

// abandon drops a channel that was never put in place.
func (ch *connection) abandon() {
	close(ch.taken)
	ch.pair.Close()
	ch.worker.forget(ch.id)
	ch.leave()
}

// Tell tells the people of all sessions something, and not the log.
func (w *Worker) Tell(line string) {
	w.mu.Lock()
	var voices []*report.Voice
	for _, s := range w.sessions {
		voices = append(voices, s.Voice)
	}
	w.mu.Unlock()
	for _, v := range voices {
		if !v.Quiet {
			v.Say(line)
		}
	}
}
