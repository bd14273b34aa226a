package outgoing

import (
	"crypto/x509"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/record"
	"tlswrap/proxy/trust"
	"tlswrap/proxy/verdict"
)

// verifiedName is what the server's certificate has to be for.
func (c *Conn) verifiedName() string {
	if name := c.Target.Decision.Rule.ServerName; name != "" {
		return name
	}
	return c.Target.Host()
}

// handshake shakes hands and verifies. Where verification failed it also returns the
// chain that it failed on.
func (c *Conn) handshake() (*verdict.Failure, []*x509.Certificate) {
	rule := c.Target.Decision.Rule
	name := c.verifiedName()
	config, auth, err := c.trust.Config(rule, name)
	if err != nil {
		return verdict.Failf(unix.EKEYREJECTED, "%v", err), nil
	}
	if c.upgrade != nil && len(config.NextProtos) == 0 {
		config.NextProtos = c.upgrade.protocol.ALPN
	}
	c.offer = c.trust.Offer(config, c.server(), c.offer, c.once())
	if sessions := c.dataSessions(); sessions != nil {
		config.ClientSessionCache = sessions
	}
	c.tls, c.auth = record.Client(c.up, config), auth
	c.sealInKernel()
	err = c.tls.Handshake()
	if err == nil {
		c.up.Secured()
		return c.finished(), nil
	}
	c.offer.Failed()
	if c.notTransferred(err) {
		return errNoTransfer, nil
	}
	a := verdict.Attempt{
		Name: name, Nameless: c.Target.Name == "" && rule.ServerName == "", Upgraded: c.upgrade != nil, Head: c.up.First(), Timeout: c.waited(), Min: rule.MinVersion, Legacy: rule.AllowLegacy,
		Asked: auth.Asked, HasCert: auth.Cert != nil, Now: time.Now(),
	}
	return a.Explain(err), verdict.SentChain(err)
}

// errLater is the end of a handshake in an older version than could be had.
var errLater = verdict.Failf(unix.EPROTO, "the server knows a later version of TLS than it was offered")

// finished is what becomes of a handshake that has ended well. A version that is older than the server's latest is
// taken where the rule's latest was offered, in which case crypto/tls has looked, and nowhere else.
func (c *Conn) finished() *verdict.Failure {
	if c.offer.Reduced && c.tls.PeerKnowsLater() {
		c.offer.Failed()
		c.tls.Forget()
		return errLater
	}
	c.offer.Finished(c.tls.ConnectionState())
	return nil
}

// server is the address of whom the connection is to: a data connection is to its control connection's server.
func (c *Conn) server() netip.AddrPort {
	if c.control != nil {
		return c.control.up.Peer
	}
	return c.up.Peer
}

// once reports whether the connection cannot be made once more: a server expects a data connection once, and a
// program that was let in before TLS has had its greeting.
func (c *Conn) once() trust.Once { return trust.Once(c.control != nil || c.opened) }

// sealInKernel has the kernel seal what goes upstream, where the rules want that. Nobody
// else has the socket: the program's descriptor has become the channel.
func (c *Conn) sealInKernel() {
	if c.inKernel {
		c.tls.SealInKernel()
	}
}

// clientTLS refuses a program that speaks TLS itself, or connects it anew to where it
// wanted to go. Nothing else uses the upstream.
func (c *Conn) clientTLS() *verdict.Failure {
	rule := c.Decision.Rule
	if !rule.PassClientTLS {
		return verdict.Failf(unix.EPROTO, "the program speaks TLS itself, and would have had TLS inside TLS: refused (client_tls = \"pass\" in the rule lets it through)")
	}
	c.up.SetDeadline(time.Now().Add(rule.Timeout))
	err := c.up.Reconnect(c.Addr)
	if err != nil {
		return verdict.Dial(err, netip.AddrPortFrom(c.Addr.Real(), c.Addr.Port), rule.Timeout)
	}
	c.up.SetDeadline(time.Time{})
	c.state.Passed(c.Target, c.pid, "the program speaks TLS itself")
	return nil
}
