package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/rules"
)

// channel is one connection of a program: the pair that the program talks to, the
// upstream, and the verdict on its setup.
type channel struct {
	id      uint64
	worker  *Worker
	session *session
	target  target
	trust   *trust
	pid     int32
	pair    *pair
	up      *upstream
	tls     *tls.Conn
	auth    *clientAuth
	taken   chan struct{} // closed when up is set, or never will be
	done    chan struct{} // closed when setup has ended
	ended   chan struct{} // closed when nothing uses up any more

	mu      sync.Mutex
	state   state
	failure *Failure
	told    bool // connect or SO_ERROR has reported how setup ended
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

// run sets the connection up and has its bytes carried.
func (ch *channel) run() {
	if err := ch.guard(ch.setup); err != nil {
		ch.fail(err)
		close(ch.ended)
		ch.session.channelClosed()
		return
	}
	// On a stack of its own: the handshake's is large, and the connection may idle.
	go func() {
		defer ch.session.channelClosed()
		defer ch.worker.forget(ch.id)
		defer ch.up.Close()
		defer ch.pair.close()
		defer close(ch.ended)
		if f := ch.guard(ch.carry); f != nil {
			ch.report("broken", f)
		}
	}()
}

// guard turns a panic into the end of this one connection.
func (ch *channel) guard(step func() *Failure) (failure *Failure) {
	defer func() {
		if r := recover(); r != nil {
			ch.worker.log.Error("panic", "target", ch.target.String(), "panic", r)
			failure = failf(unix.EPROTO, "internal error: %v", r)
		}
	}()
	return step()
}

// past is a deadline that ends whatever waits.
var past = time.Unix(1, 0)

// setup connects, shakes hands and verifies, within the rule's timeout. It stops when
// the program closes its end.
func (ch *channel) setup() *Failure {
	rule := ch.target.decision.Rule
	ctx, cancel := context.WithTimeout(context.Background(), rule.Timeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	ch.up.SetDeadline(deadline)

	// A program that shuts even one side of a connecting socket ends it, as with TCP.
	// Most setups are over before it is worth while to wait for that.
	watched := make(chan struct{})
	watch := time.AfterFunc(watchAfter, func() {
		defer close(watched)
		ch.pair.w.whenReadable(leaving)
		if ch.pair.leaving() {
			cancel()
			ch.up.SetDeadline(past)
		}
	})
	failure := ch.dial(ctx)
	if failure == nil {
		failure, _ = ch.handshake()
	}
	if !watch.Stop() {
		// Nothing else may read W from here on.
		ch.pair.w.SetReadDeadline(past)
		<-watched
		ch.pair.w.SetReadDeadline(time.Time{})
	}
	if ch.pair.leaving() {
		return errLeft
	}
	if failure != nil {
		return failure
	}
	ch.up.SetDeadline(time.Time{})
	return ch.accept()
}

// watchAfter is how long a setup goes on before it is watched whether the program gives
// it up.
const watchAfter = 20 * time.Millisecond

// errLeft is the end of a setup that the program gave up.
var errLeft = failf(unix.ECONNRESET, "the program gave up")

func (ch *channel) accept() *Failure {
	ch.mu.Lock()
	ch.state = good
	ch.mu.Unlock()
	if err := ch.pair.accept(); err != nil {
		ch.worker.log.Debug("left", "target", ch.target.String(), "error", err)
		return errLeft
	}
	close(ch.done)
	ch.reportGood()
	return nil
}

// dial connects the upstream, to the address that the program meant or to the rule's.
func (ch *channel) dial(ctx context.Context) *Failure {
	rule := ch.target.decision.Rule
	addrs, failure := ch.upstreamAddrs(ctx, rule)
	for i, a := range addrs {
		if i > 0 {
			ch.up.disconnect()
		}
		err := ch.up.connect(a)
		if err == nil {
			return nil
		}
		failure = dialFailure(err, netip.AddrPortFrom(a.real(), a.port), rule.Timeout)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	return failure
}

func (ch *channel) upstreamAddrs(ctx context.Context, rule *rules.Rule) ([]sockAddr, *Failure) {
	to := ch.target.addr
	if rule.Upstream.Port != 0 {
		to.port = rule.Upstream.Port
	}
	host := rule.Upstream.Host
	if host == "" {
		return []sockAddr{to}, nil
	}
	ips := make([]netip.Addr, 0, 4)
	if ip, err := netip.ParseAddr(host); err == nil {
		ips = append(ips, ip)
	} else if ips, err = ch.worker.resolver.lookup(ctx, "ip", host); err != nil {
		return nil, dialFailure(err, netip.AddrPort{}, rule.Timeout)
	}
	var addrs []sockAddr
	for _, ip := range ips {
		ip = ip.Unmap()
		switch {
		case to.ip.Is4() && ip.Is6():
			continue // the program's socket cannot go there
		case to.ip.Is6() && ip.Is4():
			ip = netip.AddrFrom16(ip.As16())
		}
		addrs = append(addrs, sockAddr{ip: ip, port: to.port})
	}
	if len(addrs) == 0 {
		return nil, failf(unix.EHOSTUNREACH, "%s has no address of the family that the program's socket is of", host)
	}
	return addrs, nil
}

// verifiedName is what the server's certificate has to be for.
func (ch *channel) verifiedName() string {
	if name := ch.target.decision.Rule.ServerName; name != "" {
		return name
	}
	return ch.target.host()
}

// handshake shakes hands and verifies. Where verification failed it also returns the
// chain that it failed on.
func (ch *channel) handshake() (*Failure, []*x509.Certificate) {
	rule := ch.target.decision.Rule
	name := ch.verifiedName()
	config, auth, err := ch.trust.tlsConfig(rule, name)
	if err != nil {
		return failf(unix.EKEYREJECTED, "%v", err), nil
	}
	ch.tls, ch.auth = tls.Client(ch.up, config), auth
	err = ch.tls.Handshake()
	if err == nil {
		return nil, nil
	}
	a := attempt{
		name: name, head: ch.up.head, timeout: rule.Timeout, min: rule.MinVersion,
		asked: auth.asked, hasCert: auth.cert != nil, now: time.Now(),
	}
	return a.explain(err), sentChain(err)
}

// fail ends a setup: the sentence first, then the program's errno.
func (ch *channel) fail(f *Failure) {
	if f != errLeft {
		ch.report("failed", f)
	}
	ch.mu.Lock()
	ch.state, ch.failure, ch.told = failed, f, false
	ch.mu.Unlock()
	ch.up.shutdown()
	if ch.pair.hungUp() {
		ch.up.Close() // nobody will connect it again
	}
	ch.pair.close()
	close(ch.done)
	time.AfterFunc(keepFailed, func() {
		ch.up.Close()
		ch.worker.forget(ch.id)
	})
}

// setTold notes whether the program's connect reports, or has reported, a good end.
func (ch *channel) setTold(told bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.told = told
}

// verdict answers a program that asks how setup ended. consume is set for connect,
// which reports the end once.
func (ch *channel) verdict(consume bool) reply {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	told := ch.told
	switch ch.state {
	case good:
		if !consume {
			return reply{answer: answerGood}
		}
		ch.told = true
		if told {
			return reply{answer: answerIsConn}
		}
		return reply{answer: answerGood}
	case failed:
		ch.told = true
		if consume && told {
			return reply{answer: answerGone}
		}
		return reply{answer: answerError, errno: ch.failure.Errno}
	}
	return reply{answer: answerPending}
}

// drainTime is how long the server may take to end its side once the program has
// closed. Closing a socket with bytes unread resets it (RFC 2525, section 2.17), and
// session tickets may be under way: without this the reset could overtake what the
// program wrote last.
const drainTime = 5 * time.Second

// carry moves the bytes: one goroutine a direction. It returns when the program has
// closed its end, or the connection broke.
func (ch *channel) carry() *Failure {
	down := make(chan struct{})
	go func() {
		defer close(down)
		// Where the program has closed, nobody is left to be told how the server does.
		if f := ch.guard(ch.download); f != nil && !ch.pair.hungUp() {
			// First the sentence, then the reset, after which the program may end.
			ch.report("broken", f)
			ch.pair.close()
		}
	}()
	var sending *upstreamError
	if err := ch.upload(); errors.As(err, &sending) {
		// What the server said before it stopped listening still arrives.
		<-down
		if ch.pair.closed() {
			return nil
		}
		return brokenUpstream(sending.err)
	}
	// The program has closed, and all that it wrote has been sent.
	ch.tls.CloseWrite()
	ch.up.closeWrite()
	ch.up.SetReadDeadline(time.Now().Add(drainTime))
	<-down
	return nil
}

// upload carries what the program writes. nil: the program closed.
func (ch *channel) upload() error {
	for {
		buf, n, err := ch.pair.read()
		if err == io.EOF {
			if ch.pair.hungUp() && ch.up.abortive() {
				ch.up.Close()
				return nil
			}
			ch.tls.CloseWrite()
			ch.pair.ended()
			ch.pair.gone()
			return nil
		}
		if err != nil {
			return err
		}
		err = ch.send((*buf)[:n])
		putBuffer(buf)
		if err != nil {
			return &upstreamError{err}
		}
	}
}

// send writes to the upstream. More than one record is gathered into one system call.
func (ch *channel) send(b []byte) error {
	write := func() error { _, err := ch.tls.Write(b); return err }
	if len(b) <= maxPlaintext {
		return write()
	}
	return ch.up.gathered(write)
}

// upstreamError tells a failure to send from one to read what the program writes.
type upstreamError struct{ err error }

func (e *upstreamError) Error() string { return e.err.Error() }

// download carries what the server sends.
func (ch *channel) download() *Failure {
	if err := deliver(ch.up, ch.tls, ch.pair); err != nil {
		return ch.downloadEnd(err)
	}
	return nil
}

// deliver carries what the peer sends to the program, as many whole records at a time as are
// here. nil: the program does not read any more.
func deliver(up *upstream, conn io.Reader, pr *pair) error {
	for {
		if err := up.await(); err != nil {
			return err
		}
		buf := getBuffer()
		n, err := conn.Read(*buf)
		for err == nil && len(*buf)-n > maxPlaintext && up.whole() {
			var m int
			m, err = conn.Read((*buf)[n:])
			n += m
		}
		var gone error
		if n > 0 {
			gone = pr.write((*buf)[:n])
		}
		putBuffer(buf)
		if gone != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// maxPlaintext is what one record carries (RFC 8446, section 5.1).
const maxPlaintext = 16 << 10

// downloadEnd sorts the ends of what the server sends. nil: an end that the program
// was told of as one.
func (ch *channel) downloadEnd(err error) *Failure {
	if alert, ok := remoteAlert(err); ok {
		a := attempt{name: ch.target.host(), asked: ch.auth.asked, hasCert: ch.auth.cert != nil}
		return failf(unix.ECONNRESET, "%s", a.explainAlert(alert, err).Reason)
	}
	switch {
	case ch.up.ended:
		// crypto/tls takes a FIN between two records for a close_notify.
		if !ch.target.decision.Rule.AllowTruncation {
			return failf(unix.ECONNRESET, "the server ended the connection without close_notify: what it sent may be cut short (allow_truncation = true accepts that)")
		}
		ch.pair.finish()
		return nil
	case err == io.EOF: // close_notify
		ch.pair.finish()
		return nil
	case errors.Is(err, os.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	return brokenUpstream(err)
}

func brokenUpstream(err error) *Failure {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return failf(errno, "the connection broke: %v", errno)
	}
	return failf(unix.ECONNRESET, "the connection broke: %v", err)
}
