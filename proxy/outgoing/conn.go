package outgoing

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/record"
	"tlswrap/proxy/relay"
	"tlswrap/proxy/session"
	"tlswrap/proxy/starttls"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
)

// Conn is one connection of a program: the pair that the program talks to, the
// upstream, and the verdict on its setup.
type Conn struct {
	id    uint64
	front *Front
	state *State
	aim
	trust    *trust.Trust
	inKernel bool      // the kernel is to seal what goes upstream, where it can
	peer     wire.Addr // the target as the program knows it
	from     unique.Handle[upstream.Origin]
	pid      int32
	pair     *channel.Pair
	up       *upstream.Conn
	tls      *record.Conn
	auth     *trust.ClientAuth
	offer    trust.Offer     // of the last ClientHello
	upgrade  *upgrade        // nil where the rule has no starttls
	filter   starttls.Filter // that the data goes through; nil for none
	said     []starttls.Line // with a proxy, for Explain
	data     dataPorts       // that the program will connect to on this one's behalf
	watch    *channel.Departure
	began    time.Time      // setup did
	until    time.Time      // setup may go on
	opened   bool           // the program has been told that it is connected
	taken    session.Moment // when up is like the program's socket, or never will be
	done     session.Moment // when setup has ended
	ended    session.Moment // when its goroutines use nothing of it any more

	mu      sync.Mutex
	outcome outcome
	failure *verdict.Failure
	told    bool // connect or SO_ERROR reports how setup has ended, or has reported it

	ending sync.Once
}

// outcome is how setup has ended.
type outcome int

const (
	pending outcome = iota
	good
	failed
)

// run sets the connection up and has its bytes carried, unless it has failed already.
func (c *Conn) run(failure *verdict.Failure) {
	if failure == nil {
		failure = guard.Step(c.front.Log, c.Target.String(), c.setup)
	}
	switch {
	case failure == nil:
		guard.Run(c.front.Log, "connection", c.drop, c.carry)
	case c.opened:
		c.refuse(failure)
	default:
		c.fail(failure)
	}
}

// carry begins the rest of the connection's life.
func (c *Conn) carry() {
	broke := new(atomic.Bool)
	c.carrier(broke).Carry(func(why string) { c.end(socketsEnd(broke.Load()), why) })
}

// carrier is what carries the bytes, and sets broke where the connection breaks: the program still has its
// end then.
func (c *Conn) carrier(broke *atomic.Bool) *relay.Conn {
	broken := func(f *verdict.Failure) {
		c.report("broken", f)
		if !c.pair.HungUp() {
			broke.Store(true)
		}
	}
	r := &relay.Conn{
		Ends:            relay.Ends{Channel: c.pair, Upstream: c.up, Log: c.front.Log, Target: c.Target.String(), Broken: broken},
		TLS:             c.tls,
		Filter:          c.filter,
		Peer:            "server",
		AllowTruncation: c.Decision.Rule.AllowTruncation,
		Truncated:       func() { c.state.Truncated(c.Target, c.pid) },
		Attempt:         c.attempt,
	}
	// A program that was let in before TLS has begun already, or says anything: a file that
	// FTP transfers may begin as TLS does.
	if c.upgrade == nil || !c.upgrade.early {
		r.ClientTLS = c.clientTLS
	}
	return r
}

// attempt is the handshake that has ended well.
func (c *Conn) attempt() verdict.Attempt {
	return verdict.Attempt{Name: c.Host(), Asked: c.auth.Asked, HasCert: c.auth.Cert != nil}
}

// internalError is why a connection ends after a panic, of which the log has more.
const internalError = "internal error"

// drop ends a connection after a panic, in whatever state that left it.
func (c *Conn) drop() { c.end(dropSocket, internalError) }

// socketsEnd is what becomes of the upstream's socket when a connection ends.
type socketsEnd bool

const (
	dropSocket socketsEnd = false
	keepSocket socketsEnd = true // for a program that asks, or connects again
)

// end is the end of every connection, however it came to it and however far it had got. It may be
// called again. A person that is to know why was told that before.
func (c *Conn) end(socket socketsEnd, why string) {
	c.ending.Do(func() {
		c.trail().Ended(why)
		defer c.state.Closed()
		defer c.ended.Happen()
		c.decide()
		c.forgetData()
		c.forgetSecrets()
		c.pair.Close()
		if socket == keepSocket {
			c.up.Retire()
			c.state.KeepBroken(guard.Func(c.front.Log, "ended connection", c.forget))
			return
		}
		c.forget()
	})
}

// forget closes what is left, and is not found any more.
func (c *Conn) forget() {
	c.up.Close()
	c.state.Forget(c.id)
}

// forgetSecrets is called when nothing is carried any more.
func (c *Conn) forgetSecrets() {
	if c.tls != nil {
		c.tls.Forget()
		c.tls = nil // a failed connection is remembered for a while
	}
}

// setup connects, shakes hands and verifies, within the rule's timeout. It stops when
// the program closes its end.
func (c *Conn) setup() *verdict.Failure {
	rule := c.Target.Decision.Rule
	ctx, cancel := context.WithTimeout(context.Background(), rule.Timeout)
	defer cancel()
	c.began = time.Now()
	c.until, _ = ctx.Deadline()
	c.up.SetDeadline(c.until)

	c.watch = channel.WatchSetup(c.pair, c.up, cancel, c.front.Log)
	failure := c.state.recent.Recall(ctx, c.question())
	if failure == nil {
		failure = c.connect(ctx)
	}
	left := c.watch.Stop()
	c.watch = nil
	if left {
		c.reportLeft(failure)
		return errLeft
	}
	if failure != nil {
		return failure
	}
	c.up.SetDeadline(time.Time{})
	if c.opened {
		c.pair.SetReadDeadline(time.Time{})
	}
	return c.accept()
}

