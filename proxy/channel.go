package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/buffers"
	"tlswrap/proxy/channel"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/quote"
	"tlswrap/proxy/record"
	"tlswrap/proxy/starttls"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// connection is one connection of a program: the pair that the program talks to, the
// upstream, and the verdict on its setup.
type connection struct {
	id      uint64
	worker  *Worker
	session *session
	aim
	trust   *trust.Trust
	peer    wire.Addr // the target as the program knows it
	pid     int32
	pair    *channel.Pair
	up      *upstream.Conn
	tls     *record.Conn
	service *trust.Service // that the program offers; nil where it is the client
	auth    *trust.ClientAuth
	upgrade *upgrade        // nil where the rule has no starttls
	filter  starttls.Filter // that the data goes through; nil for none
	said    []starttls.Line // with a proxy, for Explain
	data    dataPorts       // that the program will connect to on this one's behalf
	watch   *channel.Departure
	until   time.Time     // setup may go on
	opened  bool          // the program has been told that it is connected
	taken   chan struct{} // closed when up is set, or never will be
	done    chan struct{} // closed when setup has ended
	ended   chan struct{} // closed when nothing uses up any more

	mu      sync.Mutex
	state   state
	failure *verdict.Failure
	told    bool // connect or SO_ERROR has reported how setup ended

	left sync.Once // the session does not count it any more
}

type state int

const (
	pending state = iota
	good
	failed
)

// keepFailed is how long a failed channel's verdict and socket are kept for a program
// that asks, or connects again.
const keepFailed = 30 * time.Second

// run sets the connection up and has its bytes carried, unless it has failed already.
func (ch *connection) run(err *verdict.Failure) {
	defer guard.Recover(ch.worker.log, "setup", ch.drop)
	if err == nil {
		err = ch.guard(ch.setup)
	}
	if err != nil {
		if ch.opened {
			ch.refuse(err)
		} else {
			ch.fail(err)
		}
		ch.forgetSecrets()
		close(ch.ended)
		ch.leave()
		return
	}
	ch.relay()
}

// leave notes that the session has the connection no more. It may be called again.
func (ch *connection) leave() { ch.left.Do(ch.session.channelClosed) }

// drop ends a connection after a panic, in whatever state that left it.
func (ch *connection) drop() {
	if ch.pair != nil {
		ch.pair.Drop()
	}
	ch.up.Close()
	ch.worker.forget(ch.id)
	ch.leave()
}

// forgetSecrets is called when nothing is carried any more.
func (ch *connection) forgetSecrets() {
	if ch.tls != nil {
		ch.tls.Forget()
		ch.tls = nil // a failed connection is remembered for a while
	}
}

// relay begins to carry bytes, on a stack of its own: the handshake's is large, and the
// connection may idle.
func (ch *connection) relay() {
	go func() {
		defer guard.Recover(ch.worker.log, "connection", ch.drop)
		defer ch.leave()
		defer ch.worker.forget(ch.id)
		defer ch.up.Close()
		defer ch.pair.Close()
		defer close(ch.ended)
		defer ch.forgetSecrets()
		defer ch.forgetData()
		if f := ch.carry(); f != nil {
			ch.report("broken", f)
		}
	}()
}

// guard turns a panic into the end of this one connection.
func (ch *connection) guard(step func() *verdict.Failure) (failure *verdict.Failure) {
	defer func() {
		if r := recover(); r != nil {
			ch.worker.log.Error("panic", "target", ch.Target.String(), "panic", r, "stack", string(debug.Stack()))
			failure = verdict.Failf(unix.EPROTO, "internal error: %v", r)
		}
	}()
	return step()
}

