package serving

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/names"
	"tlswrap/proxy/record"
	"tlswrap/proxy/relay"
	"tlswrap/proxy/session"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// Client is one client of a program that serves: it has, or wants, a connection to it.
type Client struct {
	id    uint64
	front *Front
	arrival
	inKernel bool         // the kernel is to seal what goes to the client, where it can
	target   names.Target // the client's address, and the rule of the service
	up       *upstream.Conn
	tls      *record.Conn
	pair     *channel.Pair  // nil before the handshake has ended well
	words    *[]byte        // that the program is to read first; nil once they are sent
	broke    atomic.Bool    // while the program had its end
	ended    session.Moment // when its goroutines use nothing of it any more
	ending   sync.Once
}

// arrival is a client that has come.
type arrival struct {
	session *session.Session
	service *trust.Service
	peer    wire.Addr
	pid     int32 // of the program that listens
}

// newClient takes over a client's socket, before its handshake, whose time begins. Nobody
// finds it yet: it is entered once it has its pair.
func (f *Front) newClient(a arrival, fd int) (*Client, error) {
	up, err := upstream.New(fd)
	if err != nil {
		return nil, err
	}
	up.SetDeadline(time.Now().Add(a.service.Listen.Timeout))
	a.session.Opened()
	return &Client{id: session.NewID(), front: f, arrival: a, inKernel: f.policy().Rules.KernelTLS, up: up,
		target: names.Target{Addr: a.peer, Decision: rules.Decision{Action: rules.TLS, Rule: a.service.Listen.Rule}}}, nil
}

// serve is the goroutine of a client that the kernel has accepted.
func (l *listener) serve(fd int, peer wire.Addr) {
	c, err := l.front.newClient(arrival{l.session, l.current(), peer, l.pid}, fd)
	if err != nil {
		<-l.slots
		return
	}
	guard.Run(l.front.log, "client", c.drop, func() {
		if failure := l.greet(c); failure != nil {
			c.reject(failure)
			return
		}
		c.begin()
	})
}

// greet shakes hands with a client, and puts it into a program's queue. One whose handshake has failed was
// told so by an alert. Any other that no program takes is reset, like one that waits in the kernel's backlog,
// however far it has come.
func (l *listener) greet(c *Client) *verdict.Failure {
	defer func() { <-l.slots }()
	failure := l.shakeHands(c)
	switch {
	case l.ended():
		failure = notListening()
	case failure != nil:
		return failure
	default:
		failure = l.deliver(c)
	}
	if failure != nil {
		c.up.Abort()
	}
	return failure
}

// shakeHands shakes hands with a client, which has to go where others need its place, or nobody listens
// any more.
func (l *listener) shakeHands(c *Client) *verdict.Failure {
	late := func() { c.up.SetDeadline(fdio.Past) }
	here, there := l.handshakes.Enter(late), l.session.User.Handshakes.Enter(late)
	failure := guard.Step(l.front.log, c.target.String(), c.shakeHands)
	few, fewInAll := l.handshakes.Leave(here), l.session.User.Handshakes.Leave(there)
	switch {
	case !few:
		failure = verdict.Failf(unix.EPROTO, "more than %d clients did not finish their handshakes, and this one had begun first", maxHandshakes)
	case !fewInAll:
		failure = verdict.Failf(unix.EPROTO, "more than %d clients of this user's programs did not finish their handshakes, and this one had begun first", session.MostHandshakes)
	}
	return failure
}

// deliver puts a client into the queue of a program, which may ask about it at once: it has its
// pair, and can be found, before.
func (l *listener) deliver(c *Client) *verdict.Failure {
	first := c.first()
	c.words = &first
	name := channel.Name(c.id, c.target.Addr)
	if len(first) > 0 {
		name += wire.NameWords // the program waits for them
	}
	fd, err := boundSocket(name)
	if err == nil {
		c.pair, err = channel.Accepted(fd, l.session.Token[:])
	}
	if err != nil {
		return verdict.Failf(unix.ENETDOWN, "no channel: %v", err)
	}
	c.session.Enter(c.id, c)
	return l.enqueue(c.pair)
}

// shakeHands lets a client prove what the service demands, within its time.
func (c *Client) shakeHands() *verdict.Failure {
	return c.trail().Step("handshake", c.handshake)
}

func (c *Client) handshake() *verdict.Failure {
	c.tls = record.Server(c.up, c.service.Config)
	if c.inKernel {
		c.tls.SealInKernel()
	}
	err := c.answerSSLRequest()
	if err == nil {
		err = c.tls.Handshake()
	}
	if err != nil {
		return verdict.Client(err, c.up.First(), c.service.Listen.Timeout)
	}
	c.up.Secured()
	c.up.SetDeadline(time.Time{})
	c.reportClient()
	return nil
}

// begin has the bytes of a client carried that has a program. It does not wait for that to read what comes first.
func (c *Client) begin() {
	go guard.Run(c.front.log, "client's bytes", c.drop, c.carry)
}

