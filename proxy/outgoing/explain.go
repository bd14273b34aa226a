package outgoing

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"time"
	"unique"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/names"
	"tlswrap/proxy/session"
	"tlswrap/proxy/starttls"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/upstream"
	"tlswrap/proxy/verdict"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// Probe is what came of one connection that a worker would have made.
type Probe struct {
	Upstream netip.AddrPort
	Name     string               // that was to be verified
	Chain    []*x509.Certificate  // as the server sent it, verified or not
	State    *tls.ConnectionState // nil where the handshake did not finish
	Said     []starttls.Line      // with a proxy, and before TLS
	Failure  *verdict.Failure     // nil where all was verified
	Took     time.Duration
}

// Explain makes the connection that a program would get that means t, which a rule of r's covers, and
// ends it after the handshake.
func Explain(ctx context.Context, r *rules.Policy, caFiles []string, t names.Target) (*Probe, error) {
	rule := t.Decision.Rule
	p, err := trust.New(r, caFiles, nil)
	if err != nil {
		return nil, err
	}
	c := &Conn{
		front: &Front{Resolver: names.NewResolver(), Stopped: func(*session.Session, wire.Addr, uint64) {}}, // no program listens
		state: &State{},                                                                                     // of no session
		aim:   aim{Target: t},
		trust: p.Trust[rule],
		from:  unique.Make(upstream.Origin{}),
	}
	family := unix.AF_INET6
	if t.Addr.IP.Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if c.up, err = upstream.New(fd); err != nil {
		return nil, err
	}
	defer c.up.Close()
	ctx, cancel := context.WithTimeout(ctx, rule.Timeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	c.up.SetDeadline(deadline)

	c.began, c.until = time.Now(), deadline
	probe := &Probe{Name: c.verifiedName()}
	if probe.Failure = c.reach(ctx); probe.Failure == nil {
		probe.Failure, probe.Chain = c.handshake()
	}
	if probe.Failure == nil {
		probe.Failure = c.secured()
	}
	probe.Said = c.said
	if c.upgrade != nil {
		probe.Said = append(probe.Said, c.upgrade.dialogue.Said()...)
	}
	probe.Upstream = c.up.Peer
	probe.Took = time.Since(c.began)
	if c.tls != nil {
		if st := c.tls.ConnectionState(); st.HandshakeComplete {
			probe.State, probe.Chain = &st, st.PeerCertificates
			c.tls.Close()
		}
	}
	return probe, nil
}