// bothWays runs down beside up, and returns up's failure when both have ended, after a panic
// too: what comes then gives back the buffers of both. down's failure is told at once, unless
// the program has closed: then nobody is left to be told how the server does.
func (ch *connection) bothWays(down func() *verdict.Failure, up func(down <-chan struct{}) *verdict.Failure) *verdict.Failure {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer guard.Recover(ch.worker.log, "download", ch.drop)
		if f := ch.guard(down); f != nil && !ch.pair.HungUp() {
			ch.report("broken", f)
			ch.pair.Close()
		}
	}()
	return ch.guard(func() *verdict.Failure {
		ended := false
		defer func() {
			if !ended {
				ch.pair.Close()
				ch.up.Close()
			}
			<-done
		}()
		f := up(done)
		ended = true
		return f
	})
}

// setup connects, shakes hands and verifies, within the rule's timeout. It stops when
// the program closes its end.
func (ch *connection) setup() *verdict.Failure {
	rule := ch.Target.Decision.Rule
	ctx, cancel := context.WithTimeout(context.Background(), rule.Timeout)
	defer cancel()
	ch.until, _ = ctx.Deadline()
	ch.up.SetDeadline(ch.until)

	ch.watch = channel.Watch(ch.pair, ch.up, cancel, ch.worker.log)
	failure := ch.connect(ctx)
	left := ch.watch.Stop()
	ch.watch = nil
	if left {
		return errLeft
	}
	if failure != nil {
		return failure
	}
	ch.up.SetDeadline(time.Time{})
	if ch.opened {
		ch.pair.SetReadDeadline(time.Time{})
	}
	return ch.accept()
}

// connect does everything that comes before the program is told.
func (ch *connection) connect(ctx context.Context) *verdict.Failure {
	if f := ch.reach(ctx); f != nil {
		return f
	}
	if f, _ := ch.handshake(); f != nil {
		return f
	}
	return ch.secured()
}

// errLeft is the end of a setup that the program gave up.
var errLeft = verdict.Failf(unix.ECONNRESET, "the program gave up")

// accept lets the program have its connection. It is told of before, since the program
// may need nothing more of it, and be gone, and then nobody is told.
func (ch *connection) accept() *verdict.Failure {
	ch.reportGood()
	if f := ch.open(); f != nil {
		return f
	}
	if words := ch.greeting(); len(words) > 0 && ch.pair.Send(words) != nil {
		return errLeft
	}
	return nil
}

// open tells the program that it is connected.
func (ch *connection) open() *verdict.Failure {
	if ch.opened {
		return nil
	}
	ch.mu.Lock()
	ch.state = good
	ch.mu.Unlock()
	if err := ch.pair.Accept(); err != nil {
		ch.worker.log.Debug("left", "target", ch.Target.String(), "error", err)
		return errLeft
	}
	ch.opened = true
	close(ch.done)
	return nil
}

// reach gets as far as the TLS handshake: to the port where the server speaks TLS at once,
// if the rule knows one and something listens there, or else by asking for it.
func (ch *connection) reach(ctx context.Context) *verdict.Failure {
	rule := ch.Target.Decision.Rule
	if rule.TLSPort != 0 {
		if f := ch.dialTLSPort(ctx); f == nil || ctx.Err() != nil {
			return f
		}
	}
	f := ch.dial(ctx, rule.Upstream)
	if f == nil {
		return ch.askTLS()
	}
	if rule.TLSPort != 0 {
		f = verdict.Failf(f.Errno, "%s; nothing answers on port %d either", f.Reason, rule.TLSPort)
	}
	return f
}

// tlsPortTime is how long it may take to find out that nothing listens on a TLS port:
// packets to a port that is not meant to be used may be dropped.
const tlsPortTime = 3 * time.Second

func (ch *connection) dialTLSPort(ctx context.Context) *verdict.Failure {
	rule := ch.Target.Decision.Rule
	deadline, _ := ctx.Deadline()
	ch.up.SetDeadline(time.Now().Add(min(tlsPortTime, rule.Timeout/2)))
	defer ch.up.SetDeadline(deadline)
	f := ch.dial(ctx, rules.Endpoint{Host: rule.Upstream.Host, Port: rule.TLSPort})
	if f != nil {
		ch.up.Disconnect()
	}
	return f
}

