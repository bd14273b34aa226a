// Package libtls serves programs that call libtls or ressl: what they load and configure, connections on
// their descriptors (stream) or over their callbacks (pump), and how those have ended. The TLS that
// libtls has, its words, and the private keys are proxy/libtls/engine's; the protocol is libtls/wire.h's.
// The worker hands it the calls of a session's programs.
//
// It is larger than others because libtls has two ways of its own to carry bytes, each with its end.
package libtls

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/libtls/engine"
	"tlswrap/proxy/session"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/wire"
)

// Front serves programs of all sessions.
type Front struct {
	log   *slog.Logger
	rings atomic.Int32 // that there are

	mu     sync.Mutex
	shares map[*session.User]*engine.Shares
}

// NewFront begins with nothing.
func NewFront(log *slog.Logger) *Front {
	return &Front{log: log, shares: make(map[*session.User]*engine.Shares)}
}

// State is what the programs of a session have here.
type State struct {
	*session.Session
	front  *Front
	store  *engine.Store
	recent session.Crowd // of ends
}

// NewState begins with nothing. What sessions of one user load alike they share.
func (f *Front) NewState(s *session.Session) *State {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shares[s.User] == nil {
		f.shares[s.User] = new(engine.Shares)
	}
	return &State{Session: s, front: f, store: engine.NewStore(f.shares[s.User]), recent: session.Crowd{Most: mostEnds}}
}

// reply answers a request. The error is a sentence that the program finds in tls_error.
func reply(c *wire.Call, r wire.TLSReply, err error) {
	r.Answer = wire.AnswerGood
	if err != nil {
		r = wire.TLSReply{Answer: wire.AnswerError, Text: err.Error()}
	}
	c.Send(r)
}

// Load keeps what a descriptor holds, and answers with its number (TW_TLS_LOAD).
func (l *State) Load(c *wire.Call, req wire.Request, fds *wire.Descriptors) {
	var r wire.TLSReply
	kind := engine.Kind(req.Flags)
	var err error
	fd := fds.Take()
	if file, ok := fileOf(kind, fd); ok {
		defer unix.Close(fd)
		r.Number, err = l.store.LoadFile(file, func() ([]byte, error) { return readDuplicate(fd) })
	} else {
		var data []byte
		if data, err = loadPart(kind, fd); err == nil {
			r.Number, err = l.store.Load(kind, data)
		}
	}
	if err == nil && l.store.Same(r.Number, req.Channel) {
		r.Value = 1
	}
	reply(c, r, err)
}

// Build makes a configuration, and answers with its number (TW_TLS_BUILD).
func (l *State) Build(c *wire.Call, _ wire.Request, fds *wire.Descriptors) {
	trust.WarmRoots()
	var r wire.TLSReply
	data, err := fdio.ReadFile(fds.Take(), engine.Most)
	if err == nil {
		r.Number, err = l.store.Build(data)
	}
	reply(c, r, err)
}

// Drop forgets a number. There is no answer (TW_TLS_DROP).
func (l *State) Drop(_ *wire.Call, req wire.Request, _ *wire.Descriptors) { l.store.Drop(req.Channel) }

// End tells how a connection has ended (TW_TLS_END).
func (l *State) End(c *wire.Call, req wire.Request, _ *wire.Descriptors) {
	e := l.howItEnded(req.Channel)
	r := wire.TLSReply{Text: e.reason}
	if r.Text == "" {
		r.Text = engine.Sentence(unix.ECONNRESET)
	}
	if e.truncated {
		r.Value = 1
	}
	reply(c, r, nil)
}

// Name tells whether a chain is for a name (TW_TLS_NAME).
func (l *State) Name(c *wire.Call, req wire.Request, fds *wire.Descriptors) {
	var r wire.TLSReply
	chain, err := fdio.ReadFile(fds.Take(), engine.Most)
	if err == nil {
		var ok bool
		if ok, err = engine.ContainsName(chain, string(req.Body)); ok {
			r.Value = 1
		}
	}
	reply(c, r, err)
}

// Compute answers with what is made of descriptors: what a response says of a chain (TW_TLS_OCSP), or
// a private key (TW_TLS_DECRYPT).
func (l *State) Compute(c *wire.Call, req wire.Request, fds *wire.Descriptors) {
	data, err := l.compute(req, fds)
	if err == nil {
		if err = sendData(c, data); err == nil {
			return
		}
	}
	// tls_load_file has no way to say why.
	if key, ok := errors.AsType[engine.UnsupportedKey](err); ok {
		l.Say("tls_load_file: the private key is of no use: " + key.Error())
	}
	reply(c, wire.TLSReply{}, err)
}

// Ring answers with memory for what a connection sends (TW_TLS_RING).
func (l *State) Ring(c *wire.Call, req wire.Request, _ *wire.Descriptors) {
	t, _ := l.Find(req.Channel).(*stream)
	fd, err := t.openRing()
	if err != nil {
		reply(c, wire.TLSReply{}, err)
		return
	}
	c.Send(wire.TLSReply{Answer: wire.AnswerFD}, fd)
	unix.Close(fd)
}

func (l *State) compute(req wire.Request, fds *wire.Descriptors) ([]byte, error) {
	first, err := fdio.ReadFile(fds.Take(), engine.Most)
	if err != nil {
		return nil, err
	}
	if req.Op == wire.OpTLSDecrypt {
		return engine.Decrypt(first, req.Body)
	}
	config, err := l.store.Config(req.Channel)
	if err != nil {
		return nil, err
	}
	defer config.Release()
	second, err := fdio.ReadFile(fds.Take(), engine.Most)
	if err != nil {
		return nil, err
	}
	// The shim knows its size.
	return config.ProcessOCSP(first, second)[4:], nil
}

