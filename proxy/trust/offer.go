package trust

import (
	"crypto/tls"
	"net/netip"
	"slices"
	"time"
)

// A ClientHello that offers all has key shares, which cost more than the rest of it, for groups that the server may not
// take and for a version that it may not speak. So a server's choice from a full offer is remembered for a short time,
// and what it has passed over is left out meanwhile. Only a handshake that was verified and has ended well teaches that:
// nobody but the server can have made the choice.
//
// Leaving something out must neither fail a connection that a full offer would have made, nor lower its version. So only
// a connection that can be made once more leaves anything out. It is made once more,
// with all, when its handshake fails, and when the server says that it knows a later version than it has chosen (RFC 8446,
// section 4.1.3): crypto/tls does not look for that in the latest version that is offered. Of groups nothing says so: a server
// that has learnt a better one, or another machine behind the same address, is asked for it when the choice counts no longer.

const (
	// choiceTime is for how long a server's choice counts, and choiceUses for how many connections.
	choiceTime = time.Minute
	choiceUses = 256
	// waryTime is for how long nothing is left out with a server that did not do without.
	waryTime = time.Hour
)

// groups are those of crypto/tls, in the order that it offers them in. There is a key share for the first that is
// offered, and one for its classical half.
var groups = []tls.CurveID{
	tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024,
	tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521,
}

// choice is what a server has chosen. The zero choice is of a server that is not known.
type choice struct {
	version uint16
	group   tls.CurveID // of TLS 1.3
}

// without leaves out of config what the server has passed over, and reports whether that is anything. Up to
// TLS 1.2 the client's certificate goes in the clear: where there is one, TLS 1.3 is always offered.
func (c choice) without(config *tls.Config, certificate bool) bool {
	first := 0 // to be offered, of the groups
	switch {
	case c.version == 0:
		return false
	case c.version == tls.VersionTLS13:
		first = slices.Index(groups, c.group)
	case certificate:
		first = slices.Index(groups, tls.X25519)
	default:
		config.MaxVersion = tls.VersionTLS12
		return true
	}
	if first <= 0 {
		return false
	}
	config.CurvePreferences = groups[first:]
	return true
}

// Offer is how much of what its rule allows one ClientHello has. The zero Offer stands for none before it.
type Offer struct {
	server  *Server
	Reduced bool // something was left out
	again   bool // it has all, after one that was reduced and has failed
	learns  bool // it has all, and the server's choice is authenticated once the handshake has ended well
}

// Once says that a connection cannot be made once more.
type Once bool

// Offer completes a connection's configuration for the server at addr: with its TLS sessions, and without what it is
// known to pass over. before is of the handshake that has failed when the connection is made once more.
func (t *Trust) Offer(config *tls.Config, addr netip.AddrPort, before Offer, once Once) Offer {
	s := t.Servers.At(config.ServerName, addr)
	config.ClientSessionCache = s
	o := Offer{server: s, again: before.Reduced}
	if !o.again && !bool(once) {
		o.Reduced = s.choice(time.Now()).without(config, t.client != nil)
	}
	o.learns = !o.Reduced && !config.InsecureSkipVerify
	return o
}

// choice is what is known of the server for one more connection.
func (s *Server) choice(now time.Time) choice {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 || now.After(s.until) {
		return choice{}
	}
	s.left--
	return s.takes
}

// Failed is called when the handshake has failed, or its end is not good enough.
func (o Offer) Failed() {
	if !o.Reduced {
		return
	}
	o.server.mu.Lock()
	defer o.server.mu.Unlock()
	o.server.left = 0
}

// Finished is called when the handshake has ended well.
func (o Offer) Finished(state tls.ConnectionState) {
	if !o.learns {
		return
	}
	s, now := o.server, time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case o.again:
		s.left, s.wary = 0, now.Add(waryTime)
	case now.After(s.wary):
		s.takes, s.until, s.left = choice{state.Version, state.CurveID}, now.Add(choiceTime), choiceUses
	}
}