// dial connects the upstream, to the address that the program meant, or to where the
// rule says.
func (ch *connection) dial(ctx context.Context, to rules.Endpoint) *verdict.Failure {
	if ch.Target.Decision.Rule.Via.Scheme != "" {
		return ch.dialVia(ctx, to)
	}
	return ch.dialTo(ctx, to)
}

// dialTo connects to an endpoint, of which host and port may be missing: those are the
// target's.
func (ch *connection) dialTo(ctx context.Context, to rules.Endpoint) *verdict.Failure {
	rule := ch.Target.Decision.Rule
	addrs, failure := ch.upstreamAddrs(ctx, to)
	for i, a := range addrs {
		if i > 0 {
			ch.up.Disconnect()
		}
		err := ch.up.Connect(a)
		if err == nil {
			return nil
		}
		failure = verdict.Dial(err, netip.AddrPortFrom(a.Real(), a.Port), rule.Timeout)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	return failure
}

func (ch *connection) upstreamAddrs(ctx context.Context, end rules.Endpoint) ([]wire.Addr, *verdict.Failure) {
	to := ch.Target.Addr
	if end.Port != 0 {
		to.Port = end.Port
	}
	host := end.Host
	if host == "" {
		return []wire.Addr{to}, nil
	}
	ips := make([]netip.Addr, 0, 4)
	if ip, err := netip.ParseAddr(host); err == nil {
		ips = append(ips, ip)
	} else if ips, err = ch.worker.resolver.Lookup(ctx, "ip", host); err != nil {
		return nil, verdict.Dial(err, netip.AddrPort{}, ch.Target.Decision.Rule.Timeout)
	}
	var addrs []wire.Addr
	for _, ip := range ips {
		ip = ip.Unmap()
		switch {
		case to.IP.Is4() && ip.Is6():
			continue // the program's socket cannot go there
		case to.IP.Is6() && ip.Is4():
			ip = netip.AddrFrom16(ip.As16())
		}
		addrs = append(addrs, wire.Addr{IP: ip, Port: to.Port})
	}
	if len(addrs) == 0 {
		return nil, verdict.Failf(unix.EHOSTUNREACH, "%s has no address of the family that the program's socket is of", host)
	}
	return addrs, nil
}

// verifiedName is what the server's certificate has to be for.
func (ch *connection) verifiedName() string {
	if name := ch.Target.Decision.Rule.ServerName; name != "" {
		return name
	}
	return ch.Target.Host()
}

// handshake shakes hands and verifies. Where verification failed it also returns the
// chain that it failed on.
func (ch *connection) handshake() (*verdict.Failure, []*x509.Certificate) {
	rule := ch.Target.Decision.Rule
	name := ch.verifiedName()
	config, auth, err := ch.trust.Config(rule, name)
	if err != nil {
		return verdict.Failf(unix.EKEYREJECTED, "%v", err), nil
	}
	if ch.upgrade != nil && len(config.NextProtos) == 0 {
		config.NextProtos = ch.upgrade.protocol.ALPN
	}
	if sessions := ch.dataSessions(); sessions != nil {
		config.ClientSessionCache = sessions
	}
	ch.tls, ch.auth = record.Client(ch.up, config), auth
	ch.sealInKernel()
	err = ch.tls.Handshake()
	if err == nil {
		return nil, nil
	}
	if ch.notTransferred(err) {
		return errNoTransfer, nil
	}
	a := verdict.Attempt{
		Name: name, Head: ch.up.First(), Timeout: rule.Timeout, Min: rule.MinVersion,
		Asked: auth.Asked, HasCert: auth.Cert != nil, Now: time.Now(),
	}
	return a.Explain(err), verdict.SentChain(err)
}

// sealInKernel has the kernel seal what goes upstream, where the rules want that. Nobody
// else has the socket: the program's descriptor has become the channel.
func (ch *connection) sealInKernel() {
	if p := ch.worker.policy.Load(); p != nil && p.Rules.KernelTLS {
		ch.tls.SealInKernel()
	}
}

// fail ends a setup: the sentence first, then the program's errno.
func (ch *connection) fail(f *verdict.Failure) {
	if f != errLeft {
		ch.report("failed", f)
	}
	ch.mu.Lock()
	ch.state, ch.failure, ch.told = failed, f, false
	ch.mu.Unlock()
	ch.up.Shutdown()
	if ch.pair.HungUp() {
		ch.up.Close() // nobody will connect it again
	}
	ch.pair.Close()
	close(ch.done)
	drop := guard.Func(ch.worker.log, "failed connection", func() {
		ch.up.Close()
		ch.worker.forget(ch.id)
	})
	kept := ch.session.user.failed.enter(drop)
	time.AfterFunc(keepFailed, func() {
		if ch.session.user.failed.leave(kept) {
			drop()
		}
	})
}

// setTold notes whether the program's connect reports, or has reported, a good end.
func (ch *connection) setTold(told bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.told = told
}

// verdict answers a program that asks how setup ended. consume is set for connect,
// which reports the end once.
func (ch *connection) verdict(consume bool) wire.Reply {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	told := ch.told
	switch ch.state {
	case good:
		if !consume {
			return wire.Reply{Answer: wire.AnswerGood}
		}
		ch.told = true
		if told {
			return wire.Reply{Answer: wire.AnswerIsConn}
		}
		return wire.Reply{Answer: wire.AnswerGood}
	case failed:
		ch.told = true
		if consume && told {
			return wire.Reply{Answer: wire.AnswerGone}
		}
		return wire.Reply{Answer: wire.AnswerError, Errno: ch.failure.Errno}
	}
	return wire.Reply{Answer: wire.AnswerPending}
}

// drainTime is how long the server may take to end its side once the program has
// closed. Closing a socket with bytes unread resets it (RFC 2525, section 2.17), and
// session tickets may be under way: without this the reset could overtake what the
// program wrote last.
const drainTime = 5 * time.Second

// carry moves the bytes: one goroutine a direction. It returns when the program has
// closed its end, or the connection broke.
func (ch *connection) carry() *verdict.Failure { return ch.bothWays(ch.download, ch.carryUp) }

func (ch *connection) carryUp(down <-chan struct{}) *verdict.Failure {
	var (
		sending *upstreamError
		hello   *clientTLSError
		fault   *starttls.Error
	)
	switch err := ch.upload(); {
	case errors.As(err, &sending):
		// What the server said before it stopped listening still arrives, at a program that
		// reads it.
		select {
		case <-down:
		case <-time.After(drainTime):
		}
		if ch.pair.Closed() {
			ch.up.Close()
			return nil
		}
		ch.breakOff(verdict.Broken(sending.err))
	case errors.Is(err, unix.ECONNRESET):
		// The program closed, and had not read all that was there (unix_release_sock).
		// TCP sends a reset then, and no FIN before (RFC 1122, section 4.2.2.13).
		ch.up.Abort()
	case errors.As(err, &hello):
		ch.up.SetDeadline(fdio.Past)
		<-down
		return ch.clientTLS(hello.first)
	case errors.As(err, &fault):
		ch.breakOff(verdict.Dialogue(err))
	case err == channel.ErrStranger:
		ch.breakOff(verdict.Failf(unix.EPROTO, "%v", err))
	default:
		// The program has closed, and all that it wrote has been sent.
		ch.tls.CloseWrite()
		ch.up.CloseWrite()
		ch.up.SetReadDeadline(time.Now().Add(drainTime))
	}
	return nil
}

// breakOff ends a connection from this side, also where the program does not read. First
// comes the sentence, then the reset, after which the program may end.
func (ch *connection) breakOff(f *verdict.Failure) {
	ch.report("broken", f)
	ch.pair.Close()
	ch.up.Close()
}

// upload carries what the program writes. nil: the program closed.
func (ch *connection) upload() error {
	filter := ch.filter
	// A program that was let in before TLS has begun already, or says anything: a file that
	// FTP transfers may begin as TLS does. So may what a server says.
	for first := ch.service == nil && (ch.upgrade == nil || !ch.upgrade.early); ; first = false {
		buf, n, err := ch.pair.Next()
		if err == io.EOF {
			if ch.pair.HungUp() && ch.up.Abortive() {
				ch.up.Close()
				return nil
			}
			ch.tls.CloseWrite()
			ch.pair.Ended()
			ch.pair.Gone()
			return nil
		}
		if err != nil {
			return err
		}
		b := (*buf)[:n]
		switch {
		case first && speaksTLS(b):
			err = &clientTLSError{bytes.Clone(b)}
		case filter != nil:
			if err = ch.filtered(filter, b); filter.Done() {
				filter = nil
			}
		default:
			err = ch.send(b)
		}
		buffers.Put(buf)
		if err != nil {
			return err
		}
	}
}

// send writes to the upstream. The error is an *upstreamError.
func (ch *connection) send(b []byte) error {
	if _, err := ch.tls.Write(b); err != nil {
		return &upstreamError{err}
	}
	return nil
}

// upstreamError tells a failure to send from one to read what the program writes.
type upstreamError struct{ err error }

func (e *upstreamError) Error() string { return e.err.Error() }

// download carries what the server sends.
func (ch *connection) download() *verdict.Failure {
	filter := ch.filter
	var fault error
	err := deliver(ch.tls, ch.pair, func(pieces [][]byte) ([][]byte, error) {
		if filter == nil {
			return pieces, nil
		}
		b := pieces[0]
		if len(pieces) > 1 {
			b = slices.Concat(pieces...)
		}
		if b, fault = filter.FromServer(b); filter.Done() {
			filter = nil
		}
		return [][]byte{b}, fault
	})
	switch {
	case fault != nil:
		return verdict.Dialogue(fault)
	case err != nil:
		return ch.downloadEnd(err)
	}
	return nil // the program does not read any more
}

// maxPlaintext is what one record carries (RFC 8446, section 5.1).
const maxPlaintext = 16 << 10

// downloadEnd sorts the ends of what the server sends. nil: an end that the program
// was told of as one.
func (ch *connection) downloadEnd(err error) *verdict.Failure {
	if alert, ok := verdict.RemoteAlert(err); ok {
		a := verdict.Attempt{Name: ch.Target.Host(), Asked: ch.auth.Asked, HasCert: ch.auth.Cert != nil}
		return verdict.Failf(unix.ECONNRESET, "%s", a.ExplainAlert(alert, err).Reason)
	}
	var (
		header   tls.RecordHeaderError
		delivery *deliveryError
	)
	switch {
	case errors.As(err, &delivery):
		return verdict.Failf(unix.ECONNRESET, "%v", delivery)
	case errors.As(err, &header):
		said := append(header.RecordHeader[:], ch.up.Ahead()...)
		return verdict.Failf(unix.ECONNRESET, "the server went on without TLS: it said %s", quote.Line(said))
	case ch.up.Ended:
		// crypto/tls takes a FIN between two records for a close_notify.
		if over, ok := ch.filter.(starttls.Farewell); !ch.Target.Decision.Rule.AllowTruncation && (!ok || !over.Over()) {
			return verdict.Failf(unix.ECONNRESET, "the %s ended the connection without close_notify: what it sent may be cut short (allow_truncation = true accepts that)", ch.other())
		}
		ch.pair.Finish()
		return nil
	case err == io.EOF: // close_notify
		ch.pair.Finish()
		return nil
	case errors.Is(err, os.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	return verdict.Broken(err)
}

// other is the peer's part, for people.
func (ch *connection) other() string {
	if ch.service != nil {
		return "client"
	}
	return "server"
}
