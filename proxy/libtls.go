package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/libtls"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/wire"
)

// libtlsState is what the programs of a session that call libtls have here.
type libtlsState struct {
	worker *Worker
	user   *user
	store  *libtls.Store
	recent crowd // of ends

	mu      sync.Mutex
	streams map[uint64]*stream
	ends    map[uint64]*end // nil: the session has ended
}

func newLibtlsState(w *Worker, u *user) *libtlsState {
	return &libtlsState{worker: w, user: u, store: libtls.NewStore(&u.shares), recent: crowd{most: mostEnds},
		streams: make(map[uint64]*stream), ends: make(map[uint64]*end)}
}

// stream finds a connection that goes on, or nil.
func (l *libtlsState) stream(id uint64) *stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.streams[id]
}

// knows reports whether there is such a connection, or was a moment ago.
func (l *libtlsState) knows(id uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.streams[id] != nil || l.ends[id] != nil
}

func (l *libtlsState) remember(t *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams[t.id] = t
}

// hurry is Worker.hurryOrphans for these.
func (l *libtlsState) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.streams {
		if !t.pair.HungUp() {
			continue
		}
		t.up.SetWriteDeadline(time.Now().Add(orphanTime))
		if !t.drains.Load() { // or a write may wait for a renegotiation
			t.up.SetReadDeadline(time.Now().Add(orphanTime))
		}
	}
}

// answerTLS does what a request of libtls's asks. It owns fds. The error of a request is a
// sentence that the program finds in tls_error.
func (c *caller) answerTLS(s *session, req wire.Request, fds wire.Descriptors) {
	defer func() { fds.Close() }()
	store := s.libtls.store
	var (
		r   = wire.TLSReply{Answer: wire.AnswerGood}
		err error
	)
	switch req.Op {
	case wire.OpTLSLoad:
		var data []byte
		kind := libtls.Kind(req.Flags)
		if data, err = loadPart(kind, fds.Take()); err == nil {
			r.Number, err = store.Load(kind, data)
		}
	case wire.OpTLSBuild:
		trust.WarmRoots()
		var data []byte
		if data, err = fdio.ReadFile(fds.Take(), libtls.Most); err == nil {
			r.Number, err = store.Build(data)
		}
	case wire.OpTLSDrop:
		store.Drop(req.Channel)
		return
	case wire.OpTLSEnd:
		e := s.libtls.howItEnded(req.Channel)
		if r.Text = e.reason; r.Text == "" {
			r.Text = libtls.Sentence(unix.ECONNRESET)
		}
		if e.truncated {
			r.Value = 1
		}
	case wire.OpTLSName:
		var chain []byte
		if chain, err = fdio.ReadFile(fds.Take(), libtls.Most); err == nil {
			var ok bool
			if ok, err = libtls.ContainsName(chain, string(req.Body)); ok {
				r.Value = 1
			}
		}
	case wire.OpTLSOCSP, wire.OpTLSDecrypt:
		var data []byte
		if data, err = c.compute(store, req, &fds); err == nil {
			if err = c.sendData(data); err == nil {
				return
			}
		}
		// tls_load_file has no way to say why.
		if key, ok := errors.AsType[libtls.UnsupportedKey](err); ok && !s.Voice.Quiet {
			s.Voice.Say("tls_load_file: the private key is of no use: " + key.Error())
		}
	case wire.OpTLSStart:
		c.start(s, req, &fds)
		return
	case wire.OpTLSRing:
		var fd int
		if fd, err = s.libtls.stream(req.Channel).openRing(); err == nil {
			c.Send(wire.TLSReply{Answer: wire.AnswerFD}, fd)
			unix.Close(fd)
			return
		}
	default:
		c.refuse(fmt.Errorf("control request of unknown kind %d", req.Op))
		return
	}
	if err != nil {
		r = wire.TLSReply{Answer: wire.AnswerError, Text: err.Error()}
	}
	c.Send(r)
}

func (c *caller) compute(store *libtls.Store, req wire.Request, fds *wire.Descriptors) ([]byte, error) {
	first, err := fdio.ReadFile(fds.Take(), libtls.Most)
	if err != nil {
		return nil, err
	}
	if req.Op == wire.OpTLSDecrypt {
		return libtls.Decrypt(first, req.Body)
	}
	config, err := store.Config(req.Channel)
	if err != nil {
		return nil, err
	}
	defer config.Release()
	second, err := fdio.ReadFile(fds.Take(), libtls.Most)
	if err != nil {
		return nil, err
	}
	// The shim knows its size.
	return config.ProcessOCSP(first, second)[4:], nil
}

// sendData answers with a memory file.
func (c *caller) sendData(data []byte) error {
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

// loadPart reads a part of a configuration, and closes its descriptor.
func loadPart(kind libtls.Kind, fd int) ([]byte, error) {
	if kind.IsWords() {
		return loadWords(fd)
	}
	return fdio.ReadFile(fd, libtls.Most)
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
	return fdio.ReadFile(fd, libtls.Most)
}

// start begins a connection on the program's descriptors.
func (c *caller) start(s *session, req wire.Request, fds *wire.Descriptors) {
	fail := func(err error) {
		c.Send(wire.TLSReply{Answer: wire.AnswerError, Text: "handshake failed: " + err.Error()})
	}
	config, err := s.libtls.store.Config(req.Channel)
	if err != nil {
		fail(err)
		return
	}
	if req.Flags&wire.StartCallbacks != 0 {
		c.startPump(s, config, req, fds)
		return
	}
	t := &stream{id: newID(), worker: c.worker, session: s, config: config, name: string(req.Body), pid: c.PID}
	want := 1
	if req.Flags&wire.StartTwoWays != 0 {
		want++
	}
	if req.Flags&wire.StartSession != 0 {
		want++
	}
	if len(*fds) != want {
		config.Release()
		fail(errors.New("tlswrap's worker got no transport"))
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
	if !ok || t.adopt(req.Flags, fds) != nil {
		t.close()
		config.Release()
		return
	}
	s.libtls.remember(t)
	s.channelOpened()
	go t.run()
}

// adopt takes the descriptors over.
func (t *stream) adopt(flags uint16, fds *wire.Descriptors) error {
	var err error
	if flags&wire.StartTwoWays != 0 {
		t.up, err = upstream.NewPair(fds.Take(), fds.Take())
	} else {
		t.up, err = upstream.New(fds.Take())
	}
	if err == nil && flags&wire.StartSession != 0 {
		t.file = os.NewFile(uintptr(fds.Take()), "session")
	}
	return err
}

// lendStream passes a connection's own socket, for one call.
func (c *caller) lendStream(t *stream) {
	fd := -1
	t.up.Control(func(own int) { fd, _ = unix.FcntlInt(uintptr(own), unix.F_DUPFD_CLOEXEC, 0) })
	if fd < 0 {
		c.Send(wire.Reply{Answer: wire.AnswerGone})
		return
	}
	c.Send(wire.Reply{Answer: wire.AnswerFD}, fd)
	unix.Close(fd)
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