// sendData answers with a memory file.
func sendData(c *wire.Call, data []byte) error {
	fd, err := unix.MemfdCreate("libtls", unix.MFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	defer unix.Close(fd)
	for done := 0; done < len(data); {
		n, err := unix.Pwrite(fd, data[done:], int64(done))
		if err != nil {
			return os.NewSyscallError("pwrite", err)
		}
		done += n
	}
	c.Send(wire.TLSReply{Answer: wire.AnswerFD}, fd)
	return nil
}

// settled is how old a file's last change has to be: one that comes later has another time then, also where
// the file system's clock is coarse.
const settled = 2 * time.Second

// fileOf tells which file of roots a descriptor is of; ok is false where its bytes may change unnoticed.
func fileOf(kind engine.Kind, fd int) (file engine.File, ok bool) {
	var st unix.Stat_t
	if !kind.IsRoots() || unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return file, false
	}
	file = engine.File{
		Kind: kind, Device: st.Dev, Inode: st.Ino, Size: st.Size, Changed: st.Ctim.Nano(), Wrote: st.Mtim.Nano(),
	}
	age := time.Since(time.Unix(0, file.Changed))
	return file, age > settled
}

// readDuplicate reads a file, and leaves the descriptor open.
func readDuplicate(fd int) ([]byte, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return fdio.ReadFile(own, engine.Most)
}

// loadPart reads a part of a configuration, and closes its descriptor.
func loadPart(kind engine.Kind, fd int) ([]byte, error) {
	if kind.IsWords() {
		return loadWords(fd)
	}
	return fdio.ReadFile(fd, engine.Most)
}

// loadWords reads words of the program's: cipher suites, curves, protocols, a session id. The
// sentence about a mistake repeats them, so they have to come in a memory file (memfd_create(2)),
// which no file of anybody's can be passed off as.
func loadWords(fd int) ([]byte, error) {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, errors.New("tlswrap's worker takes words in memory files alone")
	}
	return fdio.ReadFile(fd, engine.Most)
}

// Start begins a connection on the program's descriptors (TW_TLS_START).
func (l *State) Start(c *wire.Call, req wire.Request, fds *wire.Descriptors) {
	fail := func(err error) {
		c.Send(wire.TLSReply{Answer: wire.AnswerError, Text: "handshake failed: " + err.Error()})
	}
	config, err := l.store.Config(req.Channel)
	if err != nil {
		fail(err)
		return
	}
	if req.Flags&wire.StartCallbacks != 0 {
		l.startPump(c, config, req, fds)
		return
	}
	t := &stream{id: session.NewID(), state: l, config: config, now: req.Now, name: string(req.Body), pid: c.PID}
	want := transports(req.Flags)
	if req.Flags&wire.StartSession != 0 {
		want++
	}
	if len(*fds) != want {
		config.Release()
		fail(errors.New("tlswrap's worker got no transport"))
		return
	}
	// What is neither may make a read wait that is not to.
	if ways := (*fds)[:transports(req.Flags)]; slices.ContainsFunc(ways, func(fd int) bool { return !fdio.IsSocket(fd) && !fdio.IsPipe(fd) }) {
		config.Release()
		fail(errors.New("tlswrap's worker takes sockets and pipes alone"))
		return
	}
	pr, end, err := channel.New(t.channelName((*fds)[0]), true)
	if err != nil {
		config.Release()
		fail(err)
		return
	}
	pr.SetMost(framesSize)
	t.pair = pr
	ok := c.HandOver(wire.TLSReply{Answer: wire.AnswerChannel, Number: t.id}, end)
	// Up to here nothing has happened to the transport. What comes now shows: it does not block
	// any more.
	if !ok || t.adopt(c, req.Flags, fds) != nil {
		t.close()
		config.Release()
		return
	}
	l.Enter(t.id, t)
	l.Opened()
	go t.run()
}

// transports is how many descriptors a connection is on.
func transports(flags uint16) int {
	if flags&wire.StartTwoWays != 0 {
		return 2
	}
	return 1
}

// adopt takes the descriptors over.
func (t *stream) adopt(c *wire.Call, flags uint16, fds *wire.Descriptors) error {
	var err error
	if flags&wire.StartTwoWays != 0 {
		t.up, err = upstream.NewPair(fds.Take(), fds.Take())
	} else {
		t.up, err = upstream.New(fds.Take())
	}
	if err == nil && flags&wire.StartSession != 0 {
		t.file = newSessionFile(c, fds.Take())
	}
	return err
}

// channelName names a channel that takes the place of fd after its peer, or not at all where
// that is not on the Internet.
func (t *stream) channelName(fd int) string {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return ""
	}
	var peer wire.Addr
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		peer = wire.Addr{IP: netip.AddrFrom4(a.Addr), Port: uint16(a.Port)}
	case *unix.SockaddrInet6:
		peer = wire.Addr{IP: netip.AddrFrom16(a.Addr), Port: uint16(a.Port), Scope: a.ZoneId}
	default:
		return ""
	}
	t.peer = netip.AddrPortFrom(peer.Real(), peer.Port)
	return channel.Name(t.id, peer)
}