// waited is how long there was no answer, for a sentence: the rule's timeout, or less where the program
// has given up before.
func (c *Conn) waited() time.Duration {
	if !time.Now().Before(c.until) {
		return c.Decision.Rule.Timeout
	}
	const exact = 10 * time.Millisecond
	return time.Since(c.began).Round(exact)
}

// connect does everything that comes before the program is told. What has failed with less than all that could be
// offered is done once more with all.
func (c *Conn) connect(ctx context.Context) *verdict.Failure {
	f := c.authenticate(ctx)
	more := f != nil && c.offer.Reduced && ctx.Err() == nil && time.Now().Before(c.until)
	if more && c.up.Disconnect() == nil {
		f = c.authenticate(ctx)
	}
	if f != nil {
		return f
	}
	return c.secured()
}

// authenticate gets as far as a server that is verified.
func (c *Conn) authenticate(ctx context.Context) *verdict.Failure {
	if f := c.reach(ctx); f != nil {
		return f
	}
	return c.trail().Step("handshake", func() *verdict.Failure { f, _ := c.handshake(); return f })
}

// errLeft is the end of a setup that the program gave up.
var errLeft = verdict.Failf(unix.ECONNRESET, "the program gave up")

// accept lets the program have its connection. It is told of before, since the program
// may need nothing more of it, and be gone, and then nobody is told.
func (c *Conn) accept() *verdict.Failure {
	c.reportGood()
	if f := c.open(); f != nil {
		return f
	}
	if words := c.greeting(); len(words) > 0 && c.pair.Send(words) != nil {
		return errLeft
	}
	return nil
}

// open tells the program that it is connected.
func (c *Conn) open() *verdict.Failure {
	if c.opened {
		return nil
	}
	c.mu.Lock()
	c.outcome = good
	c.mu.Unlock()
	if err := c.pair.Accept(); err != nil {
		return errLeft
	}
	c.opened = true
	c.decide()
	return nil
}

// fail ends a setup that the program was not told of yet: the sentence first, then its errno.
func (c *Conn) fail(f *verdict.Failure) {
	if f != errLeft {
		c.reportFailed(f)
	}
	c.mu.Lock()
	c.outcome, c.failure, c.told = failed, f, false
	c.mu.Unlock()
	c.up.Shutdown()
	if c.pair.HungUp() {
		c.up.Close() // nobody will connect it again
	}
	c.pair.Close()
	c.decide()
	c.end(keepSocket, f.Reason)
}

// decide lets those go on who wait for the end of setup. It may be called again.
func (c *Conn) decide() { c.done.Happen() }

// Settled implements session.Entry.
func (c *Conn) Settled() <-chan struct{} { return c.done.Passed() }

// Verdict implements session.Entry.
func (c *Conn) Verdict(flags uint16) wire.Reply {
	if flags&wire.FlagUntold != 0 {
		c.mu.Lock()
		c.told = false
		c.mu.Unlock()
	}
	return c.verdict(flags&wire.FlagConsume != 0, flags&wire.FlagUntold != 0)
}

// verdict answers a program that asks how setup ended. consume is set for connect, which reports the end
// once; untold, without it, where a connect has not.
func (c *Conn) verdict(consume, untold bool) wire.Reply {
	c.mu.Lock()
	defer c.mu.Unlock()
	told := c.told
	switch c.outcome {
	case good:
		if !consume {
			return wire.Reply{Answer: wire.AnswerGood}
		}
		c.told = true
		if told {
			return wire.Reply{Answer: wire.AnswerIsConn}
		}
		return wire.Reply{Answer: wire.AnswerGood}
	case failed:
		c.told = consume || !untold // SO_ERROR tells it as well
		if consume && told {
			return wire.Reply{Answer: wire.AnswerGone}
		}
		return wire.Reply{Answer: wire.AnswerError, Errno: c.failure.Told(plainErrno(c.Decision))}
	}
	return wire.Reply{Answer: wire.AnswerPending}
}

// Lend implements session.Entry.
func (c *Conn) Lend() int {
	<-c.taken.Passed()
	return c.up.Duplicate()
}

// Waiting implements session.Entry.
func (c *Conn) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.outcome != good {
		return 0 // the junk is nobody's
	}
	return c.pair.Waiting()
}

// Restart implements session.Entry: nothing of the old connection may come upon the new one.
func (c *Conn) Restart() int {
	fd := c.Lend()
	if fd < 0 {
		return -1
	}
	c.pair.Close()
	c.up.SetDeadline(fdio.Past)
	<-c.ended.Passed()
	c.forget()
	if fdio.Disconnect(fd) != nil {
		unix.Close(fd)
		return -1
	}
	return fd
}

// Hurry implements session.Entry. A setup has a deadline.
func (c *Conn) Hurry(until time.Time) {
	select {
	case <-c.done.Passed():
		if c.pair.HungUp() {
			c.up.SetWriteDeadline(until)
		}
	default:
	}
}
