package engine

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
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
	leaf    []byte   // that the peer presented first
}

// Client makes a client's connection to name, which may be empty. session, if it is not nil, is
// the program's file of a TLS session, and remains the caller's. How a server's wish to negotiate anew is
// met (RFC 5246, section 7.4.1.1) is the caller's to say: libtls grants it.
func (c *Config) Client(transport net.Conn, name string, session SessionFile, renegotiation tls.RenegotiationSupport) *Conn {
	conn := &Conn{config: c, name: name}
	config := c.common()
	if _, err := netip.ParseAddr(name); err != nil {
		config.ServerName = name // for SNI
	}
	if len(c.pairs) > 0 {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.pairs[0], nil }
	}
	if session != nil {
		conn.session = &sessionFile{file: session, identity: c.identity(name)}
		config.ClientSessionCache = conn.session
	}
	config.Renegotiation = renegotiation
	config.VerifyConnection = conn.verify
	conn.Conn = record.Client(transport, config)
	return conn
}

// Server makes a server's connection.
func (c *Config) Server(transport net.Conn) *Conn {
	conn := &Conn{config: c}
	config := c.server.Clone() // its TLS session tickets go by c.server's keys
	if c.verifies() {
		config.VerifyConnection = conn.verify
	}
	conn.Conn = record.Server(transport, config)
	return conn
}

// IsServer reports whether a configuration is for accepting.
func (c *Config) IsServer() bool { return c.has(flagServer) }

// verify is called by every handshake. A later one may not change who the peer is: the name was
// looked at once, and the program has been told of this certificate.
func (c *Conn) verify(state tls.ConnectionState) error {
	if certs := state.PeerCertificates; len(certs) > 0 {
		if c.leaf != nil && !bytes.Equal(c.leaf, certs[0].Raw) {
			return &problem{"the peer has another certificate since it renegotiated"}
		}
		c.leaf = certs[0].Raw
	}
	err := c.config.verify(state, time.Now())
	if err != nil {
		c.problem, _ = err.(*problem)
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
	if err := c.checkName(state); err != nil {
		return failure(err.Error()).marshal(), false
	}
	if c.session != nil {
		if err := c.session.write(); err != nil {
			return failure(err.Error()).marshal(), false
		}
	}
	return c.facts(state).marshal(), true
}

func (c *Conn) failed(err error) []byte {
	isServer := c.config.IsServer()
	switch {
	case c.config.has(flagRessl) && isServer:
		return failure("ssl accept failure (1)").marshal()
	case c.config.has(flagRessl):
		return failure("SSL connect failed: 1").marshal()
	case c.problem != nil && isServer:
		// libtls has the reason on the listening context alone.
		f := failure("handshake failed: error:0A000086:SSL routines::certificate verify failed")
		f.set(strListenerError, c.problem.text)
		return f.marshal()
	case c.problem != nil:
		return failure(c.problem.text).marshal()
	}
	return failure("handshake failed: " + Sentence(err)).marshal()
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
	f := newFacts()
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
	if len(state.OCSPResponse) > 0 && !c.config.IsServer() {
		now := time.Now()
		if result, _ := checkResponse(state.OCSPResponse, c.config.bestChain(state.PeerCertificates, now), now); result != nil {
			f.setOCSP(result)
		}
	}
	return f
}
