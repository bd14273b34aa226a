package engine

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"tlswrap/proxy/record"
)

// Conn is one connection, over any transport. After Open it is a record.Conn.
type Conn struct {
	*record.Conn
	config  *Config
	name    string // that a client was told, without a dot at its end
	session *sessionFile
	problem *problem // that verification ended in
	stapled *facts   // what the OCSP response says that came along, or nil
	leaf    []byte   // that the peer presented first
}

// Peer is whom a client connects to, and how.
type Peer struct {
	Name    string      // may be empty
	Now     uint32      // settings of the program's, as Config.Server has them
	Session SessionFile // the program's file of a TLS session, which remains the caller's, or nil

	// How a server's wish to negotiate anew is met (RFC 5246, section 7.4.1.1): libtls grants it.
	Renegotiation tls.RenegotiationSupport
}

// Client makes a client's connection.
func (c *Config) Client(transport net.Conn, peer Peer) *Conn {
	c = c.at(flag(peer.Now))
	name := peer.Name
	conn := &Conn{config: c, name: name}
	config := c.common()
	if _, err := netip.ParseAddr(name); err != nil {
		config.ServerName = name // for SNI
	}
	if len(c.pairs) > 0 {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.pairs[0], nil }
	}
	if peer.Session != nil {
		conn.session = &sessionFile{file: peer.Session, identity: c.identity(name)}
		config.ClientSessionCache = conn.session
	}
	config.Renegotiation = peer.Renegotiation
	config.VerifyConnection = conn.verify
	conn.Conn = record.Client(transport, config)
	return conn
}

// Server makes a server's connection. now is enum tw_tls_setting as the program's configuration has it
// when it begins.
func (c *Config) Server(transport net.Conn, now uint32) *Conn {
	c = c.at(flag(now))
	conn := &Conn{config: c}
	config := c.server.Clone() // its TLS session tickets go by c.server's keys
	if c.verifies() {
		config.VerifyConnection = conn.verify
	}
	if len(c.alpn) > 0 {
		config = withoutCommonALPN(config)
	}
	conn.Conn = record.Server(transport, config)
	return conn
}

// withoutCommonALPN has a server's handshake go on where the client offers none of its protocols, for which
// crypto/tls ends it: libtls chooses none then.
func withoutCommonALPN(config *tls.Config) *tls.Config {
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		offered := func(protocol string) bool { return slices.Contains(hello.SupportedProtos, protocol) }
		if slices.ContainsFunc(config.NextProtos, offered) {
			return nil, nil
		}
		silent := config.Clone()
		silent.GetConfigForClient, silent.NextProtos = nil, nil
		return silent, nil
	}
	return record.ServerConfig(config)
}

// IsServer reports whether a configuration is for accepting.
func (c *Config) IsServer() bool { return c.has(flagServer) }

// verify is called by every handshake. A later one may not change who the peer is: the name was
// looked at once, and the program has been told of this certificate.
func (c *Conn) verify(state tls.ConnectionState) error {
	if certs := state.PeerCertificates; len(certs) > 0 {
		if c.leaf != nil && !bytes.Equal(c.leaf, certs[0].Raw) {
			return &problem{text: "the peer has another certificate since it renegotiated"}
		}
		c.leaf = certs[0].Raw
	}
	now := time.Now()
	chain, p := c.config.verify(state.PeerCertificates, now)
	if p == nil && !c.config.IsServer() {
		p = c.checkStaple(state, chain, now)
	}
	if p == nil {
		return nil
	}
	c.problem = p
	c.Refuse(p.alert, state)
	return p
}

// checkStaple verifies the OCSP response that came along, and has the program told what it says: of none
// where the configuration does not verify (tls_ocsp_verify_cb).
func (c *Conn) checkStaple(state tls.ConnectionState, chain []*x509.Certificate, now time.Time) *problem {
	if len(state.OCSPResponse) == 0 {
		if c.config.has(flagRequireStapling) {
			return stapleProblem("no stapled OCSP response provided")
		}
		return nil
	}
	c.stapled = newFacts()
	c.stapled.setOCSPURL(state.PeerCertificates[0])
	if !c.config.has(flagVerifyCert) || c.config.has(flagStapleUnread) {
		return nil
	}
	result, err := checkResponse(state.OCSPResponse, chain, now)
	if result != nil {
		c.stapled.setOCSP(result)
	}
	return err
}

// Open shakes hands and verifies, and returns what the program is to know: a struct
// tw_tls_facts, which begins with its size. ok is false where it tells of a failure.
func (c *Conn) Open() (facts []byte, ok bool) {
	if err := c.Conn.Handshake(); err != nil {
		return c.failed(err), false
	}
	state := c.ConnectionState()
	err := c.checkName(state)
	if err == nil && c.session != nil {
		err = c.session.write()
	}
	if err != nil {
		return c.failure(err.Error()).marshal(), false
	}
	return c.facts(state).marshal(), true
}

// failure is what the program is to know of a connection that has not come about: why, and what was stapled.
func (c *Conn) failure(text string) *facts {
	f := c.known()
	f.fail(text)
	return f
}

// known is what the handshake has told already.
func (c *Conn) known() *facts {
	if c.stapled != nil {
		return c.stapled
	}
	return newFacts()
}

func (c *Conn) failed(err error) []byte {
	isServer := c.config.IsServer()
	switch {
	case c.config.has(flagRessl) && isServer:
		return c.failure("ssl accept failure (1)").marshal()
	case c.config.has(flagRessl):
		return c.failure("SSL connect failed: 1").marshal()
	case c.problem != nil && isServer:
		// libtls has the reason on the listening context alone.
		f := c.failure("handshake failed: error:0A000086:SSL routines::certificate verify failed")
		f.set(strListenerError, c.problem.text)
		return f.marshal()
	case c.problem != nil:
		return c.failure(c.problem.text).marshal()
	}
	return c.failure("handshake failed: " + Sentence(err)).marshal()
}

// checkName comes after the handshake, as in libtls: the server sees it succeed.
func (c *Conn) checkName(state tls.ConnectionState) error {
	if c.config.IsServer() || !c.config.has(flagVerifyName) {
		return nil
	}
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("no server certificate")
	}
	ok, err := matchName(state.PeerCertificates[0], c.name, c.config.has(flagRessl))
	switch {
	case err != nil:
		return err
	case !ok && c.config.has(flagRessl):
		return fmt.Errorf("host `%s' not present in server certificate", c.name)
	case !ok:
		return fmt.Errorf("name `%s' not present in server certificate", c.name)
	}
	return nil
}

func (c *Conn) facts(state tls.ConnectionState) *facts {
	f := c.known()
	s := findSuite(state.CipherSuite)
	f.set(strVersion, versionNames[state.Version])
	f.set(strCipher, s.name)
	f.numbers[numStrength] = int64(s.strength)
	if state.NegotiatedProtocol != "" {
		f.set(strSelected, state.NegotiatedProtocol)
	}
	name := c.name
	if c.config.IsServer() {
		name = state.ServerName
		if _, err := netip.ParseAddr(name); err == nil {
			name = "" // RFC 6066, section 3: no literals
		}
	}
	if name != "" {
		f.set(strServerName, name)
	}
	if state.DidResume {
		f.numbers[numResumed] = 1
	}
	f.setPeer(state.PeerCertificates)
	return f
}
