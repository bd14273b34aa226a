package libtls

import (
	"cmp"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/buffers"
	"tlswrap/proxy/channel"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/libtls/engine"
	"tlswrap/proxy/relay"
	"tlswrap/proxy/report"
	"tlswrap/proxy/session"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/wire"
)

// stream is a libtls connection on descriptors: its pair stands in the place of the program's
// socket. What goes to the program is the facts and then plaintext; what comes from it are
// frames (libtls/wire.h).
type stream struct {
	id     uint64
	state  *State
	config *engine.Config
	now    uint32 // settings as they were at the first handshake
	name   string
	peer   netip.AddrPort
	pid    int32
	file   *sessionFile // the client's, for its TLS session, or nil
	pair   *channel.Pair
	up     *upstream.Conn
	tls    *engine.Conn
	ends   relay.Ends // the pair and the upstream, once bytes are carried

	frame     int // bytes of the current frame that are still to come
	header    [4]byte
	headerLen int
	said      bool // the program has called tls_close

	ring   atomic.Pointer[ring]
	drains atomic.Bool // nothing more is sent, and reading has its own deadline

	mu   sync.Mutex
	over bool // no ring is made any more
	last ending
}

// framesSize is as much as one read takes of frames: so that many whole ones fit.
const framesSize = 4 * (wire.FrameMost + 4)

func (t *stream) String() string {
	side := "client"
	if t.config.IsServer() {
		side = "server"
	}
	where := t.name
	if where == "" && t.peer.IsValid() {
		where = t.peer.String()
	}
	return fmt.Sprintf("libtls %s %s", side, where)
}

func (t *stream) close() {
	if t.pair != nil {
		t.pair.Close()
	}
	if t.up != nil {
		t.up.Close()
	}
	if t.file != nil {
		t.file.close()
	}
}

// run is the connection's life.
func (t *stream) run() {
	defer t.state.Closed()
	defer t.config.Release()
	defer func() { t.state.ended(t.id, t.howItEnded()) }()
	defer t.closeRing()
	defer func() {
		if t.tls != nil {
			t.tls.Forget()
		}
	}()
	why := "internal error"
	defer func() { t.logEnd(why) }()
	defer t.close()
	guard.Run(t.state.Log, t.String(), t.close, func() { why = t.live() })
}

// live shakes hands and carries bytes, and returns why that is over.
func (t *stream) live() (why string) {
	facts, ok := t.open()
	if t.pair.Accept() != nil || t.pair.Send(facts) != nil {
		return "the program gave up"
	}
	if !ok {
		t.pair.Finish()
		t.leave()
		return "the handshake has failed"
	}
	t.carry()
	return cmp.Or(t.howItEnded().reason, "the program has closed it")
}

// logEnd tells the log that the connection is over, and why.
func (t *stream) logEnd(why string) {
	if report.Debugs(t.state.Log) {
		t.state.Log.Debug("ended", "target", t.String(), "pid", t.pid, "reason", why)
	}
}

// open shakes hands. It has no time limit but the program's patience: it ends when the program
// closes its end.
func (t *stream) open() (facts []byte, ok bool) {
	if t.config.IsServer() {
		t.tls = t.config.Server(t.up, t.now)
	} else {
		t.tls = t.config.Client(t.up, engine.Peer{Name: t.name, Now: t.now, Session: t.file.forEngine(), Renegotiation: tls.RenegotiateFreelyAsClient})
	}
	watch := channel.WatchSetup(t.pair, t.up, func() {}, t.state.Log)
	facts, ok = t.tls.Open()
	watch.Stop()
	t.report(ok)
	return facts, ok
}

// report tells of a handshake in the log, and who asked for a line each. Why one has failed is
// told by the program, which finds the sentence in tls_error.
func (t *stream) report(ok bool) {
	if !ok {
		t.state.Log.Error("failed", "target", t.String(), "pid", t.pid)
		return
	}
	st := t.tls.ConnectionState()
	t.state.Log.Info("connected", "target", t.String(), "pid", t.pid, "version", tls.VersionName(st.Version),
		"cipher", tls.CipherSuiteName(st.CipherSuite), "resumed", st.DidResume, "alpn", st.NegotiatedProtocol)
	if v := t.state.Voice; v.Verbose {
		v.Say(fmt.Sprintf("%s: %s, %s, verified as the program wants it", t, tls.VersionName(st.Version), tls.CipherSuiteName(st.CipherSuite)))
	}
}

// leave ends a connection after a failed handshake. Bytes of the peer's that are not read would
// make the close a reset, which could overtake our alert (RFC 2525, section 2.17).
func (t *stream) leave() {
	t.up.CloseWrite()
	t.up.SetReadDeadline(time.Now().Add(relay.DrainTime))
	var b [4 << 10]byte
	for {
		if _, err := t.up.Read(b[:]); err != nil {
			return
		}
	}
}

// connected is the verdict about a connection on descriptors.
func connected(flags uint16) wire.Reply {
	if flags&wire.FlagConsume != 0 {
		return wire.Reply{Answer: wire.AnswerIsConn}
	}
	return wire.Reply{Answer: wire.AnswerGood}
}

// Verdict implements session.Entry: TCP was connected before, and still is.
func (t *stream) Verdict(flags uint16) wire.Reply { return connected(flags) }

// Lend implements session.Entry.
func (t *stream) Lend() int { return t.up.Duplicate() }

