package outgoing

import (
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/guard"
	"tlswrap/proxy/names"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// Data connections are those that a program makes on behalf of one that it has, its
// control connection, to a port that the server has told it there (FTP). They get TLS as
// the control connection did, and resume its TLS session, which servers demand as a proof
// that both are of one client.

// dataPorts is what a control connection has announced.
type dataPorts struct {
	sessions tls.ClientSessionCache // nil where the protocol has no data connections
	mu       sync.Mutex
	ports    map[uint16]struct{}
}

// dataAddrs is where the programs of a session will make data connections to, as they
// know the addresses. Most sessions have none.
type dataAddrs struct {
	mu sync.Mutex
	to map[netip.AddrPort]*Conn // the control connection
}

// control returns the connection that announced an address last, or nil.
func (d *dataAddrs) control(ip netip.Addr, port uint16) *Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.to[netip.AddrPortFrom(ip, port)]
}

// expectData notes, before the program learns of it, that it may connect to a port of the
// server. That stays so for as long as the control connection does, and a while after: a
// program that connects twice, or late, must not get a connection without TLS.
func (c *Conn) expectData(port uint16) {
	all := &c.state.data
	all.mu.Lock()
	if all.to == nil {
		all.to = make(map[netip.AddrPort]*Conn)
	}
	all.to[netip.AddrPortFrom(c.peer.Real(), port)] = c
	all.mu.Unlock()

	c.data.mu.Lock()
	defer c.data.mu.Unlock()
	if _, known := c.data.ports[port]; known {
		return
	}
	if c.data.ports == nil {
		c.data.ports = make(map[uint16]struct{})
	}
	c.data.ports[port] = struct{}{}
	c.state.Map.Hold(port)
}

// forgetData is called when a control connection, or any other, has ended.
func (c *Conn) forgetData() {
	if c.data.sessions != nil {
		time.AfterFunc(names.KeepData, guard.Func(c.front.Log, "data ports", c.dropData))
	}
}

func (c *Conn) dropData() {
	all := &c.state.data
	all.mu.Lock()
	defer all.mu.Unlock()
	c.data.mu.Lock()
	defer c.data.mu.Unlock()
	for port := range c.data.ports {
		at := netip.AddrPortFrom(c.peer.Real(), port)
		if all.to[at] == c { // no other connection has announced it since
			delete(all.to, at)
		}
		c.state.Map.Release(port)
	}
	c.data.ports = nil
}

// aim is whom a program means by an address.
type aim struct {
	names.Target
	control *Conn // that this is a data connection of; nil for others
}

// identify finds out whom a session's program means by addr: what a server has announced is a data
// connection where no other rule is about the port.
func (f *Front) identify(s *State, p *trust.Policy, addr wire.Addr) (aim, *verdict.Failure) {
	t, failure := f.Resolver.Identify(s.Names, p.Rules, addr, s.Say)
	if failure != nil {
		return aim{t, nil}, failure
	}
	if control := s.data.control(addr.Real(), addr.Port); control != nil {
		d := t.Decision
		if d.Rule == nil || d.Action == rules.Pass || d.Rule == control.Target.Decision.Rule {
			return aim{control.dataTarget(addr.Port), control}, nil
		}
	}
	return aim{t, nil}, nil
}

// trust is what the connection trusts and presents: a data connection what its control connection
// does.
func (a aim) trust(p *trust.Policy) *trust.Trust {
	if a.control != nil {
		return a.control.trust
	}
	return p.Trust[a.Decision.Rule]
}

// dataTarget is where a data connection of c goes: to the server that c itself is
// connected to, not to another that the rule's upstream is a name of too.
func (c *Conn) dataTarget(port uint16) names.Target {
	t := c.Target
	rule := *t.Decision.Rule
	if rule.Upstream = (rules.Endpoint{Host: rule.Upstream.Host}); rule.Upstream.Host != "" && rule.Via.Scheme == "" {
		rule.Upstream.Host = c.up.Peer.Addr().String()
	}
	t.Addr.Port, t.Decision.Rule = port, &rule
	return t
}

// errNoTransfer is the end of a data connection on which the server said nothing.
var errNoTransfer = verdict.Failf(unix.ECONNRESET, "the server ended the data connection before it spoke TLS")

// notTransferred reports whether err is that, as the end of a handshake.
func (c *Conn) notTransferred(err error) bool {
	return c.control != nil && len(c.up.First()) == 0 &&
		(errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE))
}

// dataSessions is the cache of a control connection and its data connections, or nil.
func (c *Conn) dataSessions() tls.ClientSessionCache {
	if control := c.control; control != nil {
		return readOnly{control.data.sessions}
	}
	return c.data.sessions
}

// newDataSessions makes the cache of one control connection: in one that was shared, the
// TLS session could be another's.
func newDataSessions() tls.ClientSessionCache { return tls.NewLRUClientSessionCache(1) }

// readOnly is a cache as data connections see it, which resume the control connection's
// TLS session, and not each other's.
type readOnly struct{ tls.ClientSessionCache }

// Put implements tls.ClientSessionCache.
func (readOnly) Put(string, *tls.ClientSessionState) {}
