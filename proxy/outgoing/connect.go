// Package outgoing has the connections that programs make: what is decided about one when its program
// connects, how it is dialled, upgraded, secured and verified, the verdict that the program is told, and
// what an FTP server announces to it. Once the handshake has ended well, relay carries the bytes. The
// worker hands it the calls of a session's programs; tlswrap explain asks it what such a connection
// would come to.
//
// It is larger than others because a connection's setup is one story: what each step has found out the next
// one needs, and the verdict all of them.
package outgoing

import (
	"log/slog"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/channel"
	"tlswrap/proxy/envproxy"
	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/names"
	"tlswrap/proxy/process"
	"tlswrap/proxy/session"
	"tlswrap/proxy/told"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// Front makes connections for programs of all sessions. Its fields do not change.
type Front struct {
	Log      *slog.Logger
	Resolver *names.Resolver
	Policy   func() *trust.Policy // the one in force
	// Stopped closes what programs listened on at an address, before a connection of a session's goes there in a
	// network namespace, which is 0 where that is not known.
	Stopped func(s *session.Session, to wire.Addr, netns uint64)
}

// State is what is kept for a session.
type State struct {
	*session.Session
	data    dataAddrs
	recent  verdict.Recent[question]
	Proxies *envproxy.Seen
}

// NewState begins with nothing.
func NewState(s *session.Session) *State {
	return &State{Session: s, Proxies: envproxy.NewSeen(s.Map)}
}

// Connect decides about the connection that a program asks for with its socket, the first of fds, and begins
// it with the second, a new one.
func (f *Front) Connect(call *wire.Call, s *State, req wire.Request, fds *wire.Descriptors) {
	fd := fds.Take()
	defer fdio.Close(fd)
	if fd < 0 || len(req.Addrs) != 1 {
		f.Log.Warn("refused", "pid", call.PID, "error", "connect request without a socket or an address")
		return
	}
	trust.WarmRoots()
	p := f.Policy()
	to, failure := names.Destination(fd, req.Addrs[0])
	a := aim{Target: names.Target{Addr: to}}
	if failure == nil {
		a, failure = f.identify(s, p, to)
	}
	a.Target.Way = call.Way()
	if failure == nil {
		failure = refused(a.Decision, req.Name, s.Supervised())
	}
	switch {
	case failure != nil:
		f.refuse(call, s, a.Target, failure)
	case a.Decision.Action == rules.Pass || req.Name != "" || !unconnected(fd).Possibly():
		// A socket that is connected or listening cannot begin anything: the native call
		// says so. What connects inside libc the kernel hands over.
		netns, _ := upstream.Namespace(fd)
		f.Stopped(s.Session, a.Addr, netns)
		f.pass(call, s, p, a.Target)
	default:
		c := &Conn{front: f, state: s, id: session.NewID(), aim: a, trust: a.trust(p), inKernel: p.Rules.KernelTLS, peer: to, pid: call.PID,
			told: req.Flags&wire.FlagConsume != 0}
		own, failure := c.enter(call, fds.Take(), unix.Errno(req.Channel))
		if failure != nil {
			f.refuse(call, s, a.Target, failure)
			return
		}
		guard.Run(f.Log, "connect", c.abandon, func() { c.begin(call, fd, own) })
	}
}

// refused is why a connection is not made, by its rules or because of the function of libc's that
// would have used it, inside, where nobody sees that; nil where it is.
func refused(d rules.Decision, inside string, supervised bool) *verdict.Failure {
	switch {
	case d.Action == rules.Deny && d.Rule == nil:
		return verdict.Failf(unix.EACCES, `refused: no rule allows it (default = "deny"; a rule with action = "tls" or "pass" would)`)
	case d.Action == rules.Deny:
		return verdict.Failf(unix.EACCES, `refused: a rule denies it (action = "deny"; a rule before it would count first)`)
	case d.Action != rules.Pass && inside != "" && !supervised:
		return verdict.Failf(unix.EACCES, "refused: %q connects inside libc, where it cannot be made TLS unless the kernel holds the program (tlswrap doctor says what would allow that)", inside)
	}
	return nil
}

// plainErrno reports whether the rule wants a program to be told by plain errnos.
func plainErrno(d rules.Decision) bool { return d.Rule != nil && d.Rule.PlainErrno }

func (f *Front) refuse(call *wire.Call, s *State, t names.Target, failure *verdict.Failure) {
	s.Failed("failed", t, call.PID, failure)
	call.Send(wire.Reply{Answer: wire.AnswerError, Errno: failure.Told(plainErrno(t.Decision))})
}

// pass has the program make the native call.
func (f *Front) pass(call *wire.Call, s *State, p *trust.Policy, t names.Target) {
	if t.Decision.Action == rules.Pass {
		s.Passed(t, call.PID, whyPassed(t))
		if p.HasURLHosts() {
			for _, line := range s.Proxies.NotePassed(call.PID, t, p.URLHosts) {
				s.Say(line)
			}
		}
	}
	s.Pass(call, t.Addr)
}

// sockets are what a connection begins with.
type sockets struct {
	end   int // the program's, of the channel, the caller's to close
	fresh int // the program's new one, which is to be connected; the upstream has it
}

// enter makes the connection's channel and its upstream, and lets the connection be found. sent is the program's new socket,
// or -1, where the program could not make one because of errno. The caller begins the connection.
func (c *Conn) enter(call *wire.Call, sent int, errno unix.Errno) (s sockets, failure *verdict.Failure) {
	var err error
	if s.fresh, err = call.Fresh(sent); err == wire.ErrNoFresh {
		return s, verdict.Failf(errno, "%v: %v", err, errno)
	} else if err != nil {
		return s, verdict.Failf(unix.ENETDOWN, "no socket to connect: %v%s", err, process.DescriptorHint(err))
	}
	if c.up, err = upstream.New(s.fresh); err != nil {
		return s, verdict.Failf(unix.ENETDOWN, "the socket cannot be connected: %v", err)
	}
	if c.pair, s.end, err = channel.New(channel.Name(c.id, c.peer), false); err != nil {
		c.up.Close()
		return s, verdict.Failf(unix.ENETDOWN, "no channel: %v%s", err, process.DescriptorHint(err))
	}
	c.state.Enter(c.id, c)
	c.state.Opened()
	return s, nil
}

// begin hands the program's end over, and starts the connection while the program puts that in the place of
// fd. Its upstream is made like fd.
func (c *Conn) begin(call *wire.Call, fd int, own sockets) {
	if call.Hand(wire.Reply{Answer: wire.AnswerChannel}, own.end) != nil {
		c.abandon()
		return
	}
	like, failure := upstream.LikenessOf(fd)
	if failure == nil {
		c.from = like.Origin()
		failure = like.Give(own.fresh, fd)
	}
	c.settle()
	go guard.Run(c.front.Log, "setup", c.drop, func() { c.run(failure) })
}

// settle lets those go on who wait for the upstream: it is like the program's socket, or never will be. It may be called again.
func (c *Conn) settle() { c.taken.Happen() }

// abandon drops a connection that was not begun.
func (c *Conn) abandon() {
	c.settle()
	c.end(dropSocket, "the program did not take its channel")
}

// unconnected tells whether a TCP socket is neither connected nor listening.
func unconnected(fd int) told.Answer {
	const tcpClose = 7 // include/net/tcp_states.h
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return told.Answer{}
	}
	return told.If(info.State == tcpClose)
}