// Waiting implements session.Entry.
func (t *stream) Waiting() int { return t.pair.Waiting() }

// Restart implements session.Entry: the program connects its own socket.
func (t *stream) Restart() int { return -1 }

// Settled implements session.Entry.
func (t *stream) Settled() <-chan struct{} { return session.AlreadySettled }

// Hurry implements session.Entry.
func (t *stream) Hurry(until time.Time) {
	if !t.pair.HungUp() {
		return
	}
	t.up.SetWriteDeadline(until)
	if !t.drains.Load() { // or a write may wait for a renegotiation
		t.up.SetReadDeadline(until)
	}
}

func (t *stream) howItEnded() ending {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

func (t *stream) setEnd(truncated bool, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last.reason == "" {
		t.last = ending{truncated, reason}
	}
}

// carry moves the bytes: one goroutine a direction. It returns when the program has closed its
// end, or the connection broke.
func (t *stream) carry() {
	t.ends = relay.Ends{Channel: t.pair, Upstream: t.up, Log: t.state.Log}
	down := make(chan struct{})
	go func() {
		defer close(down)
		guard.Run(t.state.Log, "download of "+t.String(), t.close, t.download)
	}()
	defer func() { // after a panic, too
		t.close()
		<-down
	}()
	err := t.upload()
	t.drains.Store(true)
	if t.ends.Abandoned(err) {
		t.ends.Abandon()
		return
	}
	if err != nil {
		// What the peer said before it stopped listening still arrives.
		t.up.SetReadDeadline(time.Now().Add(relay.DrainTime))
		<-down
		t.setEnd(false, engine.Sentence(err))
		return
	}
	// The program has closed. Without tls_close there is no close_notify: the peer is not to
	// take what a crash has cut off for the whole.
	if t.up.Abortive() {
		t.up.Close()
	}
	t.up.CloseWrite()
	t.up.SetReadDeadline(time.Now().Add(relay.DrainTime))
	<-down
}

func (t *stream) download() {
	var delivery *relay.DeliveryError
	err := relay.Deliver(t.tls.Conn.Next, t.pair, nil)
	switch {
	case err == nil:
		t.ends.Undelivered()
	case errors.As(err, &delivery):
		t.setEnd(true, delivery.Error())
		t.pair.Close()
	case t.up.Ended:
		t.setEnd(true, "unexpected EOF")
		t.pair.Finish()
	case err == io.EOF: // close_notify
		t.pair.Finish()
	case errors.Is(err, os.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
	default:
		t.setEnd(false, engine.Sentence(err))
		t.pair.Close()
	}
}

// upload sends what the program writes. nil: the program has closed.
func (t *stream) upload() error {
	for {
		buf, n, err := t.pair.Next()
		if err == io.EOF {
			if !t.pair.HungUp() && !t.said {
				t.up.CloseWrite() // the program's own shutdown(2)
			}
			t.pair.Ended()
			return t.pair.Gone()
		}
		if errors.Is(err, unix.ECONNRESET) {
			return err // the program has closed, and left bytes unread
		}
		if err != nil {
			return nil // closed by download
		}
		said := t.said
		err = t.send((*buf)[:n])
		buffers.Put(buf)
		if err == nil && t.said && !said {
			// Not before all is out: crypto/tls lets nothing be written after it.
			err = t.tls.CloseWrite()
		}
		if err != nil {
			return err
		}
	}
}

// send takes the frames apart: each is a record at most.
func (t *stream) send(b []byte) error {
	var some [16][]byte
	out := frames{t: t, records: some[:0]}
	for len(b) > 0 && !t.said {
		if t.frame == 0 {
			n := copy(t.header[t.headerLen:], b)
			b, t.headerLen = b[n:], t.headerLen+n
			if t.headerLen < len(t.header) {
				break
			}
			t.headerLen = 0
			header := binary.NativeEndian.Uint32(t.header[:])
			if header&wire.FrameInRing != 0 {
				if err := out.addFromRing(header); err != nil {
					return err
				}
				continue
			}
			if header > wire.FrameMost {
				return errors.Join(out.flush(), unix.EPROTO)
			}
			t.frame = int(header)
			t.said = t.frame == 0 // nothing comes after it
			continue
		}
		n := min(len(b), t.frame)
		if err := out.add(b[:n]); err != nil {
			return err
		}
		b, t.frame = b[n:], t.frame-n
	}
	return out.flush()
}

// frames gathers what is sent with one call.
type frames struct {
	t        *stream
	records  [][]byte
	size     int
	fromRing int
}

// add adds part of a frame, or all of it.
func (f *frames) add(b []byte) error {
	if len(f.records) == cap(f.records) || f.size+len(b) > buffers.Plaintext {
		if err := f.flush(); err != nil {
			return err
		}
	}
	f.records = append(f.records, b)
	f.size += len(b)
	return nil
}

func (f *frames) addFromRing(header uint32) error {
	b := f.t.ring.Load().frame(header)
	if len(b) == 0 {
		return errors.Join(f.flush(), unix.EPROTO)
	}
	err := f.add(b)
	f.fromRing++
	return err
}

func (f *frames) flush() error {
	if len(f.records) == 0 {
		return nil
	}
	err := f.t.ends.Sending(func() error { return f.t.tls.WriteRecords(f.records) })
	if f.fromRing > 0 {
		f.t.ring.Load().release(f.fromRing)
	}
	f.records, f.size, f.fromRing = f.records[:0], 0, 0
	return err
}