func (c *Client) carry() {
	if len(*c.words) > 0 {
		c.pair.Send(*c.words) // who carries its bytes sees that the program has gone
	}
	c.words = nil
	r := &relay.Conn{
		Ends:            relay.Ends{Channel: c.pair, Upstream: c.up, Log: c.front.log, Target: c.target.String(), Broken: c.broken},
		TLS:             c.tls,
		Peer:            "client",
		AllowTruncation: c.target.Decision.Rule.AllowTruncation,
		Truncated:       func() { c.session.Truncated(c.target, c.pid) },
		Attempt:         func() verdict.Attempt { return verdict.Attempt{Name: c.target.Host()} },
	}
	r.Carry(c.end)
}

// internalError is why a client's connection ends after a panic, of which the log has more.
const internalError = "internal error"

func (c *Client) broken(f *verdict.Failure) {
	c.session.Failed("broken", c.target, c.pid, f)
	if !c.pair.HungUp() {
		c.broke.Store(true)
	}
}

// reject ends a client that the program is not told of.
func (c *Client) reject(f *verdict.Failure) {
	c.reportRejected(f)
	c.dropFor(f.Reason)
}

// drop ends a client after a panic.
func (c *Client) drop() { c.dropFor(internalError) }

// dropFor ends a client in whatever state it is, one that no program can accept, too.
func (c *Client) dropFor(why string) {
	if c.pair != nil {
		c.pair.Drop()
	}
	c.end(why)
}

// end is the end of every client, however it came to it and however far it had got. It may be called
// again. A person that is to know why was told that before.
func (c *Client) end(why string) {
	c.ending.Do(func() {
		c.trail().Ended(why)
		defer c.session.Closed()
		defer c.ended.Happen()
		if c.tls != nil {
			c.tls.Forget()
		}
		if c.pair != nil {
			c.pair.Close()
		}
		if c.broke.Load() {
			c.up.Retire()
			c.session.KeepBroken(guard.Func(c.front.log, "ended client", c.forget))
			return
		}
		c.forget()
	})
}

// forget closes what is left, and is not found any more.
func (c *Client) forget() {
	c.up.Close()
	c.session.Forget(c.id)
}

// Verdict implements session.Entry: the program has it because it is connected.
func (c *Client) Verdict(flags uint16) wire.Reply {
	if flags&wire.FlagConsume != 0 {
		return wire.Reply{Answer: wire.AnswerIsConn}
	}
	return wire.Reply{Answer: wire.AnswerGood}
}

// Settled implements session.Entry.
func (c *Client) Settled() <-chan struct{} { return session.AlreadySettled }

// Lend implements session.Entry.
func (c *Client) Lend() int { return c.up.Duplicate() }

// Waiting implements session.Entry.
func (c *Client) Waiting() int { return c.pair.Waiting() }

// Restart implements session.Entry: nothing of the old connection may come upon a new one.
func (c *Client) Restart() int {
	fd := c.Lend()
	if fd < 0 {
		return -1
	}
	c.pair.Close()
	c.up.SetDeadline(fdio.Past)
	<-c.ended.Passed()
	if fdio.Disconnect(fd) != nil {
		unix.Close(fd)
		return -1
	}
	return fd
}

// Hurry implements session.Entry.
func (c *Client) Hurry(until time.Time) {
	if c.pair.HungUp() {
		c.up.SetWriteDeadline(until)
	}
}

// Accepted serves a client that somebody else has accepted, an inetd or systemd, for a
// program that is about to start with it. It takes fd over.
func (f *Front) Accepted(call *wire.Call, s *session.Session, fd int) {
	local, svc, err := f.serviceOn(fd)
	switch {
	case err != nil:
		unix.Close(fd)
		cannotServe(call, s, err)
		return
	case svc == nil:
		unix.Close(fd)
		call.Send(wire.Reply{Answer: wire.AnswerPass})
		return
	case svc.Broken != nil:
		unix.Close(fd)
		refuseBroken(call, s, fmt.Sprintf("a client of %s", local), svc)
		return
	}
	var peer wire.Addr
	if sa, err := unix.Getpeername(fd); err == nil {
		peer = wire.AddrOf(sa)
	}
	c, err := f.newClient(arrival{s, svc, peer, call.PID}, fd)
	if err != nil {
		return
	}
	guard.Run(f.log, "accepted client", c.drop, func() { c.serve(call) })
}

// serve shakes hands with a client that was accepted already, and answers who has brought it.
func (c *Client) serve(call *wire.Call) {
	failure := guard.Step(c.front.log, c.target.String(), c.shakeHands)
	end := -1
	if failure == nil {
		end, failure = c.makePair()
	}
	if failure != nil {
		c.session.Failed("rejected", c.target, call.PID, failure)
		c.reject(failure)
		call.Send(wire.Reply{Answer: wire.AnswerError, Errno: failure.Errno})
		return
	}
	c.session.Enter(c.id, c)
	first := c.first()
	c.words = &first
	if !call.HandOver(wire.Reply{Answer: wire.AnswerChannel}, end) {
		c.reject(verdict.Failf(unix.ECONNRESET, "the program gave up"))
		return
	}
	c.begin()
}

// makePair makes a client's pair that is ready for use. end is the program's side, the caller's to
// close.
func (c *Client) makePair() (end int, failure *verdict.Failure) {
	var err error
	if c.pair, end, err = channel.New(channel.Name(c.id, c.target.Addr), false); err == nil {
		if err = c.pair.Accept(); err != nil {
			unix.Close(end)
		}
	}
	if err != nil {
		return -1, verdict.Failf(unix.ENETDOWN, "no channel: %v", err)
	}
	return end, nil
}
